"""Predicts where, in which climate and when tiles were acquired.

  python experiments/predict.py --workdir=DIR TILE [TILE ...] --output=OUT

--workdir may be several, separated by commas, or the folder that evaluate.py
left of several: the answers are then the mean of theirs, and their levels
calibrated only in the second case.

A tile is what the run's data set could be built from: a GeoTIFF, or a .SAFE
product, a folder or zip, of which a tile is made in OUT/tiles first. Patches,
cloud rule and scale are those of the run. Leaves in OUT/<name of the tile>
`prediction.json`, `prediction.png`, `credible_regions.geojson` and
`climate_zones.tif`.

Exits with 0; with 1 if there is no prediction, and with 3 if there are some but
not of all tiles.
"""

import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

from experiments import command, tile_files
from geojax import files, predict

_WORKDIR = flags.DEFINE_list(
  "workdir",
  None,
  "Folder of a run, or of several, separated by commas; or --output of"
  " evaluate.py.",
)
_OUTPUT = flags.DEFINE_string("output", "predictions", "Folder to write to.")
_COMBINE = flags.DEFINE_enum(
  "combine",
  "mean",
  ["mean", "product"],
  "How the patches' mixtures make one of the tile.",
)
_NUM_INDEPENDENT = flags.DEFINE_float(
  "num_independent",
  1.0,
  "For --combine=product: how many independent patches all are worth.",
  lower_bound=1e-6,
)
_STRIDE = flags.DEFINE_integer(
  "stride",
  None,
  "Pixels from one patch to the next; by default a patch's size.",
  lower_bound=1,
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", None, "Patches at a time, where memory is short.", lower_bound=1
)
_LAST = flags.DEFINE_boolean(
  "last", False, "Take the newest checkpoint, not the best on validation."
)


def main(argv):
  """Runs the command."""
  with command.running(argv[:1]):
    if len(argv) < 2:
      raise app.UsageError("no tile given")
    written, errors = tile_files.predict_tiles(
      predict.load(
        _WORKDIR.value if len(_WORKDIR.value) > 1 else _WORKDIR.value[0],
        batch_size=_BATCH_SIZE.value,
        last=_LAST.value,
      ),
      argv[1:],
      files.path(_OUTPUT.value),
      stride=_STRIDE.value,
      how=_COMBINE.value,
      num_independent=_NUM_INDEPENDENT.value,
    )
  for folder, described in written.items():
    print(tile_files.one_line(folder, described))
  for error in errors:
    print(f"predict.py: {error}", file=sys.stderr)
  if errors:
    sys.exit(3 if written else 1)


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  app.run(main)
