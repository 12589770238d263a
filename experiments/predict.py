"""Asks a trained run where, in which climate and when tiles were seen.

  python experiments/predict.py --workdir=DIR TILE [TILE ...] --output=OUT

A tile is what the run's data set could be built from: a GeoTIFF, or a .SAFE
product, a folder or zip, of which a tile is made in OUT/tiles first. Patches,
cloud rule and scale are those of the run. Leaves in OUT/<name of the tile>
`prediction.json`, `prediction.png` and `climate_zones.tif`.

Exits with 0; with 1 if there is no prediction, and with 3 if there are some but
not of all tiles.
"""

import pathlib
import sys

import tqdm
from absl import app, flags

from data_prep import tile_patches, tiles, unseen
from experiments import command, tile_files, tile_predictions
from geojax import predict
from geojax.training.errors import ConfigError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
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


def predict_tiles(workdir, inputs, output, *, stride, batch_size, **combine):
  """Predicts tiles one by one; one that fails keeps no other from going on.

  Args:
    workdir: Folder of a run.
    inputs: Files and folders.
    output: Folder to write to.
    stride: Pixels from one patch to the next, None for a patch's size.
    batch_size: Patches at a time, or None.
    **combine: `how` and `num_independent` as of `Predictor.combine`.

  Returns:
    `tile_predictions.TilePrediction`s' JSON by the folder each was written to,
    and a list of `tiles.TileError`.

  Raises:
    TrainingError: The run cannot be used.
  """
  predictor = predict.load(workdir, batch_size=batch_size)
  try:
    config = unseen.whole_tile_config(
      predictor.data.name, predictor.data.settings, stride
    )
  except ValueError as error:
    raise ConfigError(f"{workdir}: {error}") from error
  told, errors, taken = {}, [], set()
  with (
    tqdm.tqdm(total=len(inputs), unit="tile", disable=None) as tile_bar,
    tqdm.tqdm(unit="patch", position=1, leave=False, disable=None) as bar,
  ):
    for path in map(pathlib.Path, inputs):
      tile_bar.set_description(path.name[:40])
      try:
        for tile_path in unseen.make_tiles(path, config, output / "tiles"):
          folder = output / tile_path.stem
          if folder in taken:
            raise tiles.TileError(path, f"{folder} is another tile's; left out")
          taken.add(folder)
          patches = tile_patches.open_tile(tile_path, config)
          bar.reset(total=len(patches.chosen.rows))
          found = tile_predictions.predict_tile(
            predictor, patches, progress=bar.update, **combine
          )
          tile_files.write(folder, found, config, run=workdir, **combine)
          told[folder] = tile_files.describe(found)
      except tiles.TileError as error:
        errors.append(error)
      except OSError as error:
        errors.append(tiles.TileError(path, str(error)))
      tile_bar.update()
  return told, errors


def main(argv):
  """Runs the command."""
  with command.running(argv[:1]):
    if len(argv) < 2:
      raise app.UsageError("no tile given")
    told, errors = predict_tiles(
      pathlib.Path(_WORKDIR.value),
      argv[1:],
      pathlib.Path(_OUTPUT.value),
      stride=_STRIDE.value,
      batch_size=_BATCH_SIZE.value,
      how=_COMBINE.value,
      num_independent=_NUM_INDEPENDENT.value,
    )
  for folder, found in told.items():
    print(one_line(folder, found))
  for error in errors:
    print(f"predict.py: {error}", file=sys.stderr)
  if errors:
    sys.exit(3 if told else 1)


def one_line(folder, found) -> str:
  """The closing line of a tile.

  Args:
    folder: Where its files are.
    found: As of `tile_files.describe`.

  Returns:
    A line of text.
  """
  where, when = found["where"], found["when"]
  zone, share = next(iter(found["climate"]["predicted"]["zones"].items()))
  return (
    f"{folder}: {where['lat']:.1f} N {where['lon']:.1f} E,"
    f" {where['truth']['distance_km']:,.0f} km off; day {when['day']:.0f},"
    f" {when['truth']['error_days']:.0f} off; {zone} {100 * share:.0f} %"
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  app.run(main)
