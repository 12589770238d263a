"""How sure a figure is: bootstrap intervals over places, not over patches.

Patches of one place share its look: drawn one by one they would seem to say
more than they do. So whole neighbourhoods are drawn, with all their patches.
"""

import numpy as np

from geojax import climate, metrics, sphere

# Neighbourhoods of about 110 km, the width of a Sentinel-2 tile.
_NUM_CELLS = 40_000
_NUM_RESAMPLES = 200
_BLOCK = 10_000_000


def draw_weights(places, *, num_resamples=_NUM_RESAMPLES, seed=0):
  """Draws neighbourhoods with replacement, each Poisson(1) times.

  Args:
    places: Unit vectors, shape `[count, 3]`.
    num_resamples: Number of resamples.
    seed: Seed of the draws.

  Returns:
    `weights`, how often each resample drew each neighbourhood, integers of
    shape `[resamples, neighbourhoods]`; and the neighbourhood of each place,
    integers of shape `[count]`.
  """
  cells = sphere.equal_area_index(places, _NUM_CELLS)
  _, neighbourhood = np.unique(cells, return_inverse=True)
  shape = num_resamples, int(neighbourhood.max(initial=-1)) + 1
  weights = np.random.default_rng(seed).poisson(1.0, shape).astype(np.float32)
  return weights, neighbourhood


def intervals(examples, where, weights, neighbourhood, *, mass=0.95):
  """Percentile intervals of the metrics of `metrics.summarize`.

  Args:
    examples: A dict of NumPy arrays as of `metrics.per_example`.
    where: Booleans, True where an example counts, shape `[count]`.
    weights: As of `draw_weights`.
    neighbourhood: Likewise.
    mass: Share of the resamples that the interval holds.

  Returns:
    A dict of `[low, high]` by name: means, medians and `climate_macro_f1`. NaN
    where no resample holds an example.
  """
  examples = {name: value[where] for name, value in examples.items()}
  neighbourhood = neighbourhood[where]
  resampled = {
    **_means(metrics.mean_values(examples), weights, neighbourhood),
    **{
      name: _medians(values, weights, neighbourhood)
      for name, values in metrics.median_values(examples).items()
    },
    "climate_macro_f1": _macro_f1(examples, weights, neighbourhood),
  }
  tail = 100 * (1 - mass) / 2
  found = {}
  for name, values in resampled.items():
    finite = values[np.isfinite(values)]
    found[name] = (
      np.percentile(finite, [tail, 100 - tail]).tolist()
      if len(finite)
      else [float("nan")] * 2
    )
  return found


def _means(values, weights, neighbourhood):
  """Means of each resample, by name, each `[resamples]`."""
  size = weights.shape[1]
  drawn = weights @ np.bincount(neighbourhood, minlength=size)
  means = {}
  for name, value in values.items():
    total = weights @ np.bincount(neighbourhood, value, size)
    nothing = np.full(len(weights), np.nan)
    means[name] = np.divide(total, drawn, out=nothing, where=drawn > 0)
  return means


def _medians(values, weights, neighbourhood):
  """Medians of each resample: where half of the weight is reached."""
  order = np.argsort(values)
  values, neighbourhood = values[order], neighbourhood[order]
  if not len(values):
    return np.full(len(weights), np.nan)
  parts = max(1, len(weights) * len(values) // _BLOCK)
  medians = []
  for part in np.array_split(weights, parts):
    reached = np.cumsum(part[:, neighbourhood], axis=1, dtype=np.float64)
    middle = np.argmax(reached >= reached[:, -1:] / 2, axis=1)
    medians.append(np.where(reached[:, -1] > 0, values[middle], np.nan))
  return np.concatenate(medians)


def _macro_f1(examples, weights, neighbourhood):
  """Macro F1 of each resample."""
  zones = len(climate.ZONES)
  pair = examples["zone_true"] * zones + examples["zone"]
  return np.array(
    [
      metrics.macro_f1(
        np.bincount(pair, row[neighbourhood], zones**2).reshape(zones, zones)
      )
      for row in weights
    ]
  )
