"""Probes of the encoder during training: what it is worth to other tasks."""

import jax
import numpy as np

from geojax import models, tasks
from geojax.evaluation import metrics, probes
from geojax.training import compilation, pipeline, sharding
from geojax.training import config as config_lib
from geojax.training import step as step_lib

# Train and validation patches at most, spread evenly: few enough to take a few
# percent of the time between two evaluations.
_NUM_PATCHES = 2048


def create_tasks(config, targets) -> tuple[tasks.Task, ...]:
  """Creates the tasks of `config.probes`.

  Args:
    config: The config of a run.
    targets: The data set's `tasks.Target`s by name.

  Raises:
    ValueError: A name is unknown, or no linear model answers its task.
  """
  run = config_lib.default_config()
  run.tasks, run.extensions = tuple(config.probes), tuple(config.extensions)
  task_list = tasks.create_tasks(run, targets=targets)
  for task in task_list:
    if task.linear is None or models.reads_maps(task.head):
      raise ValueError(
        f"{task.name!r} is not a task of one answer a patch that a linear model"
        " gives"
      )
  return task_list


def make_probes(config, dataset, mesh):
  """Makes the function that probes the encoder.

  Args:
    config: The config of a run.
    dataset: A `dataset.Dataset`.
    mesh: See `sharding.create_mesh`.

  Returns:
    A function of variables (`TrainState.evaluated`) that returns the metrics of
    ridge regression of the encoder's features, fitted to a sample of the train
    split, on validation: floats by name, `probe_<metric>`.
  """
  task_list = create_tasks(config, dataset.targets)
  if not task_list:
    return lambda variables: {}
  names = tasks.label_names(task_list, dataset.label_names)
  labels = {
    split: dataset.read_labels(split, _NUM_PATCHES, names)
    for split in ("train", "validation")
  }
  sources = {split: dataset.source(split, ()) for split in labels}
  compute = jax.jit(
    step_lib.make_features(
      config, offset=dataset.offset, divisor=dataset.divisor
    ),
    compiler_options=compilation.options(),
  )

  def features(variables, split):
    batches = pipeline.eval_batches(
      sources[split],
      batch_size=config.data.eval_batch_size,
      records=dataset.positions(split, _NUM_PATCHES),
    )
    return np.concatenate(
      [
        np.asarray(compute(variables, batch["image"]))[batch["mask"]]
        for batch in batches
      ]
    )

  def probe(variables):
    evaluated = sharding.on_host(variables, mesh)
    model = {
      "params": evaluated["params"]["model"],
      "batch_stats": evaluated["batch_stats"],
    }
    train, validation = (features(model, split) for split in labels)
    found = {}
    for task in task_list:
      known = np.asarray(task.counts(labels["train"]))
      targets = np.asarray(task.target(labels["train"]))[known]
      solution = probes.ridge(train[known], task.linear.encode(targets))
      outputs = task.linear.outputs(np.float32(solution(validation)))
      table = tasks.tabulate(task, labels["validation"], outputs)
      values = metrics.summarize(table, task.metrics)
      found |= {f"probe_{name}": value for name, value in values.items()}
    return found

  return probe
