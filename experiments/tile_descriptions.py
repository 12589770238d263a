"""What prediction.json holds of a tile and of its patches, in JSON's types."""

import datetime
import math

import numpy as np

from geojax import cell_regions, climate, encodings, predict, sphere


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
    masses = tile.tile.model_level("coords", predict.LEVELS)
    where["credible_regions"] = _areas(
      cell_regions.credible_area_km2(tile.cell_probs, masses)
    )
  return where


def _climate_set(whole):
  """Zones that hold the true one at the reported level, the likeliest first."""
  inside = whole.climate_sets()[0]
  order = np.argsort(-whole.climate_probs[0])
  return {
    "level": predict.SET_LEVEL,
    "levels": _kind(whole, "climate"),
    "zones": [climate.ZONES[i] for i in order if inside[i]],
  }


def _kind(prediction, task):
  """Which levels are meant, see `Prediction.level_knots`."""
  return "calibrated" if task in prediction.level_knots else "the model's own"


def _areas(areas):
  return [
    {"level": level, "area_km2": _round(area, 0)}
    for level, area in zip(predict.LEVELS, areas, strict=True)
  ]


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
