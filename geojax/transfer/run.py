"""Runs a transfer: every task, encoder, protocol, number of shots and seed."""

import json
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np

from geojax import files, tasks
from geojax.training import config as config_lib
from geojax.training import data_info, weights
from geojax.training import dataset as dataset_lib
from geojax.training import workdir as workdir_lib
from geojax.training.errors import ConfigError
from geojax.transfer import config as transfer_config
from geojax.transfer import (
  draws,
  features,
  overlap,
  pixels,
  problems,
  protocols,
)
from geojax.transfer import results as results_lib
from geojax.transfer import training as training_lib

CONSTANT = "constant"
_PROBES = {"ridge": protocols.ridge, "logistic": protocols.logistic}
CONFIG_FILE = "config.json"


class Outcome(NamedTuple):
  """What `run` returns.

  Attributes:
    tasks: The tasks.
    results: Their results.
    overlap: What is known of the overlap of the encoder's train split with the
      test split, a sentence.
  """

  tasks: tuple[tasks.Task, ...]
  results: results_lib.Results
  overlap: str


def run(config, workdir: pathlib.Path, report=print) -> Outcome:
  """Runs a transfer, or goes on with one that was stopped.

  Args:
    config: See `transfer.config`.
    workdir: Folder of the results, the draws and the cached features.
    report: Called with a line for each result.

  Returns:
    The tasks, the results, and what is known of overlapping splits.

  Raises:
    WorkdirBusyError: Another process runs in the workdir.
    ConfigError: The config cannot be run, the encoder does not fit the data, or
      the workdir holds another's results.
    DatasetError: The data set is not on disk, or lacks a label.
  """
  with workdir_lib.claim(workdir):
    bench = _Bench(config, workdir, report)
    for task in bench.tasks:
      bench.run_task(task)
    bench.write_draws()
    return Outcome(bench.tasks, bench.results, bench.overlap)


