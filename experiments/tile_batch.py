"""Many tiles predicted: one that fails keeps no other from going on."""

import pathlib

import tqdm

from data_prep import tile_patches, tiles, unseen
from experiments import tile_files, tile_predictions
from geojax.training.errors import ConfigError


def predict_tiles(predictor, inputs, output, *, stride=None, **combine):
  """Predicts tiles one by one; one that fails keeps no other from going on.

  Args:
    predictor: As of `geojax.predict.load`.
    inputs: Files and folders.
    output: Folder to write to.
    stride: Pixels from one patch to the next, None for a patch's size.
    **combine: `how` and `num_independent` as of `Predictor.combine`.

  Returns:
    What `prediction.json` holds, by the folder each was written to, and a list
    of `tiles.TileError`.

  Raises:
    ConfigError: The run's patches come from no tiles that are known.
  """
  try:
    config = unseen.whole_tile_config(
      predictor.data.name, predictor.data.settings, stride
    )
  except ValueError as error:
    raise ConfigError(str(error)) from error
  told, errors, taken = {}, [], set()
  with (
    tqdm.tqdm(total=len(inputs), unit="tile", disable=None) as tile_bar,
    tqdm.tqdm(unit="patch", position=1, leave=False, disable=None) as bar,
  ):
    for path in map(pathlib.Path, inputs):
      tile_bar.set_description(path.name[:40])
      with tiles.collect_errors(errors, path):
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
          told[folder] = tile_files.write(folder, found, config, **combine)
      tile_bar.update()
  return told, errors


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
