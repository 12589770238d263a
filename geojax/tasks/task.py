"""A task: what a model is asked, and all that follows from it.

Training, evaluation, reports and predictions loop over a list of tasks.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geojax import encodings, losses, mixture
from geojax.evaluation.metrics import Metric

Columns = dict[str, Any]


def mean_outputs(outputs):
  """Mean of several models' outputs, each number by itself.

  Args:
    outputs: A list of trees of arrays, of one structure.

  Returns:
    A tree of that structure.
  """
  return jax.tree.map(lambda *x: sum(x) / len(x), *outputs)


def mean_logits(outputs):
  """Logits of the mean of several models' probabilities of one class of many.

  Args:
    outputs: A list of logits `[..., classes]`.

  Returns:
    Logs of the mean probabilities, `[..., classes]`.
  """
  return mixture.mean_logits(jnp.stack(outputs))[0]


def mean_log_odds(outputs):
  """Logits of the mean of several models' probabilities of yes or no.

  Args:
    outputs: A list of logits, any shape.

  Returns:
    Logits of that shape.
  """
  # Of the two classes with the logits (x, 0).
  both = [jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in outputs]
  log_probs = mean_logits(both)
  return log_probs[..., 0] - log_probs[..., 1]


@dataclasses.dataclass(frozen=True)
class LinearForm:
  """How a linear model of fixed features answers a task; all on NumPy.

  Attributes:
    kind: "class", one of several; "classes", any of several; or "number".
    encode: From targets `[...]` to the numbers that are regressed, `[...,
      outputs]`.
    outputs: From such numbers to outputs of the task's head.
  """

  kind: str
  encode: Callable[[Any], Any]
  outputs: Callable[[Any], Any] = lambda numbers: numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What a model is asked.

  Functions take and return arrays with a leading batch axis; all but
  `initialize` and `fit` run under `jit`. Columns are named arrays, a row per
  example: a table of a split has those of all tasks, so their names must
  differ.

  Attributes:
    name: Names the head, the loss and its weight, such as "coords".
    head: A Flax module from features `[batch, features]` to outputs, any tree;
      of several models a tuple of these.
    labels: Names of the labels of a record that the task reads.
    target: From a batch to the target, `[batch, ...]`. A batch is a dict of the
      labels and of `image`, the raw values of the records.
    counts: From a batch to booleans `[batch]`: whether an example counts, for
      the loss and as the column `<name>_counts`.
    loss: From outputs and target to a loss per example, `[batch]`.
    decode: From outputs to the answers: columns for people, no label needed.
    compare: From answers and target to columns that say how far apart they
      are. Also applied to the answers of baselines, on NumPy.
    score: From outputs, target and what `fit` returned, or None, to columns
      that need all of the outputs, such as a density.
    combine: From a list of several models' outputs to outputs of their mean
      answer: see `mean_outputs`, `mean_logits`.
    metrics: What is computed from the columns.
    weight: Weight of the loss, unless `config.loss.weights` has one.
    best_metric: Name of the metric by which the best checkpoint is chosen, if
      this is the first task of the run; None leaves it to the next one.
    on_request: Columns that are large, or take long, and are returned only
      where they are asked for.
    fit_columns: Columns that `fit` reads.
    fit: From a table of the validation split to a dict of arrays that
      `score` takes, or None. Besides `fit_columns` the table has `block`, the
      number of the block that a record lies in. `level_knots` among them, see
      `evaluation.conformal`, are kept with the run for its predictions.
    initialize: Function of the train labels that returns initial values of
      parameters of the head, by name, or None. It takes a function of the
      number of records wanted that returns a dict of labels.
    learning_rates: Peak learning rates of the head's parameters that have their
      own, by name; 0 keeps one fixed.
    constrain: From the head's parameters to the nearest valid ones, applied
      after each step.
    linear: How a linear model answers the task, for probes of an encoder, or
      None if none can.
  """

  name: str
  head: Any
  labels: tuple[str, ...] = ()
  target: Callable[[Mapping], Any]
  counts: Callable[[Mapping], Any]
  loss: Callable[[Any, Any], Any]
  decode: Callable[[Any], Columns]
  compare: Callable[[Columns, Any], Columns]
  score: Callable[[Any, Any, dict | None], Columns] = lambda *_: {}
  combine: Callable[[list], Any] = mean_outputs
  metrics: tuple[Metric, ...]
  weight: float = 1.0
  best_metric: str | None = None
  on_request: tuple[str, ...] = ()
  fit_columns: tuple[str, ...] = ()
  fit: Callable[[Columns], dict] | None = None
  initialize: Callable[[Callable[[int], Columns]], dict] | None = None
  learning_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  constrain: Callable[[dict], dict] = lambda params: params
  linear: LinearForm | None = None


