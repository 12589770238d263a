"""Evaluates a trained run on a split, beside three baselines.

  python experiments/evaluate.py --workdir=DIR --split=test

writes `metrics.json` and a picture to `DIR/eval/SPLIT`.
"""

import pathlib
import sys

from absl import app, flags, logging

from experiments import reporting
from geojax.training import cache, loop
from geojax.training.errors import TrainingError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")


def main(argv):
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  logging.set_verbosity(logging.WARNING)
  cache.enable()
  workdir = pathlib.Path(_WORKDIR.value)
  try:
    reporting.write_report(loop.load(workdir), workdir, _SPLIT.value)
  except TrainingError as error:
    print(f"evaluate.py: {error}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  app.run(main)
