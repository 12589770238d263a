"""Bootstrap intervals over places, not over patches.

Patches of one place look alike: drawn one by one, they would make an interval
too narrow. So whole neighbourhoods are drawn, with all their patches.
"""

import dataclasses

import numpy as np
from scipy import sparse

from geojax import sphere

# Neighbourhoods of about 110 km, the width of a Sentinel-2 tile.
_NUM_CELLS = 40_000
_NUM_RESAMPLES = 200
_NUM_RANKS = 4096


@dataclasses.dataclass(frozen=True)
class Draws:
  """Bootstrap resamples of neighbourhoods.

  Attributes:
    weights: How often each resample drew each neighbourhood, float32,
      `[neighbourhoods, resamples]`.
    neighbourhood: Index of each example's neighbourhood, `[count]`.
  """

  weights: np.ndarray
  neighbourhood: np.ndarray

  def of(self, where) -> "Draws":
    """Returns the same resamples of the examples that `where` selects."""
    present, neighbourhood = np.unique(
      self.neighbourhood[where], return_inverse=True
    )
    return Draws(self.weights[present], neighbourhood)

  def means(self, values):
    """Returns the mean of each resample, NaN of an empty one, `[resamples]`."""
    size, num_resamples = self.weights.shape
    sums = [
      np.bincount(self.neighbourhood, weights, size)
      for weights in (np.ones(len(values)), np.asarray(values, np.float64))
    ]
    drawn, total = np.stack(sums) @ self.weights
    nothing = np.full(num_resamples, np.nan)
    return np.divide(total, drawn, out=nothing, where=drawn > 0)

  def sums(self, values):
    """Returns sums over the examples of each resample, `[resamples, numbers]`.

    Args:
      values: Shape `[count, numbers]`.
    """
    ones = np.ones(len(values))
    at = np.arange(len(values)), self.neighbourhood
    shape = len(values), len(self.weights)
    # Sparse, since each example lies in one neighbourhood.
    chosen = sparse.csr_array((ones, at), shape=shape)
    by_neighbourhood = chosen.T @ np.asarray(values, np.float64)
    return self.weights.T @ by_neighbourhood

  def medians(self, values):
    """Returns the median of each resample: where half of its weight is reached.

    Of more values than `_NUM_RANKS`, neighbours in rank stand for one another.
    """
    count = len(values)
    if not count:
      return np.full(self.weights.shape[1], np.nan)
    order = np.argsort(values)
    ranks = min(count, _NUM_RANKS)
    ordered = Draws(self.weights, self.neighbourhood[order])
    drawn = ordered.counts(np.arange(count) * ranks // count, ranks)
    reached = np.cumsum(drawn, axis=0)
    middle = np.argmax(reached >= reached[-1:] / 2, axis=0)
    of_rank = values[order][(2 * np.arange(ranks) + 1) * count // (2 * ranks)]
    return np.where(reached[-1] > 0, of_rank[middle], np.nan)

  def counts(self, kind, num_kinds):
    """Returns how often each resample drew each kind, `[kinds, resamples]`.

    Args:
      kind: Kind of each example, integers in [0, num_kinds), `[count]`.
      num_kinds: Number of kinds.
    """
    # Sparse, since most kinds occur in few neighbourhoods.
    counts = sparse.csr_array(
      (np.ones(len(kind), np.float32), (kind, self.neighbourhood)),
      shape=(num_kinds, len(self.weights)),
    )
    return counts @ self.weights


def draw(places, *, num_resamples=_NUM_RESAMPLES, seed=0) -> Draws:
  """Draws neighbourhoods with replacement, each Poisson(1) times.

  Args:
    places: Unit vectors, shape `[count, 3]`; an unknown place, NaN, is a
      neighbourhood of its own.
    num_resamples: Number of resamples.
    seed: Seed of the draws.

  Returns:
    The `Draws`.
  """
  known = np.isfinite(places).all(axis=-1)
  cells = np.arange(len(places)) + _NUM_CELLS
  cells[known] = sphere.equal_area_index(places[known], _NUM_CELLS)
  return draw_groups(cells, num_resamples=num_resamples, seed=seed)


def draw_groups(group, *, num_resamples=_NUM_RESAMPLES, seed=0) -> Draws:
  """Draws groups with replacement, each Poisson(1) times.

  Args:
    group: Which group each example belongs to, integers, shape `[count]`.
    num_resamples: Number of resamples.
    seed: Seed of the draws.

  Returns:
    The `Draws`, groups for neighbourhoods.
  """
  _, neighbourhood = np.unique(group, return_inverse=True)
  shape = num_resamples, int(neighbourhood.max(initial=-1)) + 1
  weights = np.random.default_rng(seed).poisson(1.0, shape).astype(np.float32)
  return Draws(np.ascontiguousarray(weights.T), neighbourhood)


def percentiles(resamples, mass: float) -> list[float]:
  """Returns the central interval that holds a share of the finite resamples."""
  finite = resamples[np.isfinite(resamples)]
  if not len(finite):
    return [float("nan")] * 2
  tail = 100 * (1 - mass) / 2
  return np.percentile(finite, [tail, 100 - tail]).tolist()
