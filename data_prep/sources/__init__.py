"""Sources: one file each, which ends in its own config.

`--config=NAME` imports `data_prep/sources/NAME.py` and takes its `CONFIG`, a
`configs.GeoTilesConfig`. A source of your own needs no edit here: give its
file, `--config=path/to/mine.py`, or the name of a module on the PYTHONPATH.
"""

import importlib
import pathlib
import pkgutil
import sys
import types

from data_prep import configs


class UnknownConfigError(Exception):
  """No such config; the message lists what there is."""


def names():
  """Names of the library's own configs, sorted."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name):
  """Returns the `CONFIG` of a source.

  Args:
    name: One of `names`, a path that ends in .py, or the name of a module.

  Raises:
    UnknownConfigError: There is no such source, or it has no `CONFIG`.
  """
  if name in names():
    module = importlib.import_module(f"{__name__}.{name}")
  elif path := config_file(name):
    module = _import_file(path)
  else:
    try:
      module = importlib.import_module(name)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
      # The module exists, but one that it imports does not.
      if not f"{name}.".startswith(f"{getattr(error, 'name', name)}."):
        raise
      raise UnknownConfigError(
        f"no config {name}: expected one of {', '.join(names())}, a file such"
        " as path/to/mine.py, or a module on the PYTHONPATH"
      ) from None
  config = getattr(module, "CONFIG", None)
  if not isinstance(config, configs.GeoTilesConfig):
    raise UnknownConfigError(
      f"{name} has no CONFIG that is a data_prep.configs.GeoTilesConfig"
    )
  return config


def config_file(name):
  """Path of the file that a name of `find` is, or None."""
  if name in names() or not name.endswith(".py"):
    return None
  return pathlib.Path(name).resolve()


def define(name, text):
  """Imports a user's file by its text, on a machine that does not have it."""
  if name not in sys.modules:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)


def _import_file(path):
  if not path.is_file():
    raise UnknownConfigError(f"no config {path}: no such file")
  # The workers of a build inherit the path, and import the module by its name.
  if str(path.parent) not in sys.path:
    sys.path.append(str(path.parent))
  module = None
  if path.stem.isidentifier():
    module = importlib.import_module(path.stem)
  if getattr(module, "__file__", None) != str(path):
    raise UnknownConfigError(
      f"{path} cannot be imported as {path.stem}, the name of another module or"
      " of none; rename the file"
    )
  return module
