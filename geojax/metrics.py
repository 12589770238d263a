"""Metrics: sums and counts that are added, then divided once.

`per_example` says how wrong each decoded prediction is, on NumPy or JAX (under
`jit`); its arrays go either to `summarize`, on the host, or, for means over
more examples than one wants to keep, through `add`, `merge` and `compute`.
"""

import math

import numpy as np

from geojax import calibration, climate, encodings, sphere

# Street, city, region, country and continent (1, 25, 200, 750, 2500): Vo,
# Jacobs & Hays, Revisiting IM2GPS in the Deep Learning Era, ICCV 2017; and what
# lies between.
RADII_KM = (1, 25, 50, 100, 200, 500, 750, 2500)

# Masses of the credible regions whose coverage and area are reported, in %.
REGIONS_PERCENT = (50, 80, 95)

# Haas et al., PIGEON: Predicting Image Geolocations, CVPR 2024.
GEOSCORE_MAX = 5000
GEOSCORE_SCALE_KM = 1492.7


# All others are better the higher they are.
_LOWER_IS_BETTER = ("median_km", "mean_km", "nll_nats", "date_mae_days")


def is_better(name: str, value: float, than: float | None) -> bool:
  """Tells whether a metric is better than another value of it.

  Args:
    name: Its name, as of `summarize`.
    value: The new value; NaN is never better.
    than: The old one; whatever is no NaN is better than None.

  Returns:
    Whether it is.
  """
  if math.isnan(value) or than is None:
    return not math.isnan(value)
  return value < than if name in _LOWER_IS_BETTER else value > than


def per_example(labels, *, place, climate_probs, day, log_prob=None):
  """Compares decoded predictions with their labels.

  Args:
    labels: Geo labels, shape `[batch, 36]`, NumPy or JAX.
    place: Predicted places, unit vectors, shape `[batch, 3]`.
    climate_probs: Predicted probabilities of the zones, `[batch, 31]`.
    day: Predicted days of the year, shape `[batch]`.
    log_prob: Log-densities of the true places in nats per steradian, shape
      `[batch]`, or None of a model that predicts no density.

  Returns:
    A dict of arrays of shape `[batch]`: `distance_km`; `nll_nats` relative to
    uniform, if `log_prob` is given; `zone` and `zone_true`, the likeliest and
    the largest of the 31; `confidence`, the likeliest zone's probability;
    `in_top3`, whether fewer than 3 others are as likely as the true zone;
    `climate_class` and `class_true`, likeliest and largest of the 6 sums;
    `date_days`, the error around the year; `is_land`.

  Raises:
    ValueError: If a shape does not fit.
  """
  xp, labels, place, climate_probs, day = sphere.as_floats(
    labels, place, climate_probs, day
  )
  target = encodings.split_label(labels)
  batch = labels.shape[:-1]
  _check_shape("place", place, (*batch, 3))
  _check_shape("climate_probs", climate_probs, (*batch, len(climate.ZONES)))
  _check_shape("day", day, batch)
  place_true = encodings.coordinates_to_unit(target["coords"])
  day_true = encodings.decode_day_of_year(target["date"])
  zone_true = xp.argmax(target["climate"], axis=-1)
  true_prob = xp.take_along_axis(climate_probs, zone_true[..., None], axis=-1)
  examples = {
    "distance_km": sphere.great_circle_km(place, place_true),
    "zone": xp.argmax(climate_probs, axis=-1),
    "zone_true": zone_true,
    "confidence": xp.max(climate_probs, axis=-1),
    # Ties count against it: an answer of one zone alone has no second.
    "in_top3": xp.sum(climate_probs >= true_prob, axis=-1) <= 3,
    "climate_class": xp.argmax(climate.class_fractions(climate_probs), axis=-1),
    "class_true": xp.argmax(
      climate.class_fractions(target["climate"]), axis=-1
    ),
    "date_days": encodings.days_apart(day, day_true),
    "is_land": ~encodings.is_sea_patch(target["climate"]),
  }
  if log_prob is not None:
    _check_shape("log_prob", log_prob, batch)
    examples["nll_nats"] = relative_to_uniform(log_prob)
  return examples


def relative_to_uniform(log_prob):
  """Nll relative to the uniform density: -(log_prob + log 4 pi), in nats."""
  return -(log_prob + math.log(4 * math.pi))


def geoscore(distance_km):
  """Score of a guess in the game of GeoGuessr: 5000 exp(-d / 1492.7 km)."""
  xp, distance_km = sphere.as_floats(distance_km)
  return GEOSCORE_MAX * xp.exp(-distance_km / GEOSCORE_SCALE_KM)


def add(totals, values, where):
  """Adds a batch to sums and counts.

  Args:
    totals: A dict of `(sum, count)` by name; names it lacks start at 0.
    values: A dict of values by name, each of shape `[batch]`.
    where: Booleans, True where an example counts, shape `[batch]`. What lies
      under the mask, NaN included, has no effect.

  Returns:
    The new dict of `(sum, count)`.
  """
  totals = dict(totals)
  for name, value in values.items():
    xp, value = sphere.as_floats(value)
    _check_shape("where", where, value.shape)
    total, count = totals.get(name, (0.0, 0.0))
    total = total + xp.sum(xp.where(where, value, 0.0))
    totals[name] = total, count + xp.sum(where, dtype=value.dtype)
  return totals


def merge(a, b):
  """Adds the `(sum, count)` of two dicts; either may lack names."""
  merged = dict(a)
  for name, (total, count) in b.items():
    total_a, count_a = a.get(name, (0.0, 0.0))
    merged[name] = total_a + total, count_a + count
  return merged


