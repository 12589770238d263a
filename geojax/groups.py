"""Where on Earth, in which climate, when and how far from training: groups.

A figure over all test patches hides where a model fails; the same figures by
group show it.
"""

import numpy as np
from scipy import spatial

from geojax import bootstrap, climate, encodings, metrics, sphere

# The tropics and the polar circles are where seasons change their look.
LATITUDE_EDGES = (-90.0, -66.5, -45.0, -23.5, 0.0, 23.5, 45.0, 66.5, 90.0)
# From patches of one tile to another continent.
TRAIN_KM_EDGES = (0, 5, 25, 100, 250, 300, 350, 400, 500, 1000, 2500, np.inf)
MONTHS = (
  *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
  *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def distance_to_train_km(places, train_places):
  """Distance from each place to the nearest place that training saw.

  Args:
    places: Unit vectors, shape `[count, 3]`.
    train_places: Unit vectors, shape `[train, 3]`.

  Returns:
    Distances in km, NumPy float64, shape `[count]`.
  """
  chord, _ = spatial.cKDTree(train_places).query(places, workers=-1)
  return 2 * sphere.EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))


def month_of_day(day):
  """Month 0 to 11 of days of the year, by the lengths of months.

  Args:
    day: Days from 1, of a year of 365, shape `[count]`.

  Returns:
    NumPy integers, shape `[count]`.
  """
  lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
  whole = np.round(np.asarray(day, np.float64)).astype(int)
  # Day 365.6 is the first of January once more.
  whole = (whole - 1) % encodings.DAYS_PER_YEAR + 1
  return np.searchsorted(np.cumsum(lengths), whole)


def masks(labels, train_km):
  """Which group of each kind a patch belongs to.

  Args:
    labels: Geo labels, shape `[count, 36]`.
    train_km: As of `distance_to_train_km`, shape `[count]`.

  Returns:
    By kind of group, `latitude`, `climate`, `train_km` and `month`, booleans
    of shape `[count]` by name of the group, from south to north, near to far
    and January to December; empty groups are left out.
  """
  target = encodings.split_label(np.asarray(labels))
  lat_deg, _ = encodings.decode_coordinates(target["coords"])
  month = month_of_day(encodings.decode_day_of_year(target["date"]))
  climate_class = climate.class_fractions(target["climate"]).argmax(axis=-1)
  kinds = {
    "latitude": _between(lat_deg, LATITUDE_EDGES, _latitude_name),
    "climate": {
      name: climate_class == i for i, name in enumerate(climate.CLASSES)
    },
    "train_km": _between(train_km, TRAIN_KM_EDGES, _distance_name),
    "month": {name: month == i for i, name in enumerate(MONTHS)},
  }
  return {
    kind: {name: mask for name, mask in groups.items() if mask.any()}
    for kind, groups in kinds.items()
  }


def summarize(examples, labels, train_km, *, seed=0):
  """Metrics over all, and by group, with bootstrap intervals.

  Args:
    examples: A dict of NumPy arrays as of `metrics.per_example`.
    labels: Geo labels, shape `[count, 36]`.
    train_km: As of `distance_to_train_km`, shape `[count]`.
    seed: Seed of the bootstrap.

  Returns:
    `intervals` over all land patches, as of `bootstrap.intervals`; and by kind
    and name of the group, metrics over its land patches as of
    `metrics.summarize` with their `intervals` among them. Groups without land
    are left out.
  """
  places = encodings.coordinates_to_unit(
    np.asarray(labels, np.float64)[:, encodings.COORDS]
  )
  weights, neighbourhood = bootstrap.draw_weights(places, seed=seed)
  land = examples["is_land"]
  over_all = bootstrap.intervals(examples, land, weights, neighbourhood)
  by_group = {}
  for kind, groups in masks(labels, train_km).items():
    by_group[kind] = {}
    for name, mask in groups.items():
      if not np.any(mask & land):
        continue
      found = metrics.summarize(examples, mask)
      by_group[kind][name] = {
        **{k: v for k, v in found.items() if not k.endswith("_with_sea")},
        "intervals": bootstrap.intervals(
          examples, mask & land, weights, neighbourhood
        ),
      }
  return over_all, by_group


def _between(values, edges, name_of):
  """Groups of values between edges; the last holds its upper edge too."""
  index = np.searchsorted(edges, values, side="right") - 1
  index = np.clip(index, 0, len(edges) - 2)
  return {name_of(*edges[i : i + 2]): index == i for i in range(len(edges) - 1)}


def _latitude_name(south, north):
  def name(lat_deg):
    side = "N" if lat_deg > 0 else "S" if lat_deg < 0 else ""
    return f"{abs(lat_deg):g}{side}"

  return f"{name(south)} to {name(north)}"


def _distance_name(near, far):
  return f"{near} to {far} km" if np.isfinite(far) else f"over {near} km"
