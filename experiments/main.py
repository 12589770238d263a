"""Trains a model and says what it learned.

  python experiments/main.py --config=experiments/configs/base.py --workdir=DIR

The same command goes on with a run that was stopped. Any key of the config can
be set: `--config.num_steps=100`.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import reporting
from geojax.training import cache, loop
from geojax.training.errors import TrainingError

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The config file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for checkpoints, logs, metrics and pictures."
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  """Trains, evaluates on the test split, draws."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  logging.set_verbosity(logging.WARNING)
  cache.enable()
  workdir = pathlib.Path(_WORKDIR.value)
  try:
    run = loop.train(_CONFIG.value, workdir)
    reporting.write_report(run, workdir, "test")
  except TrainingError as error:
    print(f"main.py: {error}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
  app.run(main)
