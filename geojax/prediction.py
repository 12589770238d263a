"""What a run says of patches: places, climates, days, and how sure of them."""

import dataclasses
import functools

import jax
import numpy as np
from scipy import integrate, special

from geojax import cell_regions, encodings, mixture, sphere

LEVELS = (0.5, 0.8, 0.95)

# By its land a patch counts for where and when; not even one of open sea counts
# nothing, or a tile of them would have no answer.
_LEAST_LAND = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """What a run says of patches, a row each.

  Attributes:
    place: Unit vectors by the decoder of the run's config, `[n, 3]`.
    climate_probs: Probabilities of the climate zones, `[n, 31]`.
    date_mean: Mean sine and cosine of the day's angle, `[n, 2]`. Its direction
      is the day; the shorter it is, the less sure is the day.
    logits: Logits of the mixture, over its temperature, `[n, centers]`; None of
      a run that regresses coordinates.
    mu: Centers of the mixture, unit vectors, `[centers, 3]`, or None.
    log_kappa: Logs of their concentrations, `[centers]`, or None.
  """

  place: np.ndarray
  climate_probs: np.ndarray
  date_mean: np.ndarray
  logits: np.ndarray | None = None
  mu: np.ndarray | None = None
  log_kappa: np.ndarray | None = None

  @property
  def lat_lon(self):
    """Latitudes and longitudes of `place` in degrees, each `[n]`."""
    return sphere.unit_to_latlon(self.place)

  @property
  def day(self):
    """Days of the year in [1, 366), shape `[n]`."""
    return encodings.decode_day_of_year((self.date_mean + 1) / 2)

  def day_spread(self, levels=LEVELS):
    """Days before and after `day` that hold shares of the probability.

    What is least wrong by squared error is the mean sine and cosine over all
    days that may be, and its length R tells how far apart these lie. Of the
    distributions with that mean the von Mises is the least committed; R = 0 is
    the uniform one, half of which lies within 91 days.

    Args:
      levels: Shares in (0, 1).

    Returns:
      Days, shape `[n, len(levels)]`.

    References:
      Mardia & Jupp, Directional Statistics, Wiley 2000, section 3.5.4.
    """
    length = np.linalg.norm(self.date_mean, axis=-1)
    lengths, angles = _von_mises_spread(tuple(levels))
    turns = [np.interp(length, lengths, angle) for angle in angles.T]
    return np.stack(turns, axis=-1) * encodings.DAYS_PER_YEAR / (2 * np.pi)

  @property
  def land(self):
    """By how much each patch counts for where and when, `[n]`.

    Its predicted share of land: neither can be read off open water, nor did
    training ask for it.
    """
    return np.maximum(1 - self.climate_probs[:, 0], _LEAST_LAND)

  def log_prob(self, x):
    """Log densities at places, nats per steradian.

    Args:
      x: Unit vectors, shape `[n, 3]`.

    Returns:
      Shape `[n]`.

    Raises:
      ValueError: If the run regresses coordinates.
    """
    return np.asarray(_log_prob(x, *self._mixture()))

  def credible_level(self, x):
    """Least credible level whose region holds a place.

    Args:
      x: Unit vectors, shape `[n, 3]`.

    Returns:
      Values in [0, 1], shape `[n]`.

    Raises:
      ValueError: If the run regresses coordinates.
    """
    return np.asarray(_credible_level(x, *self._mixture()))

  def probability_map(self, num_cells):
    """Probabilities of the cells of `sphere.equal_area_grid`.

    Args:
      num_cells: Number of cells.

    Returns:
      Shape `[n, num_cells]`.

    Raises:
      ValueError: If the run regresses coordinates.
    """
    return np.asarray(_probability_map(*self._mixture(), _cells(num_cells)))

  def credible_area_km2(self, levels=LEVELS, *, num_cells=2**14):
    """Areas of the smallest regions that hold a share of the mass.

    Args:
      levels: Shares in (0, 1).
      num_cells: Cells to lay them out in: 31,000 km^2 each by default.

    Returns:
      Areas in km^2, shape `[n, len(levels)]`.

    Raises:
      ValueError: If the run regresses coordinates.
    """
    logits, *centers = self._mixture()

    def areas(logits):
      # NumPy sorts ten times as fast as XLA does on a CPU.
      maps = np.asarray(_probability_map(logits, *centers, _cells(num_cells)))
      return cell_regions.credible_area_km2(maps, levels)

    return in_batches(areas, logits, min(len(logits), 2**20 // num_cells))

  def _mixture(self):
    if self.logits is None:
      raise ValueError(
        "a run with loss.coords=mse knows one place, and no density"
      )
    return self.logits, self.mu, self.log_kappa


@dataclasses.dataclass(frozen=True)
class Sums:
  """What many patches say together, as sums: they add, then divide once.

  Attributes:
    count: Number of patches.
    land: Sum of `Prediction.land`.
    climate_probs: Sum of them, `[31]`.
    date_mean: Sum by land, `[2]`.
    weight: Sum by land of the mixture's weights `[centers]`; of a regression,
      of unit vectors `[3]`.
    log_weight: Sum by land of the logs of these weights, `[centers]`; of a
      regression 0.
  """

  count: int
  land: float
  climate_probs: np.ndarray
  date_mean: np.ndarray
  weight: np.ndarray
  log_weight: np.ndarray

  def __add__(self, other):
    ours, theirs = (vars(x).values() for x in (self, other))
    return Sums(*(a + b for a, b in zip(ours, theirs, strict=True)))


def sum_up(prediction: Prediction) -> Sums:
  """Sums up patches, to be added to those of others; see `Predictor.combine`.

  Args:
    prediction: Of one patch or more.

  Returns:
    Their `Sums`, float64.
  """
  land = np.float64(prediction.land)
  if prediction.logits is None:
    weight, log_weight = prediction.place, np.zeros((len(land), 1))
  else:
    log_weight = np.asarray(jax.nn.log_softmax(prediction.logits), np.float64)
    weight = np.exp(log_weight)
  return Sums(
    count=len(land),
    land=land.sum(),
    climate_probs=prediction.climate_probs.sum(axis=0, dtype=np.float64),
    date_mean=land @ prediction.date_mean,
    weight=land @ weight,
    log_weight=land @ log_weight,
  )


def in_batches(function, rows, batch_size):
  """Applies a function to some rows at a time; one shape compiles but once.

  Args:
    function: Maps `[batch_size, ...]` to an array, or a tree of arrays, with
      the same leading axis.
    rows: Shape `[n, ...]`, n > 0.
    batch_size: Rows at a time; the last ones are filled up, and cut off again.

  Returns:
    NumPy arrays with a leading axis of n.
  """
  outputs = []
  for start in range(0, len(rows), batch_size):
    index = np.arange(start, start + batch_size)
    # What fills up the last batch is cut off again.
    found = function(rows[np.where(index < len(rows), index, 0)])
    outputs.append(jax.device_get(found))
  return jax.tree.map(
    lambda *parts: np.concatenate(parts)[: len(rows)], *outputs
  )


_log_prob = jax.jit(mixture.log_prob)
_credible_level = jax.jit(mixture.credible_level)
_probability_map = jax.jit(mixture.probability_map)


@functools.lru_cache(maxsize=4)
def _von_mises_spread(levels):
  """Mean resultant lengths, rising, and angles about the mean by level."""
  kappa = np.concatenate([[0.0], np.geomspace(1e-2, 1e5, 300)])
  # Finer by far than the narrowest is wide.
  angle = np.concatenate([[0.0], np.geomspace(1e-5, np.pi, 4000)])
  density = np.exp(kappa[:, None] * (np.cos(angle) - 1))
  mass = integrate.cumulative_trapezoid(density, angle, axis=1, initial=0)
  mass /= mass[:, -1:]
  angles = [[np.interp(level, row, angle) for level in levels] for row in mass]
  return special.i1e(kappa) / special.i0e(kappa), np.array(angles)


@functools.lru_cache(maxsize=4)
def _cells(num_cells):
  return np.float32(sphere.equal_area_grid(num_cells))
