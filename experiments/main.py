"""Trains a model and evaluates it on the test split.

  python experiments/main.py --config=experiments/configs/base.py --workdir=DIR

The same command goes on with a run that was stopped. Any key of the config can
be set: `--config.num_steps=100`. Tested is the checkpoint that was best on
validation, or with `--last` the last step.

Exits with 0; with 1 if the run cannot go on; with 75 (`EX_TEMPFAIL`) if it was
asked to stop (SIGTERM) and saved its state, so that a scheduler may requeue it.
"""

import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags
from ml_collections import config_flags

from experiments import command, reporting
from geojax import files
from geojax.training import loop, sharding
from geojax.training import run as run_lib

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The config file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for checkpoints, logs, metrics and pictures."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Join the other processes of a run, as TPU VMs or Slurm name them.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "Join them at this HOST:PORT, that of process 0."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This one, from 0.")
_LAST = flags.DEFINE_boolean(
  "last", False, "Test the last step, not the best on validation."
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  """Trains, evaluates on the test split, draws."""
  with command.running(argv):
    workdir = files.path(_WORKDIR.value)
    if _DISTRIBUTED.value or _COORDINATOR.value:
      sharding.join_processes(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
      )
    run = loop.train(_CONFIG.value, workdir)
    if not _LAST.value and run.best_step != int(run.state.step):
      run = run_lib.load(workdir)
    reporting.write_report(run, workdir, "test")


if __name__ == "__main__":
  app.run(main)