def example_losses(tasks, outputs, batch):
  """Computes the losses of a batch, per example.

  Rows that do not count for a task are replaced by zeros in its target, so that
  a NaN there reaches neither value nor gradient.

  Args:
    tasks: The tasks.
    outputs: Outputs of each task's head, by name.
    batch: A batch, see `Task`.

  Returns:
    Losses and booleans, True where an example counts, each a dict of arrays
    `[batch]` by name of the task.
  """
  values, where = {}, {}
  for task in tasks:
    where[task.name] = jnp.asarray(task.counts(batch))
    target = losses.zero_rows(where[task.name], task.target(batch))
    values[task.name] = task.loss(outputs[task.name], target)
  return values, where


def compare(tasks, batch, answers) -> Columns:
  """Compares answers with labels, on JAX or NumPy.

  Args:
    tasks: The tasks whose answers are given.
    batch: A batch, see `Task`; its image may be missing if no task reads it.
    answers: Columns as `Task.decode` returns them.

  Returns:
    A table: labels but for maps, answers, `<task>_counts`, `is_land` (all,
    where the climate is unknown) and what the tasks' `compare` return.
  """
  labels = {
    name: value
    for name, value in batch.items()
    # Maps would take most of a table, for what its counts hold already.
    if name not in ("image", "mask") and value.ndim <= 2
  }
  columns = {**labels, **answers}
  for task in tasks:
    columns[f"{task.name}_counts"] = task.counts(batch)
    columns |= task.compare(answers, task.target(batch))
  if "climate" in batch:
    columns["is_land"] = ~encodings.is_sea_patch(batch["climate"])
  else:
    any_row = next(iter(batch.values()))
    xp = any_row.__array_namespace__()
    columns["is_land"] = xp.ones(len(any_row), bool)
  return columns


def tabulate(task, labels, outputs) -> Columns:
  """Decodes outputs of a task and compares them with labels.

  Args:
    task: The task.
    labels: Labels by name, NumPy arrays `[count, ...]`.
    outputs: Outputs of the task's head for the same examples.

  Returns:
    A table of NumPy arrays, see `compare`.
  """
  answers = {k: np.asarray(v) for k, v in task.decode(outputs).items()}
  table = compare([task], labels, answers)
  return {name: np.asarray(value) for name, value in table.items()}


def label_names(tasks, available) -> tuple[str, ...]:
  """Chooses the labels of a data set that a run reads.

  Args:
    tasks: The tasks of the run.
    available: Names of the data set's labels.

  Returns:
    The geographic labels that it has, by which results are grouped, and those
    of the tasks.

  Raises:
    ValueError: A task reads a label that the data set does not have.
  """
  for task in tasks:
    missing = set(task.labels) - set(available)
    if missing:
      raise ValueError(
        f"task {task.name!r} reads {', '.join(sorted(missing))}, but the"
        f" records have {', '.join(available)}; leave it out of config.tasks"
      )
  wanted = {*encodings.LABELS, *(name for t in tasks for name in t.labels)}
  return tuple(name for name in available if name in wanted)


def all_metrics(tasks) -> tuple[Metric, ...]:
  """Returns the metrics of all tasks, each once."""
  return tuple({m.name: m for task in tasks for m in task.metrics}.values())


def best_metric(tasks, name: str) -> Metric:
  """Returns the metric by which the best checkpoint is chosen.

  Args:
    tasks: The tasks of a run.
    name: Its name, or "auto" for that of the first task that has one.

  Raises:
    ValueError: No task has it; lists those that do.
  """
  if name == "auto":
    name = next((t.best_metric for t in tasks if t.best_metric), "")
  by_name = {
    metric.name: metric
    for metric in all_metrics(tasks)
    if metric.higher_is_better is not None
  }
  if name not in by_name:
    raise ValueError(f"no task has {name!r}; one of {', '.join(by_name)}")
  return by_name[name]