def compute(totals):
  """Divides sums by counts, as Python floats; NaN where nothing counted."""
  return {
    name: float(total) / float(count) if count else math.nan
    for name, (total, count) in totals.items()
  }


def confusion_matrix(true, predicted, where, num_classes):
  """Counts the examples of each true and predicted class; add to accumulate.

  Args:
    true: True classes, integers in [0, num_classes), shape `[batch]`.
    predicted: Predicted classes, likewise.
    where: Booleans, True where an example counts, shape `[batch]`.
    num_classes: Number of classes.

  Returns:
    Counts, rows true and columns predicted, shape `[classes, classes]`.
  """
  xp = true.__array_namespace__()
  classes = xp.arange(num_classes)
  # A product of one-hot rows, which a device does faster than a scatter.
  rows = (true[:, None] == classes[None, :]) & where[:, None]
  columns = predicted[:, None] == classes[None, :]
  return rows.astype("float32").T @ columns.astype("float32")


def macro_f1(confusion):
  """Mean of F1 = 2 TP / (2 TP + FP + FN) over the classes that occur.

  A class occurs if it is among the true or the predicted ones; one that is
  predicted but never true scores 0. (As of sklearn.metrics.f1_score.)

  Args:
    confusion: Counts as of `confusion_matrix`, shape `[classes, classes]`.

  Returns:
    The mean, a scalar in [0, 1]; NaN where nothing was counted.
  """
  confusion = np.asarray(confusion, np.float64)
  either = confusion.sum(axis=0) + confusion.sum(axis=1)
  occurs = either > 0
  if not occurs.any():
    return math.nan
  return float(np.mean(2 * np.diag(confusion)[occurs] / either[occurs]))


def where_values(distance_km):
  """Values whose means are the where metrics, by name, each `[batch]`."""
  values = {"mean_km": distance_km, "geoscore": geoscore(distance_km)}
  for radius_km in RADII_KM:
    values[f"acc@{radius_km}km"] = distance_km <= radius_km
  return values


def mean_values(examples):
  """Values whose means are metrics.

  Args:
    examples: A dict as of `per_example`, in NumPy; with `credible_level`, of
      the true places, the coverage is among the values.

  Returns:
    A dict of float64 arrays by name of the metric, each `[count]`.
  """
  values = {
    **where_values(examples["distance_km"].astype(np.float64)),
    "date_mae_days": examples["date_days"],
    "climate_accuracy": examples["zone"] == examples["zone_true"],
    "climate_class_accuracy": (
      examples["climate_class"] == examples["class_true"]
    ),
    "climate_top3": examples["in_top3"],
  }
  if "nll_nats" in examples:
    values["nll_nats"] = examples["nll_nats"]
  if "credible_level" in examples:
    for percent in REGIONS_PERCENT:
      inside = examples["credible_level"] <= percent / 100
      values[f"coverage@{percent}%"] = inside
  return {name: value.astype(np.float64) for name, value in values.items()}


def median_values(examples):
  """Values whose medians are metrics.

  Args:
    examples: A dict as of `per_example`, in NumPy; with `area_km2`, of the
      credible regions, `[count, 3]`, the areas are among the values.

  Returns:
    A dict of float64 arrays by name of the metric, each `[count]`.
  """
  values = {
    "median_km": examples["distance_km"],
    "date_median_days": examples["date_days"],
  }
  if "area_km2" in examples:
    for i, percent in enumerate(REGIONS_PERCENT):
      values[f"area@{percent}%_km2"] = examples["area_km2"][:, i]
  return {name: value.astype(np.float64) for name, value in values.items()}


def summarize(examples, where=None):
  """Sums examples up, on the host.

  All over land patches; what ends in `_with_sea` over all patches. NaN where
  no patch counts.

  Args:
    examples: A dict as of `per_example`, of all batches concatenated; more of
      `mean_values` and `median_values` is summed up where it is given.
    where: Booleans, False for rows of padding, shape `[count]`, or None.

  Returns:
    A dict of floats: the names of `mean_values` and `median_values`,
    `climate_macro_f1`, `climate_ece` and `count`; those of the climate, and
    `count`, also `_with_sea`.
  """
  examples = {name: np.asarray(value) for name, value in examples.items()}
  everywhere = np.ones(len(examples["is_land"]), bool)
  if where is not None:
    everywhere = np.asarray(where, bool)
  land = everywhere & examples["is_land"]
  medians = {
    name: float(np.median(value[land])) if land.any() else math.nan
    for name, value in median_values(examples).items()
  }
  means = mean_values(examples)
  climate_means = {k: v for k, v in means.items() if k.startswith("climate_")}
  with_sea = {
    **compute(add({}, climate_means, everywhere)),
    **_climate_figures(examples, everywhere),
  }
  return {
    **medians,
    **compute(add({}, means, land)),
    **_climate_figures(examples, land),
    **{f"{name}_with_sea": value for name, value in with_sea.items()},
  }


def _climate_figures(examples, where):
  """What is no mean over examples: F1, calibration; and the count."""
  confusion = confusion_matrix(
    examples["zone_true"], examples["zone"], where, len(climate.ZONES)
  )
  correct = examples["zone"] == examples["zone_true"]
  return {
    "climate_macro_f1": macro_f1(confusion),
    "climate_ece": calibration.expected_calibration_error(
      examples["confidence"][where], correct[where]
    ),
    "count": float(where.sum()),
  }


def _check_shape(name, x, expected):
  if x.shape != expected:
    raise ValueError(f"{name} must have shape {expected}, found {x.shape}")
