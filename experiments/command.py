"""Start-up and error handling that all commands share."""

import contextlib
import ctypes
import os
import pathlib
import sys

import jax
from absl import app, logging

from geojax import files
from geojax.training import compilation
from geojax.training.errors import Interrupted, TrainingError

# Constants of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**22
# The event of JAX that reports how long the compiler took.
_COMPILED = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def running(argv):
  """Runs a command; prints an error that a user can fix, and exits with 1.

  A run that was stopped and saved its state exits with 75 (`EX_TEMPFAIL`): the
  same command continues it.

  Args:
    argv: The command line without its flags, which is the command's file.

  Raises:
    app.UsageError: There are further arguments.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  logging.set_verbosity(logging.WARNING)
  compilation.enable_cache()
  keep_freed_memory_low()
  try:
    yield
  except (TrainingError, files.StorageError) as error:
    print(f"{pathlib.Path(argv[0]).name}: {error}", file=sys.stderr)
    sys.exit(1)
  except Interrupted as stopped:
    print(stopped)
    sys.exit(os.EX_TEMPFAIL)


def keep_freed_memory_low() -> None:
  """Makes glibc return freed memory to the system.

  By default, glibc comes to keep arrays of up to 32 MiB in a heap for each
  thread, and the memory of a long run grows (`experiments.benchmarks.soak`).
  Arrays of over 4 MiB are returned at once; smaller ones are kept, because new
  pages take ten times as long as scaling and flipping a batch of 2.5 MiB
  (`experiments.benchmarks.pipeline`). `GLIBC_TUNABLES` takes precedence.

  The compiler frees hundreds of MiB in small blocks: they are returned after
  each compilation that takes a second or more.

  No effect on systems without glibc.
  """
  libc = ctypes.CDLL(None)
  if sys.platform != "linux" or not hasattr(libc, "mallopt"):
    return
  set_by_user = os.environ.get("GLIBC_TUNABLES", "")
  for name, parameter in (
    ("glibc.malloc.mmap_threshold", _M_MMAP_THRESHOLD),
    ("glibc.malloc.trim_threshold", _M_TRIM_THRESHOLD),
  ):
    if name not in set_by_user:
      libc.mallopt(parameter, _KEPT_BYTES)

  def trim(event, seconds, **_):
    if event == _COMPILED and seconds >= 1:
      libc.malloc_trim(0)

  jax.monitoring.register_event_duration_secs_listener(trim)
