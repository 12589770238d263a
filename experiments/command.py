"""What the commands share: how one begins, and how it fails."""

import contextlib
import ctypes
import os
import pathlib
import sys

from absl import app, logging

from geojax.training import compilation
from geojax.training.errors import Interrupted, TrainingError

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**22


@contextlib.contextmanager
def running(argv):
  """Runs a command: what a user can set right is one sentence, exit code 1.

  A run that was asked to stop and saved its state exits with 75, `EX_TEMPFAIL`:
  it is not done, and the same command goes on.

  Args:
    argv: The command line without its flags: the command's file alone.

  Raises:
    app.UsageError: If there is more.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  logging.set_verbosity(logging.WARNING)
  compilation.enable_cache()
  keep_freed_memory_low()
  try:
    yield
  except TrainingError as error:
    print(f"{pathlib.Path(argv[0]).name}: {error}", file=sys.stderr)
    sys.exit(1)
  except Interrupted as stopped:
    print(stopped)
    sys.exit(os.EX_TEMPFAIL)


def keep_freed_memory_low() -> None:
  """Sets from which size glibc gives freed arrays back to the system.

  Arrays of over 4 MiB go back when they are freed: left to itself, glibc comes
  to keep those of up to 32 MiB, in a heap for each thread, and the memory of a
  long run grows (`experiments.benchmarks.soak`). Smaller ones are kept for the
  next batch: getting pages anew takes ten times as long as scaling and flipping
  a batch of 2.5 MiB (`experiments.benchmarks.pipeline`). Without effect where
  the C library has no `mallopt`, or the user has set the same in
  `GLIBC_TUNABLES`.
  """
  if sys.platform != "linux":
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return
  set_by_user = os.environ.get("GLIBC_TUNABLES", "")
  for name, parameter in (
    ("glibc.malloc.mmap_threshold", _M_MMAP_THRESHOLD),
    ("glibc.malloc.trim_threshold", _M_TRIM_THRESHOLD),
  ):
    if name not in set_by_user:
      mallopt(parameter, _KEPT_BYTES)
