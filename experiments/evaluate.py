"""Evaluates a trained run on a split, beside three baselines.

  python experiments/evaluate.py --workdir=DIR --split=test

writes `metrics.json`, `predictions.parquet` and pictures to `DIR/eval/SPLIT`,
and all of it on one page to `DIR/report.html`. With `--best`, of the checkpoint
that was best on validation, by `config.best_metric`, instead of the newest;
`step` in metrics.json tells which.
"""

import pathlib

from absl import app, flags

from experiments import command, reporting
from geojax.training import loop

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
_BEST = flags.DEFINE_boolean(
  "best", False, "Take the checkpoint that was best on validation."
)


def main(argv):
  """Runs the command."""
  workdir = pathlib.Path(_WORKDIR.value)
  with command.running(argv):
    run = loop.load(workdir, best=_BEST.value)
    reporting.write_report(run, workdir, _SPLIT.value)


if __name__ == "__main__":
  command.use_fast_cpu()
  flags.mark_flag_as_required("workdir")
  app.run(main)
