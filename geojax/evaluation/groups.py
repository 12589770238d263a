"""Groups of examples: by place, climate, month, and how sure the model is.

A figure over all test patches hides where a model fails; the same figure by
group shows it.
"""

import numpy as np
from scipy import spatial

from geojax import climate, encodings, sphere
from geojax.evaluation import intervals, metrics

# The tropics and the polar circles are where seasons change their look.
LATITUDE_EDGES = (-90.0, -66.5, -45.0, -23.5, 0.0, 23.5, 45.0, 66.5, 90.0)
# From patches of one tile to another continent.
TRAIN_KM_EDGES = (0, 5, 25, 100, 250, 300, 350, 400, 500, 1000, 2500, np.inf)
# By the area of the mixture's own 80 % region.
CERTAINTIES = "surest third", "middle third", "least sure third"
MONTHS = (
  *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
  *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def distance_to_train_km(places, train_places):
  """Distance from each place to the nearest train place.

  Args:
    places: Unit vectors, shape `[count, 3]`; NaN where unknown.
    train_places: Unit vectors, shape `[train, 3]`.

  Returns:
    Distances in km, NumPy float64, NaN where unknown, shape `[count]`.
  """
  distance_km = np.full(len(places), np.nan)
  known = np.isfinite(places).all(axis=-1)
  if known.any() and len(train_places):
    tree = spatial.cKDTree(train_places)
    chord, _ = tree.query(places[known], workers=-1)
    angle = 2 * np.arcsin(np.minimum(chord / 2, 1))
    distance_km[known] = sphere.EARTH_RADIUS_KM * angle
  return distance_km


def month_of_day(day):
  """Month 0 to 11 of days of the year, by the lengths of months.

  Args:
    day: Days from 1, of a year of 365, shape `[count]`; NaN is month -1.

  Returns:
    NumPy integers, shape `[count]`.
  """
  lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
  day = np.asarray(day, np.float64)
  known = np.isfinite(day)
  whole = np.round(np.where(known, day, 1.0)).astype(int)
  # Day 365.6 is the first of January once more.
  whole = (whole - 1) % encodings.DAYS_PER_YEAR + 1
  return np.where(known, np.searchsorted(np.cumsum(lengths), whole), -1)


def masks(table, train_km):
  """Returns which examples belong to each group.

  Args:
    table: A table with the labels `climate`, `coords` and `date` and the
      areas `raw_area_km2`, `[count, 3]`, of a mixture's own 50, 80 and 95 %
      regions, or some of them; kinds of groups that need a missing one are left
      out.
    train_km: Distance to the nearest train place, shape `[count]`.

  Returns:
    By kind of group, `latitude`, `climate`, `train_km`, `month` and, of a
    mixture, `certainty`, booleans of shape `[count]` by name of the group, from
    south to north, near to far, January to December and sure to unsure; empty
    groups are left out.
  """
  known = encodings.known_rows(table)
  kinds = {}
  if "coords" in table:
    lat_deg, _ = encodings.decode_coordinates(table["coords"])
    located = np.isfinite(lat_deg)
    kinds["latitude"] = _between(
      lat_deg, LATITUDE_EDGES, _latitude_name, located
    )
  if "climate" in table:
    largest = climate.class_fractions(table["climate"]).argmax(axis=-1)
    kinds["climate"] = {
      name: known["climate"] & (largest == i)
      for i, name in enumerate(climate.CLASSES)
    }
  if "coords" in table:
    kinds["train_km"] = _between(
      train_km, TRAIN_KM_EDGES, _distance_name, np.isfinite(train_km)
    )
  if "date" in table:
    month = month_of_day(encodings.decode_day_of_year(table["date"]))
    kinds["month"] = {name: month == i for i, name in enumerate(MONTHS)}
  if "raw_area_km2" in table:
    area_km2 = table["raw_area_km2"][:, 1]
    counts = table["coords_counts"]
    edges = (
      np.quantile(area_km2[counts], [1 / 3, 2 / 3]) if counts.any() else []
    )
    third = np.searchsorted(edges, area_km2)
    kinds["certainty"] = {
      name: counts & (third == i) for i, name in enumerate(CERTAINTIES)
    }
  return {
    kind: {name: mask for name, mask in groups.items() if mask.any()}
    for kind, groups in kinds.items()
  }


def summarize(table, listed, train_km, *, seed=0):
  """Computes metrics by group, with bootstrap intervals.

  Args:
    table: A table with the columns of the metrics and `is_land`.
    listed: The metrics, an iterable of `metrics.Metric`.
    train_km: Distance to the nearest train place, shape `[count]`.
    seed: Seed of the bootstrap.

  Returns:
    `intervals` over all examples, see `metrics.with_intervals`; and by kind and
    name of the group its metrics, with their `intervals` as an entry. Groups
    without land are left out.
  """
  if "coords" in table:
    places = encodings.coordinates_to_unit(np.float64(table["coords"]))
  else:
    places = np.full((len(train_km), 3), np.nan)
  draws = intervals.draw(places, seed=seed)
  reported = [metric for metric in listed if metric.in_report]

  def of_group(mask):
    return {
      **metrics.summarize(table, reported, mask),
      "intervals": metrics.with_intervals(table, reported, draws, mask),
    }

  by_group = {
    kind: {
      name: of_group(mask)
      for name, mask in groups.items()
      if np.any(mask & table["is_land"])
    }
    for kind, groups in masks(table, train_km).items()
  }
  return metrics.with_intervals(table, reported, draws), by_group


def _between(values, edges, name_of, known):
  """Groups of values between edges; the last holds its upper edge too."""
  index = np.searchsorted(edges, values, side="right") - 1
  index = np.where(known, np.clip(index, 0, len(edges) - 2), -1)
  return {name_of(*edges[i : i + 2]): index == i for i in range(len(edges) - 1)}


def _latitude_name(south, north):
  def name(lat_deg):
    side = "N" if lat_deg > 0 else "S" if lat_deg < 0 else ""
    return f"{abs(lat_deg):g}{side}"

  return f"{name(south)} to {name(north)}"


def _distance_name(near, far):
  return f"{near} to {far} km" if np.isfinite(far) else f"over {near} km"
