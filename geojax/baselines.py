"""What a model has to beat: three predictors that see little or nothing.

Each takes arrays of labels and, the nearest patch, of band statistics, and
returns the metrics of `metrics.summarize` on the test split, and those by group
as `groups` where masks of groups are given. What has to be tuned is tuned on
the validation split.
"""

import math

import numpy as np
from scipy import spatial

from geojax import climate, encodings, metrics, sphere, vmf

_LOG_UNIFORM = -math.log(4 * math.pi)
_KAPPAS = np.exp(np.arange(0.0, 12.5, 0.5))
_UNIFORM_SHARES = (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99)
# Train places are counted on a grid with cells of about 250 km. Samples as
# large as these move a tuned number or a best place no more than the test's
# own noise does.
_NUM_CELLS = 8192
_NUM_TUNING = 1024
_NUM_SAMPLE = 2048


def uniform(test_labels, masks=None):
  """Metrics of guessing uniformly, as exact expectations.

  Uniform over the sphere, over the days, over the 31 zones and over the 6
  classes. Only the F1 depends on the labels: it is that of many patches with
  their frequencies of zones.

  Args:
    test_labels: Geo labels, shape `[n, 36]`.
    masks: Groups of test patches by kind and name, as of `groups.masks`.

  Returns:
    A dict of floats by name, over land patches; and `groups`, where there are
    masks, such a dict by kind and name of the group.
  """
  zone, land = _zones_and_land(test_labels)
  _check_land(land)
  frequency = _zone_frequency(zone[land])
  chance = 1 / len(climate.ZONES)
  radius, scale = sphere.EARTH_RADIUS_KM, metrics.GEOSCORE_SCALE_KM
  # The mean of exp(-r theta) over the density sin(theta)/2 on [0, pi].
  r = radius / scale
  mean_score = (1 + math.exp(-r * math.pi)) / (2 * (1 + r**2))
  return {
    "median_km": radius * math.pi / 2,
    "mean_km": radius * math.pi / 2,
    **{
      f"acc@{km}km": math.sin(km / radius / 2) ** 2 for km in metrics.RADII_KM
    },
    "geoscore": metrics.GEOSCORE_MAX * mean_score,
    "nll_nats": 0.0,
    "climate_accuracy": chance,
    "climate_class_accuracy": 1 / len(climate.CLASSES),
    "climate_top3": 3 * chance,
    "climate_ece": 0.0,
    "climate_macro_f1": float(
      np.mean(2 * frequency * chance / (frequency + chance))
    ),
    "date_mae_days": encodings.DAYS_PER_YEAR / 4,
    "date_median_days": encodings.DAYS_PER_YEAR / 4,
    "count": float(land.sum()),
    **_by_group(masks, land, lambda mask: uniform(test_labels[mask])),
  }


def best_constant(
  train_labels, validation_labels, test_labels, masks=None, *, seed=0
):
  """Metrics of the best answer that ignores the patch.

  For each where metric the place that is best for it on the train split; the
  commonest zone and class; the day of least mean error. The density is that of
  the train places: a kernel at each cell of a grid that holds some, weighed by
  their number, and some uniform density.

  Args:
    train_labels: Geo labels, shape `[n, 36]`.
    validation_labels: Geo labels, shape `[m, 36]`; kernel width and uniform
      share are tuned on them.
    test_labels: Geo labels, shape `[k, 36]`.
    masks: As of `uniform`.
    seed: Seed of the samples that the searches look at.

  Returns:
    A dict of floats by name, as of `metrics.summarize`; and `groups` as of
    `uniform`.
  """
  rng = np.random.default_rng(seed)
  train, test = _land_places(train_labels), _land_places(test_labels)
  zone, land = _zones_and_land(train_labels)
  day = encodings.decode_day_of_year(train_labels[land][:, encodings.DATE])

  counts = np.bincount(
    sphere.equal_area_index(train, _NUM_CELLS), minlength=_NUM_CELLS
  )
  # In float32, which is enough for cells of this size and several times faster.
  cells = sphere.equal_area_grid(_NUM_CELLS)[counts > 0].astype(np.float32)
  weight = (counts[counts > 0] / len(train)).astype(np.float32)

  def density(x, kappa):
    # Far from all cells the sum underflows to 0; the uniform share is there.
    chunks = [
      np.exp(np.float32(kappa) * (part @ cells.T - 1)) @ weight
      for part in np.array_split(x.astype(np.float32), math.ceil(len(x) / 256))
    ]
    with np.errstate(divide="ignore"):
      return np.log(np.concatenate(chunks)) + float(vmf.log_peak(kappa))

  tuning = _sample(rng, _land_places(validation_labels), _NUM_TUNING)
  log_prob = np.full(len(test_labels), _LOG_UNIFORM)
  log_prob[_zones_and_land(test_labels)[1]] = _tuned(density, tuning, test)
  size = len(test_labels)
  examples = metrics.per_example(
    test_labels,
    place=np.broadcast_to(train[0], (size, 3)),
    climate_probs=np.broadcast_to(
      _zone_frequency(zone[land]), (size, len(climate.ZONES))
    ),
    day=np.full(size, _best_day(day)),
    log_prob=log_prob,
  )
  best = _best_places(rng, train)
  places = _places(test_labels)

  def summarize(mask):
    found = metrics.summarize(examples, mask)
    return found | {
      name: float(_where_metrics(place[None], places[mask & is_land])[name][0])
      for name, place in best.items()
    }

  is_land = examples["is_land"]
  everywhere = np.ones_like(is_land)
  return summarize(everywhere) | _by_group(masks, is_land, summarize)


