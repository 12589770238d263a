"""Evaluation: a split predicted batch by batch into one table."""

import functools

import jax
import numpy as np

from geojax import blocks, encodings, tasks
from geojax.evaluation import metrics
from geojax.training import compilation, data_info, pipeline, sharding
from geojax.training import step as step_lib


def make_table(config, task_list, dataset, mesh, *, columns=None, extra=()):
  """Makes the function from a split to a table of it.

  Args:
    config: The config of a run.
    task_list: Its tasks.
    dataset: A `dataset.Dataset`.
    mesh: See `sharding.create_mesh`.
    columns: Names of the columns, see `step.make_columns`.
    extra: Names of more of them.

  Returns:
    A function of variables (`TrainState.evaluated`), the name of a split, and

    - `fitted`: what the tasks' `fit` returned, by task, or None,
    - `records`: positions of the records to predict, or None for all,
    - `should_end`: a function asked after each batch whether to give up.

    It returns a dict of NumPy arrays with a row per record in order, the same
    in every process; None if it gave up.
  """
  make_columns = step_lib.make_columns(
    config,
    task_list,
    offset=dataset.offset,
    divisor=dataset.divisor,
    columns=columns,
    extra=extra,
  )

  def with_mask(variables, batch, fitted):
    return make_columns(variables, batch, fitted), batch["mask"]

  # Whole on each device: every process sums up what all of them predicted.
  predict = jax.jit(
    with_mask,
    out_shardings=sharding.replicated(mesh),
    compiler_options=compilation.options(),
  )
  batch_size = config.data.eval_batch_size
  # Opened once: each reader of a split has threads of its own.
  names = tasks.label_names(task_list, dataset.label_names)
  source = functools.cache(lambda split: dataset.source(split, names))

  def to_host(outputs):
    found, mask = jax.tree.map(np.asarray, outputs)
    return {name: value[mask] for name, value in found.items()}

  def table(
    variables, split, *, fitted=None, records=None, should_end=lambda: False
  ):
    batches = pipeline.eval_batches(
      source(split),
      batch_size=batch_size,
      rows=sharding.local_rows(batch_size, mesh),
      records=records,
    )
    parts, running = [], None
    for batch in batches:
      # While the devices predict one batch, the next one is read.
      begun = predict(variables, sharding.put_batch(batch, mesh), fitted)
      if running is not None:
        parts.append(to_host(running))
      running = begun
      if should_end():
        return None
    parts.append(to_host(running))
    return {
      name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }

  return table


def make_evaluate(config, task_list, dataset, mesh):
  """Makes the function that evaluates a split during training.

  Args:
    config: The config of a run.
    task_list: Its tasks.
    dataset: A `dataset.Dataset`.
    mesh: See `sharding.create_mesh`.

  Returns:
    A function of variables (`TrainState.evaluated`), the name of a split and
    `should_end`, see `make_table`. It returns the metrics, a dict of floats by
    name, but for those that only a report computes; None if it gave up.
  """
  listed = [m for m in tasks.all_metrics(task_list) if not m.final]
  columns = {name for m in listed for name in (*m.columns, *m.where)}
  table = make_table(config, task_list, dataset, mesh, columns=columns)

  def evaluate(variables, split, should_end=lambda: False):
    found = table(variables, split, should_end=should_end)
    return None if found is None else metrics.summarize(found, listed)

  return evaluate


def fit_tasks(config, task_list, dataset, mesh, variables):
  """Fits what tasks fit on the validation split, such as calibrated levels.

  Args:
    config: The config of a run.
    task_list: Its tasks.
    dataset: A `dataset.Dataset`.
    mesh: See `sharding.create_mesh`.
    variables: `TrainState.evaluated`.

  Returns:
    What each task's `fit` returned, by name of the task; tasks without are
    missing.
  """
  fitting = [task for task in task_list if task.fit is not None]
  if not fitting:
    return {}
  columns = {name for task in fitting for name in task.fit_columns}
  table = make_table(
    config, task_list, dataset, mesh, columns=columns | {"coords"}
  )
  found = table(variables, "validation")
  block_deg = data_info.describe(config.data.name, dataset).block_deg
  lat_deg = lon_deg = np.full(len(next(iter(found.values()))), np.nan)
  if "coords" in found:
    lat_deg, lon_deg = encodings.decode_coordinates(found["coords"])
  found["block"] = blocks.numbers(lat_deg, lon_deg, block_deg)
  return {task.name: task.fit(found) for task in fitting}
