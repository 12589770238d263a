"""Trains a model and says what it learned.

  python experiments/main.py --config=experiments/configs/base.py --workdir=DIR

The same command goes on with a run that was stopped. Any key of the config can
be set: `--config.num_steps=100`.
"""

import pathlib

from absl import app, flags
from ml_collections import config_flags

from experiments import command, reporting
from geojax.training import loop

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The config file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for checkpoints, logs, metrics and pictures."
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  """Trains, evaluates on the test split, draws."""
  workdir = pathlib.Path(_WORKDIR.value)
  with command.running(argv):
    run = loop.train(_CONFIG.value, workdir)
    reporting.write_report(run, workdir, "test")


if __name__ == "__main__":
  command.use_fast_cpu()
  app.run(main)
