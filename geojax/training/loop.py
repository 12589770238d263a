"""The training loop: data, state, then steps, evaluation, checkpoints."""

import contextlib
import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from geojax import files, tasks
from geojax.training import (
  agreement,
  checkpoint,
  checksums,
  config_check,
  data_info,
  deadline,
  interrupt,
  logs,
  memory,
  pipeline,
  probing,
  restore,
  sharding,
  weights,
)
from geojax.training import config as config_lib
from geojax.training import dataset as dataset_lib
from geojax.training import evaluate as evaluate_lib
from geojax.training import progress as progress_lib
from geojax.training import run as run_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib
from geojax.training import workdir as workdir_lib
from geojax.training.errors import ConfigError, Interrupted, NonFiniteError

# Names that an error lists; a file has the others.
_SHOWN_PARAMETERS = 5


def train(
  config, workdir: pathlib.Path, *, progress: bool = True
) -> run_lib.Run:
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
    AgreementError: The processes of the run differ; raised on all of them.
    WorkdirBusyError: Another process trains in the workdir.
    CheckpointError: A checkpoint can't be written, or none can be read.
    NonFiniteError: A loss, gradient or parameter is not finite.
    OutOfMemoryError: A step does not fit into a device's memory.
    Interrupted: SIGTERM came; what was trained is saved.
  """
  dataset = agreement.agree(config, lambda: _open_dataset(config))
  with (
    workdir_lib.claim(workdir),
    interrupt.StopRequest() as stop,
    contextlib.ExitStack() as opened,
  ):
    return _train(config, dataset, workdir, progress, stop, opened)


def _open_dataset(config):
  dataset = dataset_lib.open_dataset(
    config.data.dir, config.data.name, config.data.cache_dir
  )
  config_check.check_config(config, dataset.targets)
  dataset.check_splits()
  return dataset


def _train(config, dataset, workdir, progress, stop, opened):
  workdir_lib.refuse_another(workdir, config)
  mesh = sharding.create_mesh(config.model_devices)
  batch_size = config.data.batch_size
  sharding.check_rows(batch_size, mesh, parts=config.optimizer.accumulate)
  sharding.check_rows(config.data.eval_batch_size, mesh)
  task_list = tasks.create_tasks(config, targets=dataset.targets, mesh=mesh)
  best_metric = tasks.best_metric(task_list, config.best_metric)
  try:
    names = tasks.label_names(task_list, dataset.label_names)
  except ValueError as error:
    raise ConfigError(
      f"config.data.name, {config.data.name}: {error}"
    ) from error
  train_source = dataset.source("train", names)
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep
  )
  opened.callback(checkpointer.close)
  try:
    state, so_far, shardings = _initial_state(
      config, task_list, dataset, mesh, checkpointer
    )
  except ValueError as error:
    raise ConfigError(
      f"the config does not fit {config.data.name}: {error}"
    ) from error
  batches = pipeline.train_batches(
    train_source,
    batch_size=batch_size,
    seed=config.seed,
    first=so_far.step,
    rows=sharding.local_rows(batch_size, mesh),
    threads=config.data.read_threads or pipeline.default_threads(),
  )
  wandb_run = logs.start_wandb(workdir, config.wandb_project)
  # Write these only after set-up has succeeded: what cannot be run leaves the
  # workdir free for what can.
  first = jax.process_index() == 0
  if first:
    data_info.save(data_info.describe(config.data.name, dataset), workdir)
    config_lib.save_config(config, workdir / workdir_lib.CONFIG_FILE)
  train_step = sharding.compile_step(
    step_lib.make_train_step(
      config,
      task_list,
      offset=dataset.offset,
      divisor=dataset.divisor,
      axis_name="data" if config.parallel == "pmap" else None,
    ),
    shardings,
    parallel=config.parallel,
  )
  evaluate = evaluate_lib.make_evaluate(config, task_list, dataset, mesh)
  probe = probing.make_probes(config, dataset, mesh)
  log = logs.MetricsLog(
    workdir,
    step=so_far.step,
    evaluated=so_far.evaluated,
    wandb_run=wandb_run,
  )
  opened.callback(log.close)
  opened.enter_context(
    memory.explained(
      train_step,
      config,
      mesh,
      lambda: (
        restore.abstract_state(config, task_list, dataset.image_shape, mesh),
        {
          name: jax.ShapeDtypeStruct(value.shape, value.dtype)
          for name, value in train_source[0].items()
        },
      ),
    )
  )
  trace = opened.enter_context(_Trace(log.trace_folder, config.trace_steps))
  bar = opened.enter_context(
    tqdm.tqdm(
      total=config.num_steps,
      initial=so_far.step,
      unit="step",
      # A file gets a line for each line of the log instead.
      disable=not (progress and first and sys.stderr.isatty()),
    )
  )
  watched = opened.enter_context(deadline.StepDeadline(config.step_deadline_s))
  clock = progress_lib.Clock(config)
  saved = first_step = so_far.step
  terms = ("loss", *(task.name for task in task_list), "patches_per_second")
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
        raise NonFiniteError(_blame(error, state, records, workdir)) from None
      watched.end(f"step {step}")
      if wrong:
        bar.write(f"{wrong}: left out, {so_far.skipped} so far")
    unread.clear()

  while True:
    step = so_far.step
    over = so_far.is_over(config)
    best = False
    if so_far.evaluated < step and (over or step % config.eval_every == 0):
      read()
      name = f"the evaluation at step {step}"
      with clock.pause("eval_s"):
        metrics = evaluate(
          state.evaluated, "validation", watched.each_batch(name, stop.noted)
        )
        watched.end(name)
        if metrics is not None:
          best = so_far.judge(config, best_metric, metrics[best_metric.name])
          state = state.replace(
            rate_scale=jax.device_put(
              np.float32(so_far.rate_scale), state.rate_scale.sharding
            )
          )
          log.write(step, "validation", metrics | probe(state.evaluated))
          log.publish()
      if metrics is not None:
        if first:
          shown = [m.name for m in tasks.all_metrics(task_list) if m.headline]
          bar.write(f"step {step}, validation: {_short(metrics, shown)}")
        over = so_far.is_over(config)
    noted = stop.noted()
    if saved < step and (
      noted or over or best or step % config.checkpoint_every == 0
    ):
      read()
      with clock.pause("save_wait_s"):
        log.publish()
        record = dataclasses.asdict(so_far)
        checkpointer.save(step, state, record, best_step=so_far.best_step)
      saved = step
    if over:
      break
    if noted:
      opened.close()
      raise Interrupted(
        f"stopped at step {step}, which is saved; the same command goes on"
      )
    trace.before(step + 1)
    # The first step is compiled, and read during the second.
    if step > first_step + 1:
      watched.begin(f"step {step + 1}")
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
      bar.set_postfix_str(_short(line, terms))
      if progress and first and bar.disable:
        restore.report(f"step {step}/{config.num_steps}: {_short(line, terms)}")
    bar.update()
  return run_lib.Run(
    config=config,
    tasks=task_list,
    mesh=mesh,
    dataset=dataset,
    state=state,
    best_step=so_far.best_step,
  )


def _initial_state(config, task_list, dataset, mesh, checkpointer):
  """The state that a run starts from or continues with, and its shardings."""
  target = restore.abstract_state(config, task_list, dataset.image_shape, mesh)
  shardings = jax.tree.map(lambda x: x.sharding, target)
  if checkpointer.steps():
    state, record = checkpointer.restore(target, report=restore.report)
    return state, progress_lib.Progress(**record), shardings

  def read_labels(count, task):
    names = tasks.label_names([task], dataset.label_names)
    return dataset.read_labels("train", count, names)

  state = state_lib.create_state(
    config,
    task_list,
    image_shape=dataset.image_shape,
    read_labels=read_labels,
    start=weights.make_start(
      config, task_list, data_info.describe(config.data.name, dataset)
    ),
  )
  state = jax.device_put(state, shardings)
  # Compiles them: the first save is to take no longer than the others.
  checksums.of_arrays(state)
  return state, progress_lib.Progress(), shardings


class _Trace:
  """The profiler, from before step a until after step b."""

  def __init__(self, folder, steps):
    self._folder = folder
    self._first, self._last = steps if folder else (0, 0)
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


def _blame(error, state, records, workdir):
  """Names what is not finite: the first parameters here, all in a file."""
  named = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
    if not jnp.all(jnp.isfinite(leaf))
  ]
  shown = ", ".join(named[:_SHOWN_PARAMETERS]) or "none"
  if len(named) > _SHOWN_PARAMETERS:
    path = workdir / "not_finite.txt"
    if jax.process_index() == 0:
      files.write_text(path, "".join(f"{name}\n" for name in named))
    shown += f" and {len(named) - _SHOWN_PARAMETERS} more, all in {path}"
  return (
    f"{error}; parameters that are not finite: {shown};"
    f" the batch held the records {records} of the train split. Lower"
    " config.optimizer.learning_rate, look at these records for values far"
    " outside of their band's scale, or leave out up to N such steps by"
    " config.skip_nonfinite_steps = N"
  )


def _short(metrics, shown):
  return ", ".join(
    f"{name} {metrics[name]:.4g}" for name in shown if name in metrics
  )
