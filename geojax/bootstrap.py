"""How sure a figure is: bootstrap intervals over places, not over patches.

Patches of one place share its look: drawn one by one they would seem to say
more than they do. So whole neighbourhoods are drawn, with all their patches.
"""

import numpy as np
from scipy import sparse

from geojax import climate, metrics, sphere

# Neighbourhoods of about 110 km, the width of a Sentinel-2 tile.
_NUM_CELLS = 40_000
_NUM_RESAMPLES = 200
_NUM_RANKS = 4096


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
  # Those of a small group are few of all.
  present, neighbourhood = np.unique(neighbourhood[where], return_inverse=True)
  weights = np.ascontiguousarray(weights[:, present].T)
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
  size, num_resamples = weights.shape
  counted = {"": np.ones(len(neighbourhood)), **values}
  sums = [np.bincount(neighbourhood, v, size) for v in counted.values()]
  drawn, *totals = np.stack(sums) @ weights
  nothing = np.full(num_resamples, np.nan)
  return {
    name: np.divide(total, drawn, out=nothing.copy(), where=drawn > 0)
    for name, total in zip(values, totals, strict=True)
  }


def _medians(values, weights, neighbourhood):
  """Medians of each resample: where half of the weight is reached.

  Of more values than `_NUM_RANKS`, neighbours in rank stand for one another.
  """
  count = len(values)
  if not count:
    return np.full(weights.shape[1], np.nan)
  order = np.argsort(values)
  ranks = min(count, _NUM_RANKS)
  drawn = _drawn(
    np.arange(count) * ranks // count, neighbourhood[order], weights, ranks
  )
  reached = np.cumsum(drawn, axis=0)
  middle = np.argmax(reached >= reached[-1:] / 2, axis=0)
  of_rank = values[order][(2 * np.arange(ranks) + 1) * count // (2 * ranks)]
  return np.where(reached[-1] > 0, of_rank[middle], np.nan)


def _macro_f1(examples, weights, neighbourhood):
  """Macro F1 of each resample."""
  zones = len(climate.ZONES)
  pair = examples["zone_true"] * zones + examples["zone"]
  drawn = _drawn(pair, neighbourhood, weights, zones**2)
  return np.array(
    [metrics.macro_f1(each.reshape(zones, zones)) for each in drawn.T]
  )


def _drawn(kind, neighbourhood, weights, num_kinds):
  """How often each resample drew each kind, `[kinds, resamples]`.

  As a product with a sparse matrix, since most kinds live in few
  neighbourhoods.
  """
  counts = sparse.csr_array(
    (np.ones(len(kind), np.float32), (kind, neighbourhood)),
    shape=(num_kinds, len(weights)),
  )
  return counts @ weights