class _Bench:
  """What all tasks of a transfer share."""

  def __init__(self, config, workdir, report):
    transfer_config.check_config(config)
    self.config, self.workdir, self._report = config, workdir, report
    self.dataset = dataset_lib.open_dataset(
      config.data.dir, config.data.name, config.data.cache_dir
    )
    self.dataset.check_splits()
    problems.check_shots_by(config.shots_by, self.dataset.targets)
    self.data = data_info.describe(config.data.name, self.dataset)
    self.encoder = self._load_encoder()
    self.tasks = self._create_tasks()
    self.encoders = [self._make(name) for name in config.encoders]
    workdir.mkdir(parents=True, exist_ok=True)
    self._claim()
    self.results = results_lib.Results(workdir)
    # Read as memory maps, so not out of a bucket. Names hold a hash of weights
    # and data, so that runs may share a folder.
    kept = workdir if files.is_local(workdir) else files.user_cache()
    self.cache = features.Cache(
      kept / "features", self.dataset, config.data.batch_size
    )
    by = config.shots_by
    self.splits = problems.read_splits(
      self.dataset,
      self.tasks,
      config.max_train,
      extra=() if by in ("class", "region") else (by,),
    )
    self._drawn = []
    found = overlap.measure(self.loaded, self.dataset, self.splits)
    files.write_text(
      workdir / "overlap.json", json.dumps(found, indent=2) + "\n"
    )
    self.overlap = overlap.describe(found)
    report(self.overlap)

  def _load_encoder(self):
    config = self.config
    run = config_lib.default_config()
    run.model.update(config.model)
    self.loaded = weights.load(config.encoder, run.model, len(self.data.bands))
    if self.loaded.config is not None:
      if config.model != transfer_config.default_config().model:
        raise ConfigError(
          "config.model is not used where the encoder's own is known, as of"
          f" {config.encoder}; leave it at its defaults"
        )
      run.model.update(self.loaded.config.model)
      run.extensions = tuple(self.loaded.config.extensions)
    run.init.encoder = config.encoder
    run.init.bands = config.bands
    run.init.any_patch_size = config.any_patch_size
    tasks.load_extensions((*run.extensions, *config.extensions))
    start = weights.start_from(self.loaded, run, (), self.data, keys="config.")
    self._random = features.random_encoder(run, self.dataset, config.pooling)
    variables = start(self._random.variables)
    return features.Encoder(
      config.encoder,
      run,
      jax.device_get(variables),
      self.dataset,
      config.pooling,
    )

  def _create_tasks(self):
    run = config_lib.default_config()
    run.tasks = self.config.tasks
    run.extensions = self.config.extensions
    try:
      found = tasks.create_tasks(run, targets=self.dataset.targets)
    except ValueError as error:
      raise ConfigError(f"config.tasks: {error}") from error
    for task in found:
      if task.linear is None:
        raise ConfigError(
          f"config.tasks: {task.name!r} has no linear form to probe; see"
          " tasks.Task.linear"
        )
    return found

  def _make(self, name):
    return {
      "pretrained": lambda: self.encoder,
      "random": lambda: self._random,
      "band_statistics": lambda: features.BandStatistics(self.dataset),
      "random_convolutions": lambda: features.RandomConvolutions(self.dataset),
    }[name]()

  def _claim(self):
    """Refuses a workdir of other data, encoder or training options."""
    path = self.workdir / CONFIG_FILE
    ours = {
      "encoder": [self.config.encoder, self.encoder.key()],
      "data": [
        data_info.to_dict(self.data),
        *(self.dataset.origin(split) for split in problems.SPLITS),
      ],
      **{
        key: self.config[key]
        for key in ("shots_by", "region_deg", "max_train", "num_resamples")
      },
      "train": self.config.train.to_dict(),
      "pooling": self.config.pooling,
    }
    ours = json.loads(json.dumps(ours))
    if path.exists():
      theirs = json.loads(path.read_text())
      if differing := [k for k in ours if ours[k] != theirs.get(k)]:
        raise ConfigError(
          f"{self.workdir} holds results of another {', '.join(differing)};"
          " use another --workdir, or remove this one"
        )
    files.write_text(path, json.dumps(ours, indent=2) + "\n")

  def run_task(self, task):
    """Runs all protocols of a task."""
    config = self.config
    index = [t.name for t in self.tasks].index(task.name)
    is_dense = config.tasks[index].endswith(":pixels")
    problem = problems.Problem(
      task,
      self.splits,
      num_resamples=config.num_resamples,
      groups=problems.groups(
        self.dataset,
        self.splits["train"],
        task,
        config.shots_by,
        config.region_deg,
      ),
    )
    if is_dense:
      self._run_pixels(problem, config.tasks[index])
    else:
      self._run_patches(problem, config.tasks[index])

  def _run_patches(self, problem, name):
    config = self.config
    self._constants(problem)
    for encoder in self.encoders:
      arrays = protocols.Features(self.cache, encoder, problem)
      for protocol in config.protocols:
        if protocol in ("finetune", "scratch"):
          continue
        if protocol == "logistic" and problem.task.linear.kind == "number":
          continue
        shots = (
          config.logistic_shots if protocol == "logistic" else config.shots
        )
        if protocol == "knn":
          for k in config.num_neighbours:
            self._probe(
              problem, arrays, f"knn{k}", shots, protocols.make_knn(k)
            )
        else:
          self._probe(problem, arrays, protocol, shots, _PROBES[protocol])
    for protocol in config.protocols:
      if protocol in ("finetune", "scratch"):
        self._train(problem, name, protocol, config.trained_shots)

  def _run_pixels(self, problem, name):
    config = self.config
    for protocol in config.pixel_protocols:
      if protocol != "linear":
        self._train(problem, name, protocol, config.pixel_shots)
        continue
      for encoder in self.encoders:
        # Only encoders have maps.
        if isinstance(encoder, features.Encoder):
          self._linear_pixels(problem, encoder)

  def _each(self, problem, encoder, protocol, shots, answer):
    """Adds the results of a protocol that are not there yet.

    `answer` maps train rows, shots and a seed to the metrics of test.
    """
    for number in shots:
      # All labels are the same draw for each seed.
      seeds = range(self.config.num_seeds if number else 1)
      for seed in seeds:
        key = (problem.task.name, encoder, protocol, number, seed, "test")
        rows = problem.draw(number, seed)
        if number:
          self._drawn.append((problem.task.name, number, seed, rows))
        if key in self.results:
          continue
        began = time.perf_counter()
        found = answer(rows, number, seed)
        self.results.add(
          key,
          found,
          draws.ids_hash(problem.ids(rows)),
          time.perf_counter() - began,
        )
        first = next(iter(found))
        self._report(
          f"{problem.task.name}, {encoder}, {protocol},"
          f" {number or 'all'} shots, seed {seed}: {first}"
          f" {found[first][0]:.3f}"
        )

  def _constants(self, problem):
    """The best answer that ignores the patch."""

    def answer(rows, *_):
      mean = problem.encoded("train")[rows].mean(axis=0)
      count = len(problem.splits["test"].ids)
      numbers = np.broadcast_to(mean, (count, len(mean)))
      return problem.score(numbers)

    self._each(problem, CONSTANT, CONSTANT, self.config.shots, answer)

  def _probe(self, problem, arrays, protocol, shots, fit):
    def answer(rows, number, seed):
      del seed
      return problem.score(fit(arrays, rows, shots=number))

    self._each(problem, arrays.encoder.name, protocol, shots, answer)

  def _train(self, problem, name, protocol, shots):
    run = training_lib.training_config(
      self.config, self.encoder.config, name, protocol
    )
    (task,) = tasks.create_tasks(run, targets=self.dataset.targets)
    scratch = protocol in training_lib.SCRATCH
    encoder = "random" if scratch else self.encoder.name
    trainer = None
    split = self.splits["train"]
    names = tasks.label_names([task], self.dataset.label_names)

    def start(variables):
      found = self.encoder.variables
      return {
        collection: {**arrays, "encoder": found[collection]["encoder"]}
        if "encoder" in arrays
        else arrays
        for collection, arrays in variables.items()
      }

    def answer(rows, _, seed):
      nonlocal trainer
      if trainer is None:
        trainer = training_lib.Trainer(
          run, task, self.dataset, None if scratch else start
        )
      variables = trainer.train(
        np.asarray(split.positions)[rows],
        {label: split.labels[label][rows] for label in names},
        seed,
        problem.encoded("train")[rows] if protocol == "finetune" else None,
      )
      return problem.score_table(trainer.predict(variables, "test"))

    self._each(problem, encoder, protocol, shots, answer)

  def _linear_pixels(self, problem, encoder):
    linear = None

    def answer(rows, *_):
      nonlocal linear
      if linear is None:
        linear = pixels.make_linear(
          problem, self.cache, encoder, self.dataset.image_shape[:2]
        )
      return problem.score_table(linear(rows))

    self._each(problem, encoder.name, "linear", self.config.pixel_shots, answer)

  def write_draws(self):
    """Writes the ids that were drawn, a row each, to `draws.parquet`."""
    results_lib.write_draws(
      self.workdir / "draws.parquet", self.splits["train"].ids, self._drawn
    )
