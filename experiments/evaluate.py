"""Evaluates a trained run on a split, beside three baselines.

  python experiments/evaluate.py --workdir=DIR --split=test

writes `metrics.json`, `predictions.parquet` and pictures to `DIR/eval/SPLIT`,
and all of it on one page to `DIR/report.html`.
"""

import pathlib

from absl import app, flags

from experiments import command, reporting
from geojax.training import loop

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")


def main(argv):
  """Runs the command."""
  workdir = pathlib.Path(_WORKDIR.value)
  with command.running(argv):
    reporting.write_report(loop.load(workdir), workdir, _SPLIT.value)


if __name__ == "__main__":
  command.use_fast_cpu()
  flags.mark_flag_as_required("workdir")
  app.run(main)
