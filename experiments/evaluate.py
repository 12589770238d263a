"""Evaluates a trained run on a split, beside three baselines.

  python experiments/evaluate.py --workdir=DIR --split=test

writes `metrics.json`, `predictions.parquet` and pictures to `DIR/eval/SPLIT`,
and all of it on one page to `DIR/report.html`, of another split than test to
`DIR/report_SPLIT.html`. The checkpoint is the one that was best on validation,
by `config.best_metric`, or with `--last` the newest; `step` in metrics.json is
its step.
"""

import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

from experiments import command, reporting
from geojax import files
from geojax.training import run as run_lib

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
_LAST = flags.DEFINE_boolean(
  "last", False, "Take the newest checkpoint, not the best on validation."
)


def main(argv):
  """Runs the command."""
  with command.running(argv):
    workdir = files.path(_WORKDIR.value)
    run = run_lib.load(workdir, last=_LAST.value)
    reporting.write_report(run, workdir, _SPLIT.value)


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  app.run(main)
