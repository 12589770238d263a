"""The folder of a run: one config, and one run at a time."""

import contextlib
import pathlib

import jax

from geojax import files
from geojax.training import config as config_lib
from geojax.training.errors import ConfigError, WorkdirBusyError

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"


@contextlib.contextmanager
def claim(workdir: pathlib.Path):
  """Holds a workdir for as long as the context lasts.

  Of the processes of a run the first one holds the lock; they all see the same
  folder.

  Args:
    workdir: Folder of the run; made if it isn't there.

  Raises:
    WorkdirBusyError: Another process trains there.
  """
  if jax.process_index():
    yield
    return
  with contextlib.ExitStack() as held:
    try:
      held.enter_context(files.lock(workdir / _LOCK_FILE))
    except files.LockedError as error:
      raise WorkdirBusyError(
        f"process {error.holder} trains in {workdir}; wait for its end,"
        " stop it (SIGTERM: it saves first), or take another --workdir"
      ) from None
    yield


def refuse_another(workdir: pathlib.Path, config) -> None:
  """Raises if a workdir holds the run of another config.

  Args:
    workdir: Folder of the run.
    config: The config of the run that is to start.

  Raises:
    ConfigError: It does; names the keys that differ.
  """
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
