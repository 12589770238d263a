"""A trained run as a function: patches in; where, which climate and when out.

  run = predict.load("runs/base")
  found = run.predict(patches)
  found.lat_lon, found.climate_probs, found.day, found.day_spread()

Config, scale, bands and parameters are those of the workdir; the data set that
it was trained on need not be there.
"""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from scipy import integrate, special

from geojax import encodings, mixture, regions, sphere
from geojax.training import config as config_lib
from geojax.training import data_info, loop, sharding
from geojax.training import step as step_lib

LEVELS = (0.5, 0.8, 0.95)

# A batch's pixels by default: few enough for the widest features of the
# encoder to take a few hundred MB.
_PIXELS_PER_BATCH = 2**19
# A row of a tile's patches is weighed by its land; not even one of open sea
# counts nothing, or a tile of them would have no answer.
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
      return regions.credible_area_km2(maps, levels)

    return _in_batches(areas, logits, min(len(logits), 2**20 // num_cells))

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


class Predictor:
  """A trained run; `load` makes it.

  Attributes:
    config: The run's config.
    data: Bands, scale and type of its patches, a `data_info.DataInfo`.
    batch_size: Patches at a time.
  """

  def __init__(self, config, data, variables, mesh, batch_size):
    """See `load`."""
    self.config, self.data, self.batch_size = config, data, batch_size
    self._mesh, self._variables = mesh, variables
    self._forward = jax.jit(
      step_lib.make_forward(config, offset=data.offset, divisor=data.divisor)
    )
    decode = step_lib.make_decode(config)
    self._decode = jax.jit(
      lambda coords, parameters: (
        decode(coords, **parameters)
        if parameters
        else encodings.coordinates_to_unit(coords)
      )
    )
    self._mixture = jax.device_get(variables["params"]["mixture"])

  def forward(self, patches):
    """The model alone, batch by batch; see `predict`.

    Args:
      patches: As of `predict`.

    Returns:
      What `training.step.make_forward` tells, NumPy arrays.

    Raises:
      ValueError: As of `predict`.
    """

    def forward(images):
      batch = sharding.put_batch({"image": images}, self._mesh)
      return self._forward(self._variables, batch["image"])

    return _in_batches(forward, self._checked(patches), self.batch_size)

  def predict(self, patches) -> Prediction:
    """Predicts patches.

    Args:
      patches: Raw values as the run's records hold them, such as reflectance
        times 10,000: shape `[n, patch, patch, bands]`, in the type and order of
        bands of `data`. They are scaled as in training.

    Returns:
      A `Prediction` of `n` rows.

    Raises:
      ValueError: If size, bands or type are others, or there is no patch.
    """
    found = self.forward(patches)
    return self._prediction(
      found["coords"], found["climate_probs"], 2 * found["date"] - 1
    )

  def combine(
    self, sums: Sums, *, how: str = "mean", num_independent: float = 1.0
  ) -> Prediction:
    """Combines patches of one place and date, of a tile, to one answer.

    Climate shares are means over patches. For where and when, a patch counts by
    its share of land. Days go by the mean of sine and cosine. Mixtures share
    their centers, so they combine to a mixture again, of weights that are

    - "mean": the mean of the weights. The mean of the densities: what holds of
      a patch of the tile picked at random.
    - "product": proportional to the product of the weights, each to the power
      of `num_independent` over the number of patches. Each patch bears witness
      to the center that the tile belongs to, all centers alike beforehand;
      patches of one tile resemble each other, so that all of them are worth
      few. 1 is the geometric mean.

    A regression's places are averaged either way.

    Args:
      sums: Of all patches.
      how: "mean" or "product".
      num_independent: For "product", how many independent patches all are
        worth, > 0.

    Returns:
      A `Prediction` of one row.

    Raises:
      ValueError: If `how` is neither, or `num_independent` not above 0.
    """
    if how not in ("mean", "product"):
      raise ValueError(f"how must be mean or product, found {how!r}")
    if not num_independent > 0:
      raise ValueError(f"num_independent must be > 0, found {num_independent}")
    if not self._mixture:
      coords = encodings.encode_coordinates(*sphere.unit_to_latlon(sums.weight))
    elif how == "mean":
      # A weight that no patch gives at all underflows.
      coords = np.log(np.maximum(sums.weight / sums.land, 1e-37))
    else:
      coords = sums.log_weight * (num_independent / sums.land)
    return self._prediction(
      np.float32(coords)[None],
      np.float32(sums.climate_probs / sums.count)[None],
      np.float32(sums.date_mean / sums.land)[None],
    )

  def _prediction(self, coords, climate_probs, date_mean):
    def decode(coords):
      return self._decode(coords, self._mixture)

    return Prediction(
      place=_in_batches(decode, coords, min(len(coords), self.batch_size)),
      climate_probs=climate_probs,
      date_mean=date_mean,
      **({"logits": coords, **self._mixture} if self._mixture else {}),
    )

  def _checked(self, patches):
    patches, data = np.asarray(patches), self.data
    if patches.ndim != 4 or patches.shape[1:] != data.image_shape:
      size, _, bands = data.image_shape
      raise ValueError(
        f"patches must have shape [n, {size}, {size}, {bands}], bands"
        f" {' '.join(data.bands)}; found {list(patches.shape)}"
      )
    if patches.dtype != np.dtype(data.dtype):
      raise ValueError(
        f"patches must be raw {data.dtype}, as the records of {data.name} are;"
        f" found {patches.dtype}"
      )
    if not len(patches):
      raise ValueError("no patch to predict")
    return patches


def load(workdir, *, batch_size: int | None = None) -> Predictor:
  """Loads a trained run, from its workdir alone.

  Args:
    workdir: Folder of the run.
    batch_size: Patches at a time, rounded up to a multiple of the devices; by
      default what makes about 2^19 pixels on each of them.

  Returns:
    The run as a `Predictor`.

  Raises:
    training.errors.ConfigError: There is no trained run in the workdir.
  """
  workdir = pathlib.Path(workdir)
  config = config_lib.load_config(workdir / loop.CONFIG_FILE)
  data = data_info.load(workdir)
  mesh = sharding.create_mesh()
  state = loop.restore_state(config, workdir, data.image_shape, mesh)
  devices = mesh.shape["data"]
  if batch_size is None:
    height, width, _ = data.image_shape
    batch_size = devices * max(1, _PIXELS_PER_BATCH // (height * width))
  batch_size = -(-batch_size // devices) * devices
  return Predictor(config, data, state.evaluated, mesh, batch_size)


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


def _in_batches(function, rows, batch_size):
  """Applies a function to some rows at a time; one shape compiles but once."""
  outputs = []
  for start in range(0, len(rows), batch_size):
    index = np.arange(start, start + batch_size)
    # What fills up the last batch is cut off again.
    found = function(rows[np.where(index < len(rows), index, 0)])
    outputs.append(jax.device_get(found))
  return jax.tree.map(
    lambda *parts: np.concatenate(parts)[: len(rows)], *outputs
  )
