"""The figures of a run on a split: metrics.json and predictions.parquet."""

import json
import math
import pathlib

import numpy as np
import pyarrow
from pyarrow import parquet

from geojax import climate, files, sphere, tasks
from geojax.evaluation import calibration, groups, metrics
from geojax.tasks import coords, coords_metrics

# Masses of the curve of coverage, from nothing to all.
CURVE_MASSES = np.linspace(0, 1, 21)


def compute(
  table: dict,
  task_list,
  fitted: dict,
  train_km: np.ndarray,
  *,
  temperature: float,
) -> dict:
  """Computes what metrics.json holds, but for baselines.

  Args:
    table: A table of the split, with the places of every decoder.
    task_list: The tasks of the run.
    fitted: What the tasks' `fit` returned, by task.
    train_km: Distance of each record to the nearest train place.
    temperature: The mixture's temperature in the config.

  Returns:
    The tasks' metrics by name; `intervals`, `[low, high]` by name; `decoders`,
    the metrics of distance by decoder; `calibration` of a mixture, by
    calibrated levels and by its own, at the temperature as configured and as
    fitted; `climate_reliability`; `confusion`, of zones and
    classes; and `groups`, metrics by kind and name. What needs a task that the
    run has not is missing.
  """
  listed = tasks.all_metrics(task_list)
  intervals, by_group = groups.summarize(table, listed, train_km)
  found = {**metrics.summarize(table, listed), "intervals": intervals}
  if "fitted_nll_nats" in table:
    found["decoders"] = {
      name.removeprefix("place_"): _of_distance(table, table[name])
      for name in table
      if name.startswith("place_") and name != "place_true"
    }
    found["calibration"] = {
      "calibrated": _calibration(table, ""),
      "as_configured": _calibration(table, "raw_"),
      "fitted": _calibration(table, "fitted_"),
      "num_blocks": int(fitted["coords"]["num_blocks"]),
      "temperature": temperature,
      "fitted_temperature": float(fitted["coords"]["temperature"]),
      "validation_nll_nats": dict(
        zip(
          coords.TEMPERATURES.tolist(),
          fitted["coords"]["nll_nats"].tolist(),
          strict=True,
        )
      ),
    }
  if "zone" in table:
    counts = table["climate_counts"] & table["is_land"]
    found["climate_reliability"] = calibration.reliability_curve(
      table["confidence"][counts],
      (table["zone"] == table["zone_true"])[counts],
    )
    found["confusion"] = {
      name: _confusion(table[true][counts], table[predicted][counts], size)
      for name, true, predicted, size in (
        ("zones", "zone_true", "zone", len(climate.ZONES)),
        ("classes", "class_true", "climate_class", len(climate.CLASSES)),
      )
    }
  found["groups"] = by_group
  return found


def _of_distance(table, place):
  """Metrics of distance of one decoder's places."""
  distance_km = sphere.great_circle_km(
    np.float64(place), np.float64(table["place_true"])
  )
  listed = [m for m in coords_metrics.METRICS if m.name != "count"]
  return metrics.summarize({**table, "distance_km": distance_km}, listed)


def _calibration(table, prefix):
  """Coverage and area of regions, and the nll, of one kind of levels."""
  table = {
    **table,
    **{
      name.removeprefix(prefix): value
      for name, value in table.items()
      if name.startswith(prefix)
    },
  }
  level = table["credible_level"][table["coords_counts"]]
  covered = calibration.coverage(level, CURVE_MASSES)
  return {
    **metrics.summarize(table, coords_metrics.DENSITY_METRICS),
    # The mean gap between the two: 0 is calibrated.
    "coverage_error": float(np.mean(np.abs(covered - CURVE_MASSES))),
    "curve": {"mass": CURVE_MASSES, "coverage": covered},
  }


def _confusion(true, predicted, size):
  """Counts, rows true and columns predicted, `[size, size]`."""
  counts = np.zeros((size, size))
  np.add.at(counts, (true, predicted), 1)
  return counts


def write_json(figures: dict, path: pathlib.Path) -> None:
  """Writes figures as JSON, whole or not at all; NaN becomes null."""
  text = json.dumps(_plain(figures), indent=2, allow_nan=False)
  files.write_text(path, text)


def _plain(value):
  """Dicts, lists and numbers that JSON has."""
  if isinstance(value, dict):
    return {name: _plain(item) for name, item in value.items()}
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


# Columns of a table that people read as something else.
_ZONES = {"zone_true": "zone_true", "zone_predicted": "zone"}
_RENAMED = {
  "zone_probability": "confidence",
  "day_true": "day_true",
  "day_predicted": "day",
  "date_error_days": "date_days",
}


# Of regions by calibrated levels, and by the mixture's own.
_PREFIXES = "", "raw_"


def _area_names(prefix):
  return [f"{prefix}area_{p}_km2" for p in coords_metrics.REGIONS_PERCENT]


def write_predictions(
  table: dict, train_km: np.ndarray, path: pathlib.Path
) -> None:
  """Writes a row a patch as Parquet, in the order of the split.

  Args:
    table: See `compute`.
    train_km: Distance of each record to the nearest train place.
    path: The file.
  """
  columns = {"record": np.arange(len(train_km))}
  for name, place in table.items():
    if name == "place" or name.startswith("place_"):
      short = name.removeprefix("place").removeprefix("_") or "predicted"
      lat_deg, lon_deg = sphere.unit_to_latlon(place)
      columns |= {f"lat_{short}": lat_deg, f"lon_{short}": lon_deg}
  for prefix in _PREFIXES:
    if f"{prefix}area_km2" in table:
      names = _area_names(prefix)
      columns |= zip(names, table[f"{prefix}area_km2"].T, strict=True)
  columns["train_km"] = train_km
  zones = np.array(climate.ZONES)
  if "zone" in table:
    columns |= {name: zones[table[zone]] for name, zone in _ZONES.items()}
  columns |= {
    name: table[column] for name, column in _RENAMED.items() if column in table
  }
  # All others of one value a patch, those of other tasks too.
  taken = {*_ZONES.values(), *_RENAMED.values()}
  columns |= {
    name: value
    for name, value in table.items()
    if value.ndim == 1 and name not in taken
  }
  parquet_table = pyarrow.table(columns)
  if "climate_probs" in table:
    shares = pyarrow.FixedSizeListArray.from_arrays(
      table["climate_probs"].astype(np.float32).ravel(), len(climate.ZONES)
    )
    parquet_table = parquet_table.append_column("zone_probabilities", shares)
  with files.atomic(path) as temporary:
    parquet.write_table(parquet_table, temporary)


def read_predictions(path: pathlib.Path) -> dict:
  """Reads what metrics read of a table that `write_predictions` wrote.

  Args:
    path: The file.

  Returns:
    Arrays `[count, ...]` by name of the column, with `lat_true` and `lon_true`,
    NaN where unknown, but without places, labels and probabilities.
  """
  with files.local(path) as local:
    found = parquet.read_table(local)
  table = {
    name: found[name].to_numpy()
    for name in found.column_names
    if name != "zone_probabilities"
  }
  for prefix in _PREFIXES:
    if {*(names := _area_names(prefix))} <= table.keys():
      table[f"{prefix}area_km2"] = np.stack([table.pop(n) for n in names], -1)
  for name, column in _ZONES.items():
    if name in table:
      numbers = [climate.ZONES.index(zone) for zone in table.pop(name)]
      table[column] = np.array(numbers)
  for name, column in _RENAMED.items():
    if name in table:
      table[column] = table.pop(name)
  return table
