"""A task: what a model is asked, and all that follows from it.

Training, evaluation, reports and predictions loop over a list of tasks. A new
task is one file that registers a function from a run's config to a `Task`; see
docs/extending.md.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from geojax import encodings, losses
from geojax.evaluation.metrics import Metric
from geojax.models.encoders import same_function

Columns = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What a model is asked.

  Functions take and return arrays with a leading batch axis; all but
  `initialize` and `fit` run under `jit`. Columns are named arrays, a row per
  example: a table of a split has those of all tasks, so their names must
  differ.

  Attributes:
    name: Names the head, the loss and its weight, such as "coords".
    head: A Flax module from features `[batch, features]` to outputs, any tree.
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
    metrics: What is computed from the columns.
    weight: Weight of the loss, unless `config.loss.weights` has one.
    best_metric: Name of the metric by which the best checkpoint is chosen, if
      this is the first task of the run; None leaves it to the next one.
    on_request: Columns that are large, or take long, and are returned only
      where they are asked for.
    fit_columns: Columns that `fit` reads.
    fit: From a table of the validation split to a dict of arrays that
      `score` takes, or None.
    initialize: Function of the train labels that returns initial values of
      parameters of the head, by name, or None. It takes a function of the
      number of records wanted that returns a dict of labels.
    learning_rates: Peak learning rates of the head's parameters that have their
      own, by name; 0 keeps one fixed.
    constrain: From the head's parameters to the nearest valid ones, applied
      after each step.
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
  metrics: tuple[Metric, ...]
  weight: float = 1.0
  best_metric: str | None = None
  on_request: tuple[str, ...] = ()
  fit_columns: tuple[str, ...] = ()
  fit: Callable[[Columns], dict] | None = None
  initialize: Callable[[Callable[[int], Columns]], dict] | None = None
  learning_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  constrain: Callable[[dict], dict] = lambda params: params


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
    A table: labels, answers, `<task>_counts`, `is_land` (all, where the climate
    is unknown) and what the tasks' `compare` return.
  """
  labels = {k: v for k, v in batch.items() if k not in ("image", "mask")}
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


_REGISTRY: dict[str, Callable[..., Task]] = {}


def register(name: str):
  """Decorates a function that creates a task, so that a config can name it.

  Args:
    name: What `config.tasks` calls it. A variant of a task, with another loss,
      say, has a name of its own here and the task's `Task.name`.

  Returns:
    A decorator of a function of a run's config and `mesh`, the mesh of its
    devices or None, that returns a `Task`.

  Raises:
    ValueError: Another function has that name.
  """

  def add(create):
    if name in _REGISTRY and not same_function(create, _REGISTRY[name]):
      raise ValueError(f"there is already a task {name!r}")
    _REGISTRY[name] = create
    return create

  return add


def known() -> tuple[str, ...]:
  """Returns the names of all registered tasks."""
  return tuple(_REGISTRY)


def load_extensions(names) -> None:
  """Imports files or modules that register tasks or encoders.

  Args:
    names: Paths of Python files, or names of modules.

  Raises:
    ValueError: One is neither.
  """
  for name in names:
    if not name.endswith(".py"):
      try:
        importlib.import_module(name)
      except ModuleNotFoundError as error:
        raise ValueError(f"no module {name!r}: {error}") from error
      continue
    path = pathlib.Path(name).resolve()
    if not path.exists():
      raise ValueError(f"no file {path}")
    if str(path) in sys.modules:
      continue
    spec = importlib.util.spec_from_file_location(str(path), path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[str(path)] = module
    try:
      spec.loader.exec_module(module)
    except BaseException:
      # A file that failed is imported again the next time.
      del sys.modules[str(path)]
      raise


def create_tasks(config, *, mesh=None) -> tuple[Task, ...]:
  """Creates the tasks of a run.

  Args:
    config: The config of a run; `config.tasks` names them.
    mesh: The mesh of its devices, where a head is spread over them, or None.

  Returns:
    The tasks, in the order of the config, with `config.loss.weights`.

  Raises:
    ValueError: A name is unknown, or two tasks have the same `Task.name`.
  """
  load_extensions(config.extensions)
  tasks = []
  for name in config.tasks:
    if name not in _REGISTRY:
      raise ValueError(f"unknown task {name!r}; known are {', '.join(known())}")
    task = _REGISTRY[name](config, mesh=mesh)
    weight = config.loss.weights.get(task.name, task.weight)
    tasks.append(dataclasses.replace(task, weight=weight))
  names = [task.name for task in tasks]
  if len(set(names)) < len(names):
    raise ValueError(f"two tasks of one name among {', '.join(names)}")
  return tuple(tasks)


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
