"""The training loop: data, state, then steps, evaluation, checkpoints."""

import contextlib
import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from geojax.training import (
  checkpoint,
  data_info,
  initial_mixture,
  interrupt,
  logs,
  pipeline,
  sharding,
)
from geojax.training import config as config_lib
from geojax.training import evaluate as evaluate_lib
from geojax.training import progress as progress_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib
from geojax.training import workdir as workdir_lib
from geojax.training.errors import ConfigError, Interrupted, NonFiniteError


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
    The run, trained to `config.num_steps` or to the end of its patience.

  Raises:
    ConfigError: The config can't be run, or the workdir holds another's run.
    DatasetError: The config's data set is not on disk, or a split of it is
      empty.
    WorkdirBusyError: Another process trains in the workdir.
    CheckpointError: A checkpoint can't be written, or none can be read.
    NonFiniteError: A loss, gradient or parameter is not finite.
    Interrupted: SIGTERM came; what was trained is saved.
  """
  config_lib.check_config(config)
  dataset = pipeline.open_dataset(config.data.dir, config.data.name)
  dataset.check_splits()
  with (
    workdir_lib.claim(workdir),
    interrupt.StopRequest() as stop,
    contextlib.ExitStack() as opened,
  ):
    return _train(config, dataset, workdir, progress, stop, opened)


def _train(config, dataset, workdir, progress, stop, opened):
  workdir_lib.refuse_another(workdir, config)
  mesh = sharding.create_mesh(config.model_devices)
  batch_size = config.data.batch_size
  sharding.check_rows(batch_size, mesh, parts=config.optimizer.accumulate)
  sharding.check_rows(config.data.eval_batch_size, mesh)
  train_source = dataset.source("train")
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep
  )
  opened.callback(checkpointer.close)
  resumed = bool(checkpointer.steps())
  try:
    state = state_lib.create_state(
      config,
      image_shape=dataset.image_shape,
      mixture=(
        initial_mixture.placeholder(config)
        if resumed
        else initial_mixture.lay_out(config, dataset)
      ),
    )
  except ValueError as error:
    raise ConfigError(
      f"the config does not fit {config.data.name}: {error}"
    ) from error
  shardings = sharding.state_shardings(
    state, mesh, fsdp=config.sharding == "fsdp"
  )
  state = jax.device_put(state, shardings)
  so_far = progress_lib.Progress()
  if resumed:
    state, record = checkpointer.restore(state, report=_tell)
    so_far = progress_lib.Progress(**record)
  batches = pipeline.train_batches(
    train_source,
    batch_size=batch_size,
    seed=config.seed,
    first=so_far.step,
    rows=sharding.local_rows(batch_size, mesh),
  )
  # What cannot be run leaves the workdir free for what can.
  first = jax.process_index() == 0
  if first:
    data_info.save(data_info.describe(config.data.name, dataset), workdir)
    config_lib.save_config(config, workdir / workdir_lib.CONFIG_FILE)
  scale = {"offset": dataset.offset, "divisor": dataset.divisor}
  where = {"mesh": mesh} if config.parallel == "jit" else {"axis_name": "data"}
  train_step = sharding.compile_step(
    step_lib.make_train_step(config, **scale, **where),
    shardings,
    parallel=config.parallel,
  )
  evaluate = evaluate_lib.make_evaluate(config, dataset, mesh)
  log = logs.MetricsLog(workdir, step=so_far.step, evaluated=so_far.evaluated)
  opened.callback(log.close)
  trace = opened.enter_context(_Trace(workdir, config.trace_steps))
  bar = opened.enter_context(
    tqdm.tqdm(
      total=config.num_steps,
      initial=so_far.step,
      unit="step",
      disable=not (progress and first),
    )
  )
  clock = progress_lib.Clock(config)
  saved = so_far.step
  unread = []

  def read():
    for step, metrics in unread:
      try:
        wrong = so_far.add(
          step, metrics, at_most_skipped=config.skip_nonfinite_steps
        )
      except NonFiniteError as error:
        records = pipeline.batch_records(
          len(train_source),
          batch_size=batch_size,
          seed=config.seed,
          number=step - 1,
        )
        raise NonFiniteError(_blame(error, state, records)) from None
      if wrong:
        bar.write(f"{wrong}: left out, {so_far.skipped} so far")
    unread.clear()

  while True:
    step = so_far.step
    over = so_far.is_over(config)
    best = False
    if so_far.evaluated < step and (over or step % config.eval_every == 0):
      found = evaluate(state.evaluated, "validation", stop.noted)
      if found is not None:
        metrics, _ = found
        best = so_far.judge(config, metrics)
        state = state.replace(
          rate_scale=jax.device_put(
            np.float32(so_far.rate_scale), state.rate_scale.sharding
          )
        )
        log.write(step, "validation", metrics)
        if first:
          bar.write(f"step {step}, validation: {_short(metrics)}")
        over = so_far.is_over(config)
      clock.restart()
    noted = stop.noted()
    if saved < step and (
      noted or over or best or step % config.checkpoint_every == 0
    ):
      read()
      checkpointer.save(
        step,
        state,
        dataclasses.asdict(so_far),
        best_step=so_far.best_step,
      )
      saved = step
    if over:
      break
    if noted:
      opened.close()
      raise Interrupted(
        f"stopped at step {step}, which is saved; the same command goes on"
      )
    trace.before(step + 1)
    batch = clock.next(batches)
    state, metrics = train_step(state, sharding.put_batch(batch, mesh))
    so_far.step = step = step + 1
    # Step n computes while the metrics of step n - 1 are read: the devices
    # never wait for the log.
    read()
    unread.append((step, metrics))
    if step % config.log_every == 0 or step == config.num_steps:
      read()
      line = so_far.take_means()
      line["learning_rate"] = progress_lib.learning_rate(config, so_far)
      line["skipped_steps"] = so_far.skipped
      line |= clock.read()
      log.write(step, "train", line)
      bar.set_postfix_str(_short(line))
    bar.update()
  return Run(config=config, dataset=dataset, state=state, evaluate=evaluate)


def load(workdir: pathlib.Path, *, best: bool = False) -> Run:
  """Loads a run from its workdir.

  Args:
    workdir: Folder of the run.
    best: Whether to load the checkpoint that was best on validation, by
      `config.best_metric`, instead of the newest.

  Returns:
    The run.

  Raises:
    ConfigError: There is no run in the workdir.
    DatasetError: The run's data set is not on disk.
    CheckpointError: The checkpoint cannot be read.
  """
  config = config_lib.load_config(workdir / workdir_lib.CONFIG_FILE)
  dataset = pipeline.open_dataset(config.data.dir, config.data.name)
  mesh = sharding.create_mesh(config.model_devices)
  state = restore_state(config, workdir, dataset.image_shape, mesh, best=best)
  return Run(
    config=config,
    dataset=dataset,
    state=state,
    evaluate=evaluate_lib.make_evaluate(config, dataset, mesh),
  )


def restore_state(
  config,
  workdir: pathlib.Path,
  image_shape: tuple[int, int, int],
  mesh,
  *,
  best: bool = False,
) -> state_lib.TrainState:
  """Restores the state of a workdir's checkpoint, without its data.

  Args:
    config: The run's config.
    workdir: Folder of the run.
    image_shape: `(patch, patch, bands)` of its records.
    mesh: As of `sharding.create_mesh`.
    best: As of `load`.

  Returns:
    The state, on the devices of the mesh.

  Raises:
    ConfigError: There is no checkpoint yet.
    CheckpointError: The checkpoint cannot be read.
  """
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep, read_only=True
  )
  if not checkpointer.steps():
    raise ConfigError(
      f"{workdir} holds no checkpoint yet; train first with experiments/main.py"
    )
  # Shapes alone: to initialise what the checkpoint holds would be compiled,
  # which takes seconds, and memory that is not given back.
  shapes = jax.eval_shape(
    lambda: state_lib.create_state(
      config,
      image_shape=image_shape,
      mixture=initial_mixture.placeholder(config),
    )
  )
  state = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes,
    sharding.state_shardings(shapes, mesh, fsdp=config.sharding == "fsdp"),
  )
  state, record = checkpointer.restore(state, report=_tell)
  if best and record["best_step"] not in (0, record["step"]):
    state, _ = checkpointer.restore(
      state, step=record["best_step"], report=_tell
    )
  checkpointer.close()
  return state


class _Trace:
  """The profiler, from before step a until after step b."""

  def __init__(self, workdir, steps):
    self._folder = workdir / "tensorboard"
    self._first, self._last = steps
    self._running = False

  def before(self, step):
    """To be called before each step."""
    if not self._running and self._first <= step <= self._last:
      jax.profiler.start_trace(self._folder)
      self._running = True
    elif self._running and step > self._last:
      jax.profiler.stop_trace()
      self._running = False

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._running:
      jax.profiler.stop_trace()


def _blame(error, state, records):
  """Says what is not finite, which parameters, and whose batch it was."""
  named = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
    if not jnp.all(jnp.isfinite(leaf))
  ]
  return (
    f"{error}; parameters that are not finite: {', '.join(named) or 'none'};"
    f" the batch held the records {records} of the train split. Lower"
    " config.optimizer.learning_rate, look at these records for values far"
    " outside of their band's scale, or leave out up to N such steps by"
    " config.skip_nonfinite_steps = N"
  )


def _tell(line):
  print(line, file=sys.stderr, flush=True)


def _short(metrics):
  shown = (
    "loss coords climate date patches_per_second median_km acc@750km nll_nats"
    " climate_accuracy climate_class_accuracy date_mae_days"
  )
  return ", ".join(
    f"{name} {metrics[name]:.4g}" for name in shown.split() if name in metrics
  )