def nearest_patch(train, validation, test, masks=None):
  """Metrics of the train patch whose bands look most alike.

  Alike by Euclidean distance of the bands' means and standard deviations, each
  standardised over the train split. Its place, zones and date are the answer;
  the density is a vMF at its place and some uniform density, width and share
  tuned on validation.

  Args:
    train: A tuple of features as of `band_statistics`, `[n, f]`, and geo
      labels, `[n, 36]`.
    validation: Likewise.
    test: Likewise.
    masks: As of `uniform`.

  Returns:
    A dict of floats by name, as of `metrics.summarize`; and `groups` as of
    `uniform`.
  """
  features, train_labels = train
  mean, std = features.mean(axis=0), features.std(axis=0)
  std = np.where(std > 0, std, 1.0)
  tree = spatial.cKDTree((features - mean) / std)

  def nearest_labels(features):
    _, index = tree.query((features - mean) / std, workers=-1)
    return train_labels[index]

  def pairs(features, labels):
    places = [_places(labels), _places(nearest_labels(features))]
    return np.stack(places, axis=1)

  def density(pairs, kappa):
    chord = pairs[:, 0] - pairs[:, 1]
    return float(vmf.log_peak(kappa)) - kappa / 2 * np.sum(chord**2, axis=-1)

  _, land = _zones_and_land(validation[1])
  _check_land(land)
  log_prob = _tuned(density, pairs(*validation)[land], pairs(*test))
  answer = encodings.split_label(nearest_labels(test[0]))
  examples = metrics.per_example(
    test[1],
    place=encodings.coordinates_to_unit(answer["coords"]),
    climate_probs=answer["climate"],
    day=encodings.decode_day_of_year(answer["date"]),
    log_prob=log_prob,
  )
  return metrics.summarize(examples) | _by_group(
    masks,
    examples["is_land"],
    lambda mask: metrics.summarize(examples, mask),
  )


def band_statistics(images):
  """Mean and standard deviation of each band.

  Args:
    images: Patches, shape `[batch, height, width, bands]`.

  Returns:
    Features, float32, shape `[batch, 2 * bands]`.
  """
  # A band's pixels side by side: summed in a sixth of the time, in pairs.
  bands = np.ascontiguousarray(np.moveaxis(images, -1, 1), np.float32)
  bands = bands.reshape(*bands.shape[:2], -1)
  return np.concatenate([bands.mean(axis=-1), bands.std(axis=-1)], axis=-1)


def _by_group(masks, land, summarize):
  """`groups`, of a function of a mask; those without land are left out."""
  if masks is None:
    return {}

  def over_land(mask):
    found = summarize(mask).items()
    return {k: v for k, v in found if not k.endswith("_with_sea")}

  by_group = {
    kind: {
      name: over_land(mask)
      for name, mask in named.items()
      if np.any(mask & land)
    }
    for kind, named in masks.items()
  }
  return {"groups": by_group}


def _places(labels):
  code = np.asarray(labels, np.float64)[:, encodings.COORDS]
  return encodings.coordinates_to_unit(code)


def _zones_and_land(labels):
  """Largest zone of each patch, and whether it is land."""
  fractions = labels[:, encodings.CLIMATE]
  return fractions.argmax(axis=1), ~encodings.is_sea_patch(fractions)


def _land_places(labels):
  _, land = _zones_and_land(labels)
  _check_land(land)
  return _places(labels[land])


def _check_land(land):
  if not land.any():
    raise ValueError(f"labels must hold land, found none in {len(land)} rows")


def _zone_frequency(zone):
  return np.bincount(zone, minlength=len(climate.ZONES)) / len(zone)


def _sample(rng, rows, size):
  return rng.permutation(rows)[:size]


def _tuned(density, tuning, rows):
  """Log-densities of rows, mixed with uniform, after tuning both numbers.

  `density(rows, kappa)` are the log-densities of rows at a concentration.
  """

  def mixed(log_prob, share):
    return np.logaddexp(
      math.log1p(-share) + log_prob, math.log(share) + _LOG_UNIFORM
    )

  best = -math.inf
  for kappa in _KAPPAS:
    log_prob = density(tuning, kappa)
    for share in _UNIFORM_SHARES:
      score = mixed(log_prob, share).mean()
      if score > best:
        best, best_kappa, best_share = score, kappa, share
  return mixed(density(rows, best_kappa), best_share)


def _best_day(day):
  """The whole day of least mean error around the year."""
  num_days = encodings.DAYS_PER_YEAR
  counts = np.bincount(np.round(day).astype(int) % num_days, minlength=num_days)
  apart = np.abs(np.arange(num_days)[:, None] - np.arange(num_days))
  cost = np.minimum(apart, num_days - apart) @ counts
  return cost.argmin() or num_days  # day 0 is 31 December


def _best_places(rng, train):
  """By where metric the place that is best for it on train, `[3]`."""
  sample = _sample(rng, train, _NUM_SAMPLE).astype(np.float32)
  grid = sphere.equal_area_grid(_NUM_CELLS)
  candidates = np.concatenate([grid, sample]).astype(np.float32)
  scores = [
    _where_metrics(part, sample)
    for part in np.array_split(candidates, len(candidates) // 64)
  ]
  best = {}
  for name in scores[0]:
    score = np.concatenate([part[name] for part in scores])
    index = score.argmin() if name.endswith("_km") else score.argmax()
    best[name] = candidates[index]
  return best


def _where_metrics(answers, places):
  """Where metrics of each constant answer, by name, `[answers]`."""
  distance_km = sphere.great_circle_km(answers[:, None], places)
  values = metrics.where_values(distance_km)
  scores = {name: value.mean(axis=1) for name, value in values.items()}
  return scores | {"median_km": np.median(distance_km, axis=1)}
