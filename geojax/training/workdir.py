"""The folder of a run: it holds one config, and one run at a time."""

import contextlib
import os
import pathlib
import sys

import jax

from geojax import files
from geojax.training import config as config_lib
from geojax.training.errors import ConfigError, WorkdirBusyError

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"


@contextlib.contextmanager
def claim(workdir: pathlib.Path):
  """Locks a workdir, and creates it if missing, while the context lasts.

  With several processes, the first one holds the lock. In a bucket it is a
  lease: a process that has lost it ends at once, with 1, and writes no more.

  Raises:
    WorkdirBusyError: Another process trains there.
  """
  with contextlib.ExitStack() as held:
    try:
      if jax.process_index() == 0:
        held.enter_context(files.lock(workdir / _LOCK_FILE, _end))
    except files.LockedError as error:
      ways = (
        "wait until it ends, stop it (SIGTERM makes it save first), or use"
        " another --workdir"
      )
      if not files.is_local(workdir):
        ways += (
          f". To take over from one that is out of reach, remove"
          f" {workdir / _LOCK_FILE}: it notices within seconds, and ends"
        )
      raise WorkdirBusyError(
        f"process {error.holder} trains in {workdir}; {ways}"
      ) from None
    yield


def _end(reason):
  # The main thread may be waiting for devices, and another run is writing.
  print(reason, file=sys.stderr, flush=True)
  os._exit(1)


def refuse_another(workdir: pathlib.Path, config) -> None:
  """Raises `ConfigError` if a workdir holds the run of another config."""
  path = workdir / CONFIG_FILE
  if not path.exists():
    return
  differing = config_lib.differing_keys(config_lib.load_config(path), config)
  for key in config_lib.MACHINE_KEYS:
    differing.pop(key, None)
  if differing:
    keys = "; ".join(
      f"{key} is {theirs!r} there and {ours!r} now"
      for key, (theirs, ours) in differing.items()
    )
    raise ConfigError(
      f"{workdir} holds a run of another config: {keys}. Use another"
      " --workdir, or remove this one"
    )
