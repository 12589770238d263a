"""The registry of tasks, and from a config's names to tasks.

A new task is one file that registers a function from a run's config to a
`Task`; see docs/extending.md.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable

from geojax.models.encoders import same_function
from geojax.tasks import targets as target_tasks
from geojax.tasks.task import Task

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


def create_tasks(config, *, targets=None, mesh=None) -> tuple[Task, ...]:
  """Creates the tasks of a run, or of several runs that answer together.

  Args:
    config: The config of a run; `config.tasks` names them. `config.members` of
      several runs has theirs, by name.
    targets: The data set's `targets.Target`s by name, which may be named too,
      or None.
    mesh: The mesh of its devices, where a head is spread over them, or None.

  Returns:
    The tasks, in the order of the config, with `config.loss.weights`.

  Raises:
    ValueError: A name is unknown, or two tasks have the same `Task.name`.
  """
  load_extensions(config.extensions)
  tasks = []
  targets = targets or {}
  for name in config.tasks:
    if name in _REGISTRY:
      task = _REGISTRY[name](config, mesh=mesh)
    elif name.removesuffix(target_tasks.PIXELS) in targets:
      task = target_tasks.create(name, targets, config)
    else:
      raise ValueError(
        f"unknown task {name!r}; known are {', '.join(known())}, and targets of"
        f" the data set, {', '.join(targets) or 'which has none'}"
      )
    weight = config.loss.weights.get(task.name, task.weight)
    tasks.append(dataclasses.replace(task, weight=weight))
  if "members" in config:
    of_members = [
      create_tasks(member, targets=targets, mesh=mesh)
      for member in config.members.values()
    ]
    tasks = [
      dataclasses.replace(task, head=tuple(own.head for own in same))
      for task, *same in zip(tasks, *of_members, strict=True)
    ]
  names = [task.name for task in tasks]
  if len(set(names)) < len(names):
    raise ValueError(f"two tasks of one name among {', '.join(names)}")
  return tuple(tasks)
