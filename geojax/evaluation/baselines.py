"""What a model has to beat: three predictors that see little or nothing.

Labels are dicts of `climate` `[n, 31]`, `coords` `[n, 3]` and `date` `[n, 2]`;
an example counts where `encodings.known_rows` holds. Each baseline returns a
function of a mask, booleans `[n]` or None, that returns its metrics over the
test examples which the mask selects: a dict of floats by name. What has to be
tuned is tuned on the validation split.
"""

import math

import numpy as np
from scipy import spatial

from geojax import cell_regions, climate, encodings, sphere, vmf
from geojax.evaluation import distance

_LOG_UNIFORM = -math.log(4 * math.pi)
_KAPPAS = np.exp(np.arange(0.0, 12.5, 0.5))
_UNIFORM_SHARES = (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99)
# Train places are counted on a grid with cells of about 250 km. Samples as
# large as these move a tuned number or a best place no more than the test's
# own noise does.
_NUM_CELLS = 8192
_NUM_TUNING = 1024
_NUM_SAMPLE = 2048
# Cells of 88 km a side that areas are counted in.
_NUM_AREA_CELLS = 2**16


def uniform(test):
  """Guesses uniformly: exact expectations.

  Uniform over the sphere, over the days, over the 31 zones and over the 6
  classes. Only the F1 depends on the labels: it is that of many patches with
  their frequencies of zones.

  Args:
    test: Labels of the test split.

  Returns:
    A function of a mask, see the module.
  """
  zone, land = _zones(test), _land(test)
  located = encodings.known_rows(test)["coords"]
  chance = 1 / len(climate.ZONES)
  radius, scale = sphere.EARTH_RADIUS_KM, distance.GEOSCORE_SCALE_KM
  # The mean of exp(-r theta) over the density sin(theta)/2 on [0, pi].
  r = radius / scale
  mean_score = (1 + math.exp(-r * math.pi)) / (2 * (1 + r**2))

  def over(mask=None):
    rows = slice(None) if mask is None else mask
    frequency = _frequency(zone[rows][land[rows]])
    f1 = 2 * frequency * chance / (frequency + chance)
    return {
      "median_km": radius * math.pi / 2,
      "mean_km": radius * math.pi / 2,
      **{
        f"acc@{km}km": math.sin(km / radius / 2) ** 2
        for km in distance.RADII_KM
      },
      "geoscore": distance.GEOSCORE_MAX * mean_score,
      "nll_nats": 0.0,
      # Every region of an area is one of the densest.
      **{
        distance.recall_name(exponent): (
          10**exponent / cell_regions.EARTH_AREA_KM2
        )
        for exponent in distance.RECALL_EXPONENTS
      },
      "climate_accuracy": chance,
      "climate_class_accuracy": 1 / len(climate.CLASSES),
      "climate_top3": 3 * chance,
      "climate_ece": 0.0,
      "climate_macro_f1": float(np.mean(f1)),
      "date_mae_days": encodings.DAYS_PER_YEAR / 4,
      "date_median_days": encodings.DAYS_PER_YEAR / 4,
      "count": float(located[rows].sum()),
    }

  return over


def best_constant(train, validation, test, summarize, metrics, *, seed=0):
  """Gives the best answer that ignores the patch.

  For each metric of distance the place that is best for it on the train split;
  the commonest zone and class; the day of least mean error. The density is that
  of the train places: a kernel at each cell of a grid that holds some, weighed
  by their number, and some uniform density.

  Args:
    train: Labels of the train split, or of a sample of it.
    validation: Labels; kernel width and uniform share are tuned on them.
    test: Labels of the test split.
    summarize: Function of test labels and answers, `place` `[n, 3]`,
      `climate_probs` `[n, 31]`, `day`, `log_prob` and `denser_km2`, see
      `mixture.credible_regions`, each `[n]`, that returns a function of a mask.
    metrics: The `metrics.Metric` of `distance_km` alone are looked for in it.
    seed: Seed of the samples that the searches use.

  Returns:
    A function of a mask, see the module.
  """
  rng = np.random.default_rng(seed)
  places = _places(train)
  counts = np.bincount(
    sphere.equal_area_index(places, _NUM_CELLS), minlength=_NUM_CELLS
  )
  # In float32, which is enough for cells of this size and several times faster.
  cells = sphere.equal_area_grid(_NUM_CELLS)[counts > 0].astype(np.float32)
  weight = (counts[counts > 0] / len(places)).astype(np.float32)

  def density(x, kappa):
    # Far from all cells the sum underflows to 0; the uniform share is there.
    chunks = [
      np.exp(np.float32(kappa) * (part @ cells.T - 1)) @ weight
      for part in np.array_split(x.astype(np.float32), math.ceil(len(x) / 256))
    ]
    with np.errstate(divide="ignore"):
      return np.log(np.concatenate(chunks)) + float(vmf.log_peak(kappa))

  tuning = _sample(rng, _places(validation), _NUM_TUNING)
  known = encodings.known_rows(test)["coords"]
  test_places = _all_places(test)
  log_prob, denser_km2 = np.full((2, len(known)), _LOG_UNIFORM)
  if known.any():
    tuned = _tuned(density, tuning)
    log_prob[known] = tuned(test_places[known])
    everywhere = np.sort(tuned(sphere.equal_area_grid(_NUM_AREA_CELLS)))
    denser = len(everywhere) - np.searchsorted(
      everywhere, log_prob[known], side="right"
    )
    cell_km2 = cell_regions.EARTH_AREA_KM2 / len(everywhere)
    denser_km2[known] = denser * cell_km2
  size = len(known)
  over_all = summarize(
    test,
    {
      "place": np.broadcast_to(places[0], (size, 3)),
      "climate_probs": np.broadcast_to(
        _frequency(_zones(train)[_land(train)]), (size, len(climate.ZONES))
      ),
      "day": np.full(size, _best_day(_days(train))),
      "log_prob": log_prob,
      "denser_km2": denser_km2,
    },
  )
  of_distance = [
    m
    for m in metrics
    if m.columns == ("distance_km",) and m.higher_is_better is not None
  ]
  best = _best_places(rng, places, of_distance)

  def over(mask=None):
    counts = known if mask is None else known & mask
    found = over_all(mask)
    if counts.any():
      for metric in of_distance:
        km = sphere.great_circle_km(best[metric.name], test_places[counts])
        found[metric.name] = float(metric.reduction(metric.value(km)))
    return found

  return over


