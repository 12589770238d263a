"""The figures of a run on a split: what metrics.json and the table hold."""

import json
import math
import pathlib

import numpy as np
import pyarrow
from pyarrow import parquet

from geojax import (
  calibration,
  climate,
  encodings,
  files,
  groups,
  metrics,
  sphere,
)

# Masses of the curve of coverage, from nothing to all.
CURVE_MASSES = np.linspace(0, 1, 21)


def compute(examined: dict, train_km: np.ndarray) -> dict:
  """Sums up what `examine.make_examine` returned.

  Args:
    examined: A row a record, NumPy.
    train_km: Distance of each record to the nearest train place.

  Returns:
    What metrics.json holds, but for baselines: the metrics of
    `metrics.summarize` by name; `intervals`, `[low, high]` by name;
    `decoders`, the where metrics by decoder; `doubt`, how honest it is;
    `confusion`, of zones and classes; and `groups`, by kind and name.
  """
  land = examined["is_land"]
  examples = {k: v for k, v in examined.items() if isinstance(v, np.ndarray)}
  intervals, by_group = groups.summarize(examples, examined["label"], train_km)
  found = {**metrics.summarize(examples), "intervals": intervals}
  if "places" in examined:
    found["decoders"] = {
      name: _where(examined, place)
      for name, place in examined["places"].items()
    }
    found["doubt"] = {
      "as_configured": _doubt(examined, land),
      "fitted": _doubt(examined["fitted"], land),
    }
  found["climate_reliability"] = calibration.reliability_curve(
    examined["confidence"][land],
    (examined["zone"] == examined["zone_true"])[land],
  )
  found["confusion"] = {
    "zones": metrics.confusion_matrix(
      examined["zone_true"], examined["zone"], land, len(climate.ZONES)
    ),
    "classes": metrics.confusion_matrix(
      examined["class_true"],
      examined["climate_class"],
      land,
      len(climate.CLASSES),
    ),
  }
  found["groups"] = by_group
  return found


def _where(examined, place):
  """Where metrics of one decoder's places, over land."""
  true = encodings.coordinates_to_unit(
    examined["label"][:, encodings.COORDS].astype(np.float64)
  )
  distance_km = sphere.great_circle_km(place, true)[examined["is_land"]]
  values = metrics.where_values(distance_km)
  means = {name: float(np.mean(value)) for name, value in values.items()}
  return {"median_km": float(np.median(distance_km)), **means}


def _doubt(examined, land):
  """Coverage and area of regions, and the nll, under one temperature."""
  level, area_km2 = examined["credible_level"][land], examined["area_km2"][land]
  covered = calibration.coverage(level, CURVE_MASSES)
  found = {"nll_nats": float(np.mean(examined["nll_nats"][land]))}
  for i, percent in enumerate(metrics.REGIONS_PERCENT):
    inside = calibration.coverage(level, [percent / 100])
    found[f"coverage@{percent}%"] = float(inside[0])
    found[f"area@{percent}%_km2"] = float(np.median(area_km2[:, i]))
  return {
    **found,
    # The mean gap between the two: 0 is honest.
    "coverage_error": float(np.mean(np.abs(covered - CURVE_MASSES))),
    "curve": {"mass": CURVE_MASSES, "coverage": covered},
  }


def write_json(found: dict, path: pathlib.Path) -> None:
  """Writes figures as JSON, whole or not at all; NaN becomes null."""
  text = json.dumps(_plain(found), indent=2, allow_nan=False)
  files.write_text(path, text)


def _plain(value):
  """Dicts, lists and numbers as JSON knows them."""
  if isinstance(value, dict):
    return {name: _plain(item) for name, item in value.items()}
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def write_predictions(
  examined: dict, train_km: np.ndarray, path: pathlib.Path
) -> None:
  """Writes a row a patch as Parquet, in the order of the split.

  Args:
    examined: As of `compute`.
    train_km: Likewise.
    path: The file.
  """
  target = encodings.split_label(examined["label"])
  columns = {"record": np.arange(len(train_km))}
  columns |= _lat_lon("true", encodings.coordinates_to_unit(target["coords"]))
  columns |= _lat_lon("predicted", examined["place"])
  for name, place in examined.get("places", {}).items():
    columns |= _lat_lon(name, place)
  for name in ("distance_km", "nll_nats", "credible_level", "is_land"):
    if name in examined:
      columns[name] = examined[name]
  for i, percent in enumerate(metrics.REGIONS_PERCENT):
    if "area_km2" in examined:
      columns[f"area_{percent}_km2"] = examined["area_km2"][:, i]
  columns["train_km"] = train_km
  zones = np.array(climate.ZONES)
  columns |= {
    "zone_true": zones[examined["zone_true"]],
    "zone_predicted": zones[examined["zone"]],
    "zone_probability": examined["confidence"],
    "day_true": encodings.decode_day_of_year(target["date"]),
    "day_predicted": examined["day"],
    "date_error_days": examined["date_days"],
  }
  table = pyarrow.table(columns)
  shares = pyarrow.FixedSizeListArray.from_arrays(
    examined["climate_probs"].astype(np.float32).ravel(), len(climate.ZONES)
  )
  table = table.append_column("zone_probabilities", shares)
  with files.atomic(path) as temporary:
    parquet.write_table(table, temporary)


def _lat_lon(name, place):
  lat_deg, lon_deg = sphere.unit_to_latlon(place)
  return {f"lat_{name}": lat_deg, f"lon_{name}": lon_deg}
