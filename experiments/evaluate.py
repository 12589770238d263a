"""Evaluates a trained run on a split, beside three baselines.

  python experiments/evaluate.py --workdir=DIR --split=test
  python experiments/evaluate.py --workdir=DIR,DIR[,...] --output=DIR

writes `metrics.json`, `predictions.parquet` and pictures to `DIR/eval/SPLIT`,
and all of it on one page to `DIR/report.html`, of another split than test to
`DIR/report_SPLIT.html`. The checkpoint is the one that was best on validation,
by `config.best_metric`, or with `--last` the newest; `step` in metrics.json is
its step, of several runs the sum of theirs.

Several runs, of other seeds or models on the same data set, are evaluated and
calibrated as one whose answers are the mean of theirs. What is found goes to
--output, a folder that predict.py then takes as its --workdir.
"""

import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

from experiments import command, reporting
from geojax import files
from geojax.training import ensemble
from geojax.training import run as run_lib

_WORKDIR = flags.DEFINE_list(
  "workdir", None, "Folder of a run, or of several, separated by commas."
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "Folder to write to; of several runs, and of these alone."
)
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
_LAST = flags.DEFINE_boolean(
  "last", False, "Take the newest checkpoint, not the best on validation."
)


def main(argv):
  """Runs the command."""
  with command.running(argv):
    workdirs = list(map(files.path, _WORKDIR.value))
    if (len(workdirs) > 1) != bool(_OUTPUT.value):
      raise app.UsageError(
        "--output is the folder for what is found of several runs: give it with"
        " several --workdir, and not with one"
      )
    if len(workdirs) == 1:
      (folder,) = workdirs
      run = run_lib.load(folder, last=_LAST.value)
    else:
      folder = files.path(_OUTPUT.value)
      found = ensemble.restore_all(workdirs, last=_LAST.value)
      ensemble.save(found, folder)
      run = run_lib.of_ensemble(found)
    reporting.write_report(run, folder, _SPLIT.value)


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  app.run(main)
