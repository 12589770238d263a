"""The folder of a run: one config, and one run at a time."""

import contextlib
import fcntl
import os
import pathlib

import jax

from geojax.training import config as config_lib
from geojax.training.errors import ConfigError, WorkdirBusyError

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"


@contextlib.contextmanager
def claim(workdir: pathlib.Path):
  """Holds a workdir for as long as the context lasts.

  The lock is the kernel's: it ends with the process that holds it, however that
  ends, so a killed run leaves nothing to clean up. Of the processes of a run
  the first one holds it; they all see the same folder.

  Args:
    workdir: Folder of the run; made if it isn't there.

  Raises:
    WorkdirBusyError: Another process trains there.
  """
  if jax.process_index():
    yield
    return
  workdir.mkdir(parents=True, exist_ok=True)
  with (workdir / _LOCK_FILE).open("a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise WorkdirBusyError(
        f"process {file.read().strip()} trains in {workdir}; wait for its end,"
        " stop it (SIGTERM: it saves first), or take another --workdir"
      ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
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
