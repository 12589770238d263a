"""The folder of a run: it holds one config, and one run at a time."""

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
  """Locks a workdir, and creates it if missing, while the context lasts.

  With several processes, the first one holds the lock.

  Raises:
    WorkdirBusyError: Another process trains there.
  """
  with contextlib.ExitStack() as held:
    try:
      if jax.process_index() == 0:
        held.enter_context(files.lock(workdir / _LOCK_FILE))
    except files.LockedError as error:
      raise WorkdirBusyError(
        f"process {error.holder} trains in {workdir}; wait until it ends,"
        " stop it (SIGTERM makes it save first), or use another --workdir"
      ) from None
    yield


def refuse_another(workdir: pathlib.Path, config) -> None:
  """Raises `ConfigError` if a workdir holds the run of another config."""
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
      f"{workdir} holds a run of another config: {keys}. Use another"
      " --workdir, or remove this one"
    )
