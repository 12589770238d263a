"""What the commands share: how one begins, and how it fails."""

import contextlib
import os
import pathlib
import sys

from absl import app, logging

from geojax.training import cache
from geojax.training.errors import Interrupted, TrainingError


@contextlib.contextmanager
def running(argv):
  """Runs a command: what a user can set right is one sentence, exit code 1.

  A run that was asked to stop and saved its state ends well.

  Args:
    argv: The command line without its flags: the command's file alone.

  Raises:
    app.UsageError: If there is more.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  logging.set_verbosity(logging.WARNING)
  cache.enable()
  try:
    yield
  except TrainingError as error:
    print(f"{pathlib.Path(argv[0]).name}: {error}", file=sys.stderr)
    sys.exit(1)
  except Interrupted as stopped:
    print(stopped)


def use_fast_cpu() -> None:
  """Starts the process anew under the settings that are fast on a CPU.

  To be called first of all; without effect where all are set, and on another
  system than Linux. An accelerator is not touched by them. Huge pages save page
  faults of a step's large temporary buffer, a third of core_atto's step; matrix
  products are faster by Eigen than by XLA's own library on some processors, and
  not slower on those with AVX-512, where vectors of the whole width take 4 %
  off core_nano's (`experiments.benchmarks.train_step`). Arrays of over 4 MiB go
  back to the system when they are freed: left to itself, glibc comes to keep
  those of up to 32 MiB, in a heap for each thread, and the memory of a long run
  grows (`experiments.benchmarks.soak`). Smaller ones are kept, for the next
  batch: to get pages anew takes ten times as long as to scale and flip a batch
  of 2.5 MiB (`experiments.benchmarks.pipeline`).
  """
  settings = (
    ("GLIBC_TUNABLES", ":", "glibc.malloc.hugetlb", "1"),
    ("GLIBC_TUNABLES", ":", "glibc.malloc.mmap_threshold", str(2**22)),
    ("GLIBC_TUNABLES", ":", "glibc.malloc.trim_threshold", str(2**22)),
    (
      "XLA_FLAGS",
      " ",
      "--xla_cpu_experimental_ynn_fusion_type",
      "LIBRARY_FUSION_TYPE_REDUCE",
    ),
    ("XLA_FLAGS", " ", "--xla_cpu_prefer_vector_width", "512"),
  )
  environment = dict(os.environ)
  for variable, separator, name, value in settings:
    before = environment.get(variable, "")
    if name not in before:
      setting = f"{name}={value}"
      environment[variable] = separator.join(filter(None, (before, setting)))
  if sys.platform == "linux" and environment != os.environ:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
