"""The training loop: data, state, then steps, evaluation, checkpoints."""

import dataclasses
import pathlib
import time

import jax
import numpy as np
import tqdm

from geojax import centers, encodings
from geojax.training import (
  checkpoint,
  data_info,
  logs,
  optimizers,
  pipeline,
  sharding,
)
from geojax.training import config as config_lib
from geojax.training import evaluate as evaluate_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib
from geojax.training.errors import ConfigError, NonFiniteError

CONFIG_FILE = "config.json"

# Enough to lay out centers by; reading every record would take longer than
# the first steps.
_PLACES_PER_CENTER = 40


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained run.

  Attributes:
    config: Its config.
    dataset: The data set it was trained on.
    state: Its newest state.
    evaluate: A function of variables and split, see `evaluate.make_evaluate`.
  """

  config: object
  dataset: pipeline.Dataset
  state: state_lib.TrainState
  evaluate: object


def train(config, workdir: pathlib.Path, *, progress: bool = True) -> Run:
  """Trains a model, or goes on where the workdir's last checkpoint stands.

  Args:
    config: The config.
    workdir: Folder of the run; made if it isn't there.
    progress: Whether to draw a progress bar on standard error.

  Returns:
    The run, trained to `config.num_steps`.

  Raises:
    ConfigError: The config can't be run, or the workdir holds another's run.
    DatasetError: The config's data set is not on disk, or a split of it is
      empty.
    NonFiniteError: A loss or gradient is not finite.
  """
  config_lib.check_config(config)
  dataset = pipeline.open_dataset(config.data.dir, config.data.name)
  dataset.check_splits()
  _refuse_another(workdir, config)
  mesh = sharding.create_mesh()
  for rows in (config.data.batch_size, config.data.eval_batch_size):
    sharding.check_rows(rows, mesh)
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep
  )
  train_source = dataset.source("train")
  batches = pipeline.train_batches(
    train_source, batch_size=config.data.batch_size, seed=config.seed
  )
  resumed = checkpointer.latest_step()
  try:
    state = state_lib.create_state(
      config,
      image_shape=dataset.image_shape,
      mixture=_initial_mixture(config, dataset, resumed=resumed is not None),
    )
  except ValueError as error:
    raise ConfigError(
      f"the config does not fit {config.data.name}: {error}"
    ) from error
  # What cannot be run leaves the workdir free for what can.
  data_info.save(data_info.describe(config.data.name, dataset), workdir)
  config_lib.save_config(config, workdir / CONFIG_FILE)
  state = jax.device_put(state, sharding.replicated(mesh))
  if resumed is not None:
    state = checkpointer.restore(state, batches)
  train_step = jax.jit(
    step_lib.make_train_step(
      config, offset=dataset.offset, divisor=dataset.divisor
    ),
    donate_argnums=0,
  )
  run = Run(
    config=config,
    dataset=dataset,
    state=state,
    evaluate=evaluate_lib.make_evaluate(config, dataset, mesh),
  )
  log = logs.MetricsLog(workdir, step=resumed or 0)
  interval = _Interval(config)
  unread = None
  bar = tqdm.tqdm(
    total=config.num_steps,
    initial=resumed or 0,
    unit="step",
    disable=not progress,
  )
  try:
    for step in range((resumed or 0) + 1, config.num_steps + 1):
      with interval.waiting():
        batch = next(batches)
      state, metrics = train_step(state, sharding.put_batch(batch, mesh))
      # Step n computes while the metrics of step n - 1 are read: the devices
      # never wait for the log.
      if unread is not None:
        interval.add(*unread)
      unread = step, metrics
      if step % config.log_every == 0 or step == config.num_steps:
        interval.add(*unread)
        unread = None
        line = interval.close()
        log.write(step, "train", line)
        bar.set_postfix_str(_short(line))
      if step % config.eval_every == 0 or step == config.num_steps:
        metrics, _ = run.evaluate(state.evaluated, "validation")
        log.write(step, "validation", metrics)
        bar.write(f"step {step}, validation: {_short(metrics)}")
        interval.restart()
      if step % config.checkpoint_every == 0 or step == config.num_steps:
        # After the evaluation: a run killed before it has it once more.
        checkpointer.save(step, state, batches)
      bar.update()
  finally:
    bar.close()
    log.close()
    checkpointer.close()
  return dataclasses.replace(run, state=state)


def load(workdir: pathlib.Path) -> Run:
  """Loads a run from its workdir, as its newest checkpoint has it.

  Args:
    workdir: Folder of the run.

  Returns:
    The run.

  Raises:
    ConfigError: There is no run in the workdir.
    DatasetError: The run's data set is not on disk.
  """
  config = config_lib.load_config(workdir / CONFIG_FILE)
  dataset = pipeline.open_dataset(config.data.dir, config.data.name)
  mesh = sharding.create_mesh()
  state = restore_state(config, workdir, dataset.image_shape, mesh)
  return Run(
    config=config,
    dataset=dataset,
    state=state,
    evaluate=evaluate_lib.make_evaluate(config, dataset, mesh),
  )


def restore_state(
  config, workdir: pathlib.Path, image_shape: tuple[int, int, int], mesh
) -> state_lib.TrainState:
  """Restores the state of a workdir's newest checkpoint, without its data.

  Args:
    config: The run's config.
    workdir: Folder of the run.
    image_shape: `(patch, patch, bands)` of its records.
    mesh: As of `sharding.create_mesh`.

  Returns:
    The state, on the devices of the mesh.

  Raises:
    ConfigError: There is no checkpoint yet.
  """
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep
  )
  if checkpointer.latest_step() is None:
    raise ConfigError(
      f"{workdir} holds no checkpoint yet; train first with experiments/main.py"
    )
  state = state_lib.create_state(
    config,
    image_shape=image_shape,
    # The checkpoint holds the centers; here it takes but their shapes.
    mixture=_initial_mixture(config, None, resumed=True),
  )
  state = jax.device_put(state, sharding.replicated(mesh))
  state = checkpointer.restore_state(state)
  checkpointer.close()
  return state


class _Interval:
  """Adds up what happens between two log lines."""

  def __init__(self, config):
    self._batch_size = config.data.batch_size
    self._schedule = optimizers.make_schedule(
      config, config.optimizer.learning_rate
    )
    self.restart()

  def restart(self):
    """Forgets the time spent on what was no step."""
    self._start = time.perf_counter()
    self._waited = 0.0
    self._metrics = []

  def waiting(self):
    """A context in which the loop waits for data."""
    return _Stopwatch(self)

  def add(self, step, metrics):
    """Reads the metrics of a step; raises unless all are finite."""
    self._step = step
    metrics = {name: float(value) for name, value in metrics.items()}
    for name, value in metrics.items():
      if not np.isfinite(value):
        raise NonFiniteError(
          f"step {step}: {name} is {value}"
          f" ({', '.join(f'{k} {v:.4g}' for k, v in metrics.items())}); lower"
          " config.optimizer.learning_rate, or look at the records for values"
          " far outside of their band's scale"
        )
    self._metrics.append(metrics)

  def close(self):
    """Returns the means since the last call, and starts anew."""
    elapsed = time.perf_counter() - self._start
    names = self._metrics[0]
    line = {
      name: float(np.mean([metrics[name] for metrics in self._metrics]))
      for name in names
    }
    line["learning_rate"] = float(self._schedule(self._step - 1))
    line["patches_per_second"] = len(self._metrics) * self._batch_size / elapsed
    line["data_wait_fraction"] = self._waited / elapsed
    self.restart()
    return line


class _Stopwatch:
  """Adds the time spent inside to an interval."""

  def __init__(self, interval):
    self._interval = interval

  def __enter__(self):
    self._start = time.perf_counter()

  def __exit__(self, *_):
    self._interval._waited += time.perf_counter() - self._start


def _refuse_another(workdir, config):
  """Raises if a workdir holds the run of another config."""
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / CONFIG_FILE
  if not path.exists():
    return
  differing = config_lib.differing_keys(config_lib.load_config(path), config)
  if differing:
    keys = "; ".join(
      f"{key} is {theirs!r} there and {ours!r} now"
      for key, (theirs, ours) in differing.items()
    )
    raise ConfigError(
      f"{workdir} holds a run of another config: {keys}. Take another"
      " --workdir, or remove this one"
    )


def _initial_mixture(config, dataset, *, resumed):
  """Returns mu and log_kappa before the first step, `{}` for a regression."""
  if config.loss.coords == "mse":
    return {}
  num_centers = config.mixture.num_centers
  log_kappa = np.full(num_centers, config.mixture.log_kappa, np.float32)
  if resumed:
    # The checkpoint holds them; here it takes but their shapes.
    return {
      "mu": np.zeros((num_centers, 3), np.float32),
      "log_kappa": log_kappa,
    }
  spacing_mass = config.mixture.spacing_mass
  try:
    mu, by_spacing = centers.initialize(
      config.mixture.centers,
      train_places(dataset, at_most=_PLACES_PER_CENTER * num_centers),
      num_centers,
      seed=config.seed,
      min_distance_km=config.mixture.min_distance_km,
      mass=spacing_mass or 0.5,
    )
  except ValueError as error:
    keys = ["config.mixture.num_centers"]
    if config.mixture.centers == "train_subset":
      keys.append("config.mixture.min_distance_km")
    raise ConfigError(
      f"{' or '.join(keys)} does not fit {config.data.name}: {error}"
    ) from error
  return {"mu": mu, "log_kappa": by_spacing if spacing_mass else log_kappa}


def train_places(dataset, at_most: int) -> np.ndarray:
  """Unit vectors of the train split's land patches, shape `[count, 3]`.

  Args:
    dataset: A `pipeline.Dataset`.
    at_most: How many records to read, evenly out of all.

  Returns:
    The places among them.
  """
  labels = dataset.labels("train", at_most)
  land = ~encodings.is_sea_patch(labels[:, encodings.CLIMATE])
  return encodings.coordinates_to_unit(labels[land][:, encodings.COORDS])


def _short(metrics):
  shown = (
    "loss coords climate date patches_per_second median_km acc@750km nll_nats"
    " climate_accuracy climate_class_accuracy date_mae_days"
  )
  return ", ".join(
    f"{name} {metrics[name]:.4g}" for name in shown.split() if name in metrics
  )
