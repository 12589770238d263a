"""The folder of a run: it holds one config, and one run at a time."""

import contextlib
import os
import pathlib
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from geojax import files
from geojax.training import config as config_lib
from geojax.training.errors import ConfigError, WorkdirBusyError

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"
_SHARED_BYTES = 1024


@contextlib.contextmanager
def claim(workdir: pathlib.Path):
  """Locks a workdir, and creates it if missing, while the context lasts.

  With several processes, the first one holds the lock. In a bucket it is a
  lease: a process that has lost it ends at once, with 1, and writes no more.

  Raises:
    WorkdirBusyError: Another process trains there, or it cannot be written;
      raised on all processes.
  """
  with contextlib.ExitStack() as held:
    refusal = ""
    if jax.process_index() == 0:
      try:
        held.enter_context(files.lock(workdir / _LOCK_FILE, _end))
      except files.LockedError as error:
        refusal = _describe(workdir, error.holder)
      except files.StorageError as error:
        refusal = str(error)
      except OSError as error:
        refusal = f"{workdir} cannot be written: {error.strerror or error}"
    if refusal := _as_on_the_first(refusal):
      raise WorkdirBusyError(refusal)
    yield


def _describe(workdir, holder):
  sentence = (
    f"process {holder or 'unknown'} trains in {workdir}; wait until it ends,"
    " stop it (SIGTERM makes it save first), or use another --workdir"
  )
  if not files.is_local(workdir):
    sentence += (
      f". To take over from one that is out of reach, remove"
      f" {workdir / _LOCK_FILE}: it notices within seconds, and ends"
    )
  return sentence


def _as_on_the_first(text):
  """Returns the text of process 0 on all processes."""
  if jax.process_count() == 1:
    return text
  # Arrays must have one shape on all processes.
  encoded = text.encode()[:_SHARED_BYTES].ljust(_SHARED_BYTES, b"\0")
  shared = multihost_utils.broadcast_one_to_all(
    np.frombuffer(encoded, np.uint8)
  )
  return np.asarray(shared).tobytes().rstrip(b"\0").decode(errors="replace")


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
