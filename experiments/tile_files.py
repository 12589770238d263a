"""Predicts tiles, each to files: JSON, picture, regions, GeoTIFF of zones."""

import json
import pathlib

import numpy as np
import tqdm

from data_prep import climate_maps, tile_patches, tile_writer, tiles, unseen
from experiments import picture_files, tile_descriptions, tile_predictions
from geojax import climate, files
from geojax.views import patches, polygons, tile_plots

JSON, PICTURE = "prediction.json", "prediction.png"
REGIONS, ZONES = "credible_regions.geojson", "climate_zones.tif"

_NO_PATCH = 255
# The climate as mapped is shown at about so many pixels a side.
_MAPPED_SIDE = 300


def predict_tiles(predictor, inputs, output, *, stride=None, **combine):
  """Predicts tiles one by one; one that fails does not stop the others.

  Args:
    predictor: See `geojax.predict.load`.
    inputs: Files and folders.
    output: Folder to write to.
    stride: Pixels from one patch to the next, None for a patch's size.
    **combine: `how` and `num_independent`, see `Predictor.combine`.

  Returns:
    What `prediction.json` holds, by the folder each was written to, and a list
    of `tiles.TileError`.

  Raises:
    ConfigError: The run's patches are not cut from a known kind of tiles.
  """
  config = tile_predictions.tile_config(predictor, stride)
  written, errors, taken = {}, [], set()
  with (
    files.local_folder(output / "tiles") as made,
    tqdm.tqdm(total=len(inputs), unit="tile", disable=None) as tile_bar,
    tqdm.tqdm(unit="patch", position=1, leave=False, disable=None) as bar,
  ):
    for path in map(pathlib.Path, inputs):
      tile_bar.set_description(path.name[:40])
      with tiles.collect_errors(errors, path):
        for tile_path in unseen.make_tiles(path, config, made):
          folder = output / tile_path.stem
          if folder in taken:
            raise tiles.TileError(path, f"{folder} is another tile's; left out")
          taken.add(folder)
          opened = tile_patches.open_tile(tile_path, config)
          bar.reset(total=len(opened.chosen.rows))
          tile = tile_predictions.predict_tile(
            predictor, opened, progress=bar.update, **combine
          )
          written[folder] = write(folder, tile, config, **combine)
      tile_bar.update()
  return written, errors


def one_line(folder, described) -> str:
  """Formats the closing line of a tile.

  Args:
    folder: Where its files are.
    described: See `tile_descriptions.describe`.

  Returns:
    A line of text.
  """
  parts = []
  if where := described.get("where"):
    parts.append(
      f"{where['lat']:.1f} N {where['lon']:.1f} E,"
      f" {where['truth']['distance_km']:,.0f} km off"
    )
  if when := described.get("when"):
    text = f"day {when['day']:.0f}"
    if truth := when.get("truth"):
      text += f", {truth['error_days']:.0f} off"
    parts.append(text)
  if predicted := described.get("climate", {}).get("predicted"):
    zone, share = next(iter(predicted["zones"].items()))
    parts.append(f"{zone} {100 * share:.0f} %")
  return f"{folder}: {'; '.join(parts)}"


def write(folder, tile, config, *, how, num_independent) -> dict:
  """Writes the files of a tile.

  Args:
    folder: Where to write them; made if missing.
    tile: A `tile_predictions.TilePrediction`.
    config: The `configs.GeoTilesConfig` its patches were cut by.
    how: How patches were combined, for the JSON.
    num_independent: The same, for "product".

  Returns:
    What the JSON holds.
  """
  folder.mkdir(parents=True, exist_ok=True)
  zones, grid = tile.zone_grid(config.patches.stride)
  if zones is not None:
    tile_writer.write_codes(
      folder / ZONES,
      np.where(zones < 0, _NO_PATCH, zones).astype(np.uint8),
      band="climate zone",
      grid=grid,
      date=tile.patches.scene.date,
      colors=climate.ZONE_COLORS,
      no_data=_NO_PATCH,
    )
  if {"place", "date_mean", "climate_probs"} <= set(tile.tile.columns):
    picture_files.write(draw(tile, config, zones), folder / PICTURE)
  described = {"tile": str(tile.patches.tile.path), "combined_by": how}
  if how == "product":
    described["num_independent"] = num_independent
  described |= tile_descriptions.describe(tile)
  if tile.cell_levels is not None:
    regions = described["where"]["credible_regions"]
    files.write_text(folder / REGIONS, _polygons(tile, regions))
  # A line a key: to be read by eyes as well, and not ten times as long.
  lines = (
    f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
    for key, value in described.items()
  )
  # Last, and whole: a folder with it has everything.
  files.write_text(folder / JSON, "{\n" + ",\n".join(lines) + "\n}\n")
  return described


def draw(tile, config, zones):
  """Draws a tile; see `tile_plots.tile_prediction`.

  Args:
    tile: A `tile_predictions.TilePrediction`.
    config: The `configs.GeoTilesConfig` its patches were cut by.
    zones: See `TilePrediction.zone_grid`.

  Returns:
    A matplotlib Figure.
  """
  whole, scene = tile.tile, tile.patches.scene
  rows, cols = tile.patches.chosen.rows, tile.patches.chosen.cols
  size, stride = tile.patches.size, config.patches.stride
  margin = [
    (size - stride) / 2 / (first.max() + size) for first in (rows, cols)
  ]
  return tile_plots.tile_prediction(
    title=tile.patches.tile.path.stem
    + (f", seen {scene.date:%d %B %Y}" if scene.date else ""),
    picture=patches.true_colour(tile.picture),
    place=np.float64(whole.place[0]),
    place_true=tile.place_true,
    cell_levels=tile.cell_levels,
    patch_days=tile.of_patches.day,
    day=float(whole.day[0]),
    day_spread=float(whole.day_spread((0.5,))[0, 0]),
    date_true=scene.date,
    zones_mapped=_mapped_zones(tile, config),
    zones_predicted=zones,
    zones_margin=margin,
    shares_mapped=tile.climate_mapped,
    shares_predicted=whole.climate_probs[0],
    climate_map=climate_maps.load().zones,
  )


def _mapped_zones(tile, config):
  """The climate map over the tile's patches."""
  chosen, size = tile.patches.chosen, tile.patches.size
  height, width = chosen.rows.max() + size, chosen.cols.max() + size
  step = max(1, max(height, width) // _MAPPED_SIDE)
  lat, lon = tile.patches.tile.grid.pixel_to_latlon(
    np.arange(step // 2, height, step)[:, None],
    np.arange(step // 2, width, step)[None, :],
  )
  return climate_maps.load(*config.climate_files).lookup(lat, lon).astype(int)


def _polygons(tile, regions):
  """GeoJSON of the tile's credible regions as described, the largest first.

  A region's last cell belongs to it as a whole, so that its polygon is larger
  than its area by less than a cell.
  """
  return polygons.to_geojson(
    [
      (polygons.of_cells(tile.cell_levels < region["level"]), region)
      for region in reversed(regions)
    ]
  )
