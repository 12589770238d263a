"""What a predicted tile leaves: JSON, a picture, a GeoTIFF of climate zones."""

import datetime
import json
import math

import numpy as np

from data_prep import climate_maps, tile_writer
from geojax import cell_regions, climate, encodings, files, predict, sphere
from geojax.views import patches, tile_plots

JSON, PICTURE, ZONES = "prediction.json", "prediction.png", "climate_zones.tif"

_NO_PATCH = 255
# The climate as mapped is shown at about so many pixels a side.
_MAPPED_SIDE = 300


def write(folder, found, config, *, how, num_independent) -> dict:
  """Writes the three files of a tile.

  Args:
    folder: Where to write them; made if missing.
    found: A `tile_predictions.TilePrediction`.
    config: The `configs.GeoTilesConfig` its patches were cut by.
    how: How patches were combined, for the JSON.
    num_independent: Likewise.

  Returns:
    What the JSON holds.
  """
  folder.mkdir(parents=True, exist_ok=True)
  zones, grid = found.zone_grid(config.patches.stride)
  tile_writer.write_codes(
    folder / ZONES,
    np.where(zones < 0, _NO_PATCH, zones).astype(np.uint8),
    band="climate zone",
    grid=grid,
    date=found.patches.scene.date,
    colors=climate.ZONE_COLORS,
    no_data=_NO_PATCH,
  )
  draw(found, config, zones).savefig(folder / PICTURE, dpi=110)
  combined = {"combined_by": how}
  if how == "product":
    combined["num_independent"] = num_independent
  told = {"tile": str(found.patches.tile.path), **combined}
  told |= describe(found)
  # A line a key: to be read by eyes as well, and not ten times as long.
  lines = (
    f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
    for key, value in told.items()
  )
  # Last, and whole: a folder with it has everything.
  files.write_text(folder / JSON, "{\n" + ",\n".join(lines) + "\n}\n")
  return told


def describe(found) -> dict:
  """Tells in JSON's types what was said of a tile and of its patches.

  Args:
    found: A `tile_predictions.TilePrediction`.

  Returns:
    A dict: places in degrees, areas in km^2, days from 1 and in days, shares
    from 0 to 1.
  """
  tile, levels = found.tile, found.cell_levels
  place = found.place_true
  (where,) = _places(tile)
  where["truth"] = {
    **_place(*sphere.unit_to_latlon(place)),
    "distance_km": _round(sphere.great_circle_km(tile.place[0], place), 1),
  }
  if levels is not None:
    truth = tile.credible_level(np.float32(place)[None])
    where["truth"]["credible_level"] = _round(truth[0], 3)
    where["credible_regions"] = _regions(found.cell_probs, levels)
  (when,) = _dates(tile)
  error = encodings.days_apart(tile.day[0], found.day_true)
  when["truth"] = {
    "day": found.day_true,
    "date": found.patches.scene.date.isoformat(),
    "error_days": _round(error, 1),
  }
  return {
    "patches": {
      "count": len(found.rows),
      "size": found.patches.size,
      "left_out": dict(+found.left_out),
    },
    "where": where,
    "when": when,
    "climate": {
      "predicted": _shares(tile.climate_probs[0]),
      "mapped": _shares(found.climate_mapped),
    },
    "per_patch": _per_patch(found),
  }


def draw(found, config, zones):
  """Draws a tile; see `tile_plots.tile_prediction`.

  Args:
    found: A `tile_predictions.TilePrediction`.
    config: The `configs.GeoTilesConfig` its patches were cut by.
    zones: As of `TilePrediction.zone_grid`.

  Returns:
    A matplotlib Figure.
  """
  tile, scene = found.tile, found.patches.scene
  rows, cols = found.patches.chosen.rows, found.patches.chosen.cols
  size, stride = found.patches.size, config.patches.stride
  margin = [
    (size - stride) / 2 / (first.max() + size) for first in (rows, cols)
  ]
  return tile_plots.tile_prediction(
    title=f"{found.patches.tile.path.stem}, seen {scene.date:%d %B %Y}",
    picture=patches.true_colour(found.picture),
    place=np.float64(tile.place[0]),
    place_true=found.place_true,
    cell_levels=found.cell_levels,
    patch_days=found.of_patches.day,
    day=float(tile.day[0]),
    day_spread=float(tile.day_spread((0.5,))[0, 0]),
    date_true=scene.date,
    zones_mapped=_mapped_zones(found, config),
    zones_predicted=zones,
    zones_margin=margin,
    shares_mapped=found.climate_mapped,
    shares_predicted=tile.climate_probs[0],
    climate_map=climate_maps.load().zones,
  )


def _mapped_zones(found, config):
  """The climate map over the tile's patches."""
  chosen, size = found.patches.chosen, found.patches.size
  height, width = chosen.rows.max() + size, chosen.cols.max() + size
  step = max(1, max(height, width) // _MAPPED_SIDE)
  lat, lon = found.patches.tile.grid.pixel_to_latlon(
    np.arange(step // 2, height, step)[:, None],
    np.arange(step // 2, width, step)[None, :],
  )
  map_files = (config.climate_map, config.legend, config.water_mask)
  return climate_maps.load(*map_files).lookup(lat, lon).astype(int)


def _regions(probabilities, levels):
  """The credible regions: their area, and the cells they are made of."""
  cells = sphere.equal_area_grid(len(probabilities))
  areas = cell_regions.credible_area_km2(probabilities, predict.LEVELS)
  told = []
  for level, area in zip(predict.LEVELS, areas, strict=True):
    lat, lon = sphere.unit_to_latlon(cells[levels < level])
    told.append(
      {
        "level": level,
        "area_km2": _round(area, 0),
        "cell_km2": _round(cell_regions.EARTH_AREA_KM2 / len(cells), 1),
        "cells_lat_lon": np.round(np.stack([lat, lon], 1), 2).tolist(),
      }
    )
  return told


def _per_patch(found):
  """What was said of each patch, beside what is known of it."""
  of_patches, size = found.of_patches, found.patches.size
  middle = (size - 1) / 2
  grid = found.patches.tile.grid
  true = grid.pixel_to_latlon(found.rows + middle, found.cols + middle)
  distance = sphere.great_circle_km(
    of_patches.place, sphere.latlon_to_unit(*true)
  )
  told = []
  for i, (where, when) in enumerate(
    zip(_places(of_patches), _dates(of_patches), strict=True)
  ):
    where["truth"] = {
      **_place(true[0][i], true[1][i]),
      "distance_km": _round(distance[i], 1),
    }
    if found.areas_km2 is not None:
      where["credible_regions"] = [
        {"level": level, "area_km2": _round(area, 0)}
        for level, area in zip(predict.LEVELS, found.areas_km2[i], strict=True)
      ]
    told.append(
      {
        "row": int(found.rows[i]),
        "col": int(found.cols[i]),
        "where": where,
        "when": when,
        "climate": _shares(of_patches.climate_probs[i]),
      }
    )
  return told


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
