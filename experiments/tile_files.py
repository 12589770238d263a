"""Predicts tiles, each to files: JSON, picture, regions, GeoTIFF of zones."""

import datetime
import json
import math
import pathlib

import numpy as np
import tqdm

from data_prep import climate_maps, tile_patches, tile_writer, tiles, unseen
from experiments import tile_predictions
from geojax import climate, encodings, files, predict, sphere
from geojax.views import patches, polygons, tile_plots

JSON, PICTURE = "prediction.json", "prediction.png"
REGIONS, ZONES = "credible_regions.geojson", "climate_zones.tif"
_CLIMATE_LEVEL = 0.9

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
    described: See `describe`.

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
    draw(tile, config, zones).savefig(folder / PICTURE, dpi=110)
  described = {"tile": str(tile.patches.tile.path), "combined_by": how}
  if how == "product":
    described["num_independent"] = num_independent
  described |= describe(tile)
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


def describe(tile) -> dict:
  """Describes the predictions of a tile and of its patches in JSON's types.

  Args:
    tile: A `tile_predictions.TilePrediction`.

  Returns:
    A dict: places in degrees, areas in km^2, days from 1 and in days, shares
    from 0 to 1. `where`, `when` and `climate` of the tasks that the run has.
  """
  whole, described = tile.tile, {}
  described["patches"] = {
    "count": len(tile.rows),
    "size": tile.patches.size,
    "left_out": dict(+tile.left_out),
  }
  if "place" in whole.columns:
    described["where"] = _where(tile)
  if "date_mean" in whole.columns:
    (when,) = _dates(whole)
    when["levels"] = _kind(whole, "date")
    if tile.day_true is not None:
      error = encodings.days_apart(whole.day[0], tile.day_true)
      when["truth"] = {
        "day": tile.day_true,
        "date": tile.patches.scene.date.isoformat(),
        "error_days": _round(error, 1),
      }
    described["when"] = when
  described["climate"] = {"mapped": _shares(tile.climate_mapped)}
  if "climate_probs" in whole.columns:
    predicted = {
      "predicted": _shares(whole.climate_probs[0]),
      "set": _climate_set(whole),
    }
    described["climate"] = predicted | described["climate"]
  described["per_patch"] = _per_patch(tile)
  return described


def _where(tile):
  levels, place = tile.cell_levels, tile.place_true
  (where,) = _places(tile.tile)
  where["truth"] = {
    **_place(*sphere.unit_to_latlon(place)),
    "distance_km": _round(sphere.great_circle_km(tile.tile.place[0], place), 1),
  }
  if levels is not None:
    level = tile.tile.credible_level(np.float32(place)[None])
    where["truth"]["credible_level"] = _round(level[0], 3)
    where["levels"] = _kind(tile.tile, "coords")
    where["credible_regions"] = _areas(
      tile.tile.credible_area_km2(num_cells=tile_predictions.NUM_CELLS)[0]
    )
  return where


def _climate_set(whole):
  """Zones that hold the true one at the reported level, the likeliest first."""
  inside = whole.climate_sets(_CLIMATE_LEVEL)[0]
  order = np.argsort(-whole.climate_probs[0])
  return {
    "level": _CLIMATE_LEVEL,
    "levels": _kind(whole, "climate"),
    "zones": [climate.ZONES[i] for i in order if inside[i]],
  }


def _kind(prediction, task):
  """Which levels are meant, see `Prediction.level_knots`."""
  return "calibrated" if task in prediction.level_knots else "the model's own"


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


def _areas(areas):
  return [
    {"level": level, "area_km2": _round(area, 0)}
    for level, area in zip(predict.LEVELS, areas, strict=True)
  ]


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


def _per_patch(tile):
  """Describes each patch: its predictions, and its true place."""
  of_patches, columns = tile.of_patches, tile.of_patches.columns
  described = [
    {"row": int(row), "col": int(col)}
    for row, col in zip(tile.rows, tile.cols, strict=True)
  ]
  if "place" in columns:
    middle = (tile.patches.size - 1) / 2
    true = tile.patches.tile.grid.pixel_to_latlon(
      tile.rows + middle, tile.cols + middle
    )
    distance = sphere.great_circle_km(
      of_patches.place, sphere.latlon_to_unit(*true)
    )
    for i, where in enumerate(_places(of_patches)):
      where["truth"] = {
        **_place(true[0][i], true[1][i]),
        "distance_km": _round(distance[i], 1),
      }
      if tile.areas_km2 is not None:
        where["credible_regions"] = _areas(tile.areas_km2[i])
      described[i]["where"] = where
  if "date_mean" in columns:
    for patch, when in zip(described, _dates(of_patches), strict=True):
      patch["when"] = when
  if "climate_probs" in columns:
    for patch, probs in zip(described, of_patches.climate_probs, strict=True):
      patch["climate"] = _shares(probs)
  return described


def _places(prediction):
  return [_place(*x) for x in zip(*prediction.lat_lon, strict=True)]


def _place(lat, lon):
  return {"lat": _round(lat, 4), "lon": _round(lon, 4)}


def _dates(prediction):
  start = datetime.date(2001, 1, 1)
  return [
    {
      "day": _round(day, 1),
      "month_day": f"{start + datetime.timedelta(math.floor(day) - 1):%m-%d}",
      "spread": [
        {"level": level, "within_days": _round(days, 1)}
        for level, days in zip(predict.LEVELS, spread, strict=True)
      ],
    }
    for day, spread in zip(prediction.day, prediction.day_spread(), strict=True)
  ]


def _shares(fractions):
  """Shares of zones and classes, but for those below a thousandth."""

  def largest_first(names, values):
    pairs = sorted(zip(values, names, strict=True), reverse=True)
    return {name: _round(value, 3) for value, name in pairs if value >= 0.001}

  fractions = np.asarray(fractions)
  return {
    "zones": largest_first(climate.ZONES, fractions),
    "classes": largest_first(
      climate.CLASSES, climate.class_fractions(fractions)
    ),
  }


def _round(value, digits):
  return round(float(value), digits)
