"""Measures what an encoder is worth on other tasks, with few labels.

  python experiments/transfer.py --config=experiments/configs/land_cover.py \
    --workdir=DIR --config.encoder=runs/base

Leaves in DIR `results.parquet`, a row a figure; `draws.parquet`, the labelled
patches of each draw; `overlap.json`; `shots.png` and `transfer.html`. The same
command goes on with one that was stopped.
"""

import functools
import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags
from ml_collections import config_flags

from experiments import command, transfer_report
from geojax import files
from geojax.transfer import run as transfer

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The config file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the results.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  """Runs the command."""
  with command.running(argv):
    workdir = files.path(_WORKDIR.value)
    found = transfer.run(
      _CONFIG.value, workdir, functools.partial(print, flush=True)
    )
    print(
      transfer_report.write(
        found.results, _CONFIG.value, found.tasks, found.overlap, workdir
      )
    )
  print(f"results, pictures and report: {workdir}")


if __name__ == "__main__":
  app.run(main)