def nearest_patch(train, validation, test, summarize):
  """Gives the labels of the train patch whose bands look most alike.

  Alike by Euclidean distance of the bands' means and standard deviations, each
  standardised over the train split. The density is a vMF at the patch's place
  and some uniform density, width and share tuned on validation.

  Args:
    train: Labels of the train split, or of a sample of it, and `bands`, their
      features `[n, f]`. Patches with an unknown label are left out.
    validation: Labels and `bands` of the validation split.
    test: Labels and `bands` of the test split.
    summarize: See `best_constant`.

  Returns:
    A function of a mask, see the module.
  """
  answers = np.ones(len(train["bands"]), bool)
  for name in _names(train):
    known = np.isfinite(train[name]).all(axis=-1)
    # A label that no patch has is no reason to leave all of them out.
    answers &= known | ~known.any()
  train = {name: value[answers] for name, value in train.items()}
  features = train["bands"]
  mean, std = features.mean(axis=0), features.std(axis=0)
  std = np.where(std > 0, std, 1.0)
  tree = spatial.cKDTree((features - mean) / std)

  def nearest(split):
    _, index = tree.query((split["bands"] - mean) / std, workers=-1)
    return {name: train[name][index] for name in _names(train)}

  def pairs(split):
    places = [_all_places(split), _all_places(nearest(split))]
    return np.stack(places, axis=1)

  def density(pairs, kappa):
    chord = pairs[:, 0] - pairs[:, 1]
    return float(vmf.log_peak(kappa)) - kappa / 2 * np.sum(chord**2, axis=-1)

  known = encodings.known_rows(validation)["coords"]
  _check_some("validation", known)
  answer, of_test = nearest(test), pairs(test)
  tuned = _tuned(density, pairs(validation)[known])
  return summarize(
    test,
    {
      "place": _all_places(answer),
      "climate_probs": answer["climate"],
      "day": encodings.decode_day_of_year(answer["date"]),
      "log_prob": tuned(of_test),
      # The densest places are those nearest to the patch's: a cap.
      "denser_km2": math.pi
      * sphere.EARTH_RADIUS_KM**2
      * np.sum((of_test[:, 0] - of_test[:, 1]) ** 2, axis=-1),
    },
  )


def _names(labels):
  return [name for name in ("climate", "coords", "date") if name in labels]


def _all_places(labels):
  return encodings.coordinates_to_unit(np.asarray(labels["coords"], np.float64))


def _places(labels):
  known = encodings.known_rows(labels)["coords"]
  _check_some("labels", known)
  return _all_places(labels)[known]


def _days(labels):
  known = encodings.known_rows(labels)["date"]
  return encodings.decode_day_of_year(labels["date"][known])


def _zones(labels):
  """Largest zone of each patch."""
  return np.argmax(labels["climate"], axis=-1)


def _land(labels):
  known = encodings.known_rows(labels)["climate"]
  return known & ~encodings.is_sea_patch(labels["climate"])


def _check_some(name, known):
  if not known.any():
    raise ValueError(
      f"{name} must hold land at known places, found none in {len(known)} rows"
    )


def _frequency(zone):
  count = np.bincount(zone, minlength=len(climate.ZONES))
  return count / max(len(zone), 1)


def _sample(rng, rows, size):
  return rng.permutation(rows)[:size]


def _tuned(density, tuning):
  """Function of rows: log-densities, mixed with uniform; both numbers tuned.

  `density(rows, kappa)` are the log-densities of rows at a concentration.
  """

  def mixed(log_prob, share):
    with np.errstate(invalid="ignore"):  # NaN at unknown places
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
  return lambda rows: mixed(density(rows, best_kappa), best_share)


def _best_day(day):
  """The whole day of least mean error around the year; 1 if none is known."""
  num_days = encodings.DAYS_PER_YEAR
  if not len(day):
    return 1
  counts = np.bincount(np.round(day).astype(int) % num_days, minlength=num_days)
  days = np.arange(num_days)
  cost = encodings.days_apart(days[:, None], days) @ counts
  return cost.argmin() or num_days  # day 0 is 31 December


def _best_places(rng, places, metrics):
  """By metric of distance the place that is best for it on train, `[3]`."""
  sample = _sample(rng, places, _NUM_SAMPLE).astype(np.float32)
  grid = sphere.equal_area_grid(_NUM_CELLS)
  candidates = np.concatenate([grid, sample]).astype(np.float32)
  scores = {metric.name: [] for metric in metrics}
  for part in np.array_split(candidates, len(candidates) // 64):
    distance_km = sphere.great_circle_km(part[:, None], sample)
    for metric in metrics:
      score = metric.reduction(metric.value(distance_km))
      scores[metric.name].append(score)
  best = {}
  for metric in metrics:
    score = np.concatenate(scores[metric.name])
    index = score.argmax() if metric.higher_is_better else score.argmin()
    best[metric.name] = candidates[index]
  return best
