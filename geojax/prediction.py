"""Predictions of patches: places, climates, days, and their uncertainty."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np

from geojax import cell_regions, circular, encodings, mixture, sphere
from geojax.evaluation import conformal
from geojax.tasks import climate as climate_task

LEVELS = (0.5, 0.8, 0.95)
SET_LEVEL = climate_task.SET_LEVEL

# A floor of the land weight, so that a tile of open sea still has an answer.
_LEAST_LAND = 1e-6


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Predictions of patches, a row each.

  Attributes:
    columns: Arrays by name, `[n, ...]`: what the tasks of the run return. Of
      coords `place`, unit vectors by the decoder of the run's config, `[n, 3]`,
      and of a mixture `logits`, over its temperature, `[n, centers]`; with a
      background its logit is the last, and its weight `background_weight`,
      `[n]`. Of climate `climate_probs` `[n, 31]`; of date `date_mean`, mean
      sine and cosine of the day's angle, `[n, 2]`, which is shorter for a less
      certain day.
    mu: Centers of the mixture, unit vectors, `[centers, 3]`, or None. A
      background is a center without concentration, the last.
    log_kappa: Logs of their concentrations, `[centers]`, or None.
    level_knots: By task, how its levels are calibrated, see
      `evaluation.conformal`. Levels of other tasks are the model's own, which
      `dataclasses.replace(prediction, level_knots={})` gives for all.
  """

  columns: Mapping[str, np.ndarray]
  mu: np.ndarray | None = None
  log_kappa: np.ndarray | None = None
  level_knots: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )

  def __len__(self):
    return len(next(iter(self.columns.values())))

  @property
  def place(self):
    """Predicted places, unit vectors, `[n, 3]`."""
    return self._column("place", "coords")

  @property
  def lat_lon(self):
    """Latitudes and longitudes of `place` in degrees, each `[n]`."""
    return sphere.unit_to_latlon(self.place)

  @property
  def logits(self):
    """Logits of the mixture, `[n, centers]`; None of a regression."""
    return self.columns.get("logits")

  @property
  def climate_probs(self):
    """Probabilities of the climate zones, `[n, 31]`."""
    return self._column("climate_probs", "climate")

  @property
  def day(self):
    """Days of the year in [1, 366), shape `[n]`."""
    mean = self._column("date_mean", "date")
    return encodings.decode_day_of_year((mean + 1) / 2)

  def day_spread(self, levels=LEVELS):
    """Days before and after `day` that hold shares of the probability.

    Of a von Mises distribution, see `circular`; half of the uniform one lies
    within 91 days.

    Args:
      levels: Shares in (0, 1).

    Returns:
      Days, shape `[n, len(levels)]`.
    """
    length = np.linalg.norm(self._column("date_mean", "date"), axis=-1)
    masses = self.model_level("date", levels)
    angles = _angle_of_mass(masses[None, :], length[:, None])
    return np.asarray(angles) * encodings.DAYS_PER_YEAR / (2 * np.pi)

  def climate_sets(self, level=SET_LEVEL):
    """Zones that hold the true one with a probability.

    Args:
      level: The probability, in (0, 1).

    Returns:
      Booleans, the likeliest zone's always True, shape `[n, 31]`.
    """
    limit = self.model_level("climate", level)
    return climate_task.zone_levels(self.climate_probs) <= limit

  def model_level(self, task, level):
    """The model's own level at which a calibrated level is served.

    Args:
      task: "coords", "climate" or "date".
      level: Calibrated levels in [0, 1], any shape.

    Returns:
      Float32 levels, the same ones if the task is not calibrated.
    """
    level = np.asarray(level, np.float32)
    return conformal.model_level(level, self.level_knots.get(task))

  def calibrated_level(self, task, level):
    """The calibrated level of one of the model's own: that of `model_level`.

    Args:
      task: "coords", "climate" or "date".
      level: The model's levels in [0, 1], any shape.

    Returns:
      Levels, the same ones if the task is not calibrated.
    """
    return conformal.calibrate(level, self.level_knots.get(task))

  @property
  def land(self):
    """Weight of each patch for where and when, `[n]`: its share of land.

    Neither can be read off open water, nor does training ask for it. 1 of a run
    that predicts no climate.
    """
    if "climate_probs" not in self.columns:
      return np.ones(len(self))
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
      Calibrated levels in [0, 1], shape `[n]`.

    Raises:
      ValueError: If the run regresses coordinates.
    """
    level = np.asarray(_credible_level(x, *self._mixture()))
    return self.calibrated_level("coords", level)

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
    """Areas of credible regions.

    Args:
      levels: Calibrated levels in (0, 1).
      num_cells: Cells to lay them out in: 31,000 km^2 each by default.

    Returns:
      Areas in km^2, shape `[n, len(levels)]`.

    Raises:
      ValueError: If the run regresses coordinates.
    """
    logits, *centers = self._mixture()
    masses = self.model_level("coords", levels)

    def areas(logits):
      # NumPy sorts ten times as fast as XLA does on a CPU.
      maps = np.asarray(_probability_map(logits, *centers, _cells(num_cells)))
      return cell_regions.credible_area_km2(maps, masses)

    return in_batches(areas, logits, min(len(logits), 2**20 // num_cells))

  def _column(self, name, task):
    if name not in self.columns:
      raise ValueError(f"the run has no task {task!r} in config.tasks")
    return self.columns[name]

  def _mixture(self):
    if self.logits is None:
      raise ValueError(
        "a run without coords, or with loss.coords=mse, predicts no density"
      )
    return self.logits, self.mu, self.log_kappa


@dataclasses.dataclass(frozen=True)
class Sums:
  """Sums over patches, of one place and date: add them, then combine.

  Attributes:
    count: Number of patches.
    land: Sum of `Prediction.land`.
    columns: Sums by name: `climate_probs` `[31]`; weighted by land
      `date_mean` `[2]`, `place` `[3]`, and the mixture's weights, `weight`
      `[centers]`, and their logs, `log_weight` `[centers]`.
  """

  count: int
  land: float
  columns: Mapping[str, np.ndarray]

  def __add__(self, other):
    return Sums(
      self.count + other.count,
      self.land + other.land,
      {k: v + other.columns[k] for k, v in self.columns.items()},
    )


def sum_up(prediction: Prediction) -> Sums:
  """Sums up patches; see `Predictor.combine`.

  Args:
    prediction: Of one patch or more.

  Returns:
    Their `Sums`, float64.
  """
  land = np.float64(prediction.land)
  columns = prediction.columns
  sums = {
    name: land @ columns[name]
    for name in ("date_mean", "place")
    if name in columns
  }
  if "climate_probs" in columns:
    sums["climate_probs"] = columns["climate_probs"].sum(
      axis=0, dtype=np.float64
    )
  if prediction.logits is not None:
    log_weight = np.asarray(jax.nn.log_softmax(prediction.logits), np.float64)
    sums["log_weight"] = land @ log_weight
    sums["weight"] = land @ np.exp(log_weight)
  return Sums(count=len(land), land=land.sum(), columns=sums)


def in_batches(function, rows, batch_size):
  """Applies a function to some rows at a time, so that it compiles once.

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
_angle_of_mass = jax.jit(circular.angle_of_mass)


@functools.lru_cache(maxsize=4)
def _cells(num_cells):
  return np.float32(sphere.equal_area_grid(num_cells))
