"""What the commands share: how one begins, and how it fails."""

import contextlib
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
