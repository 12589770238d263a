"""A trained model as a function of patches; `geojax.predict` loads it."""

import functools

import jax
import numpy as np

from geojax import prediction, sphere, tasks
from geojax.prediction import Prediction, Sums
from geojax.tasks import coords_serving
from geojax.training import compilation, sharding
from geojax.training import step as step_lib
from geojax.training.errors import ConfigError

# Scaled values are of the order of 1: patches of which a band's median is as
# far off as this are in other units.
_LARGEST_MEDIAN = 100.0
_PIXELS_CHECKED = 4096


class Predictor:
  """A trained model; `load` and `from_pretrained` make it.

  Attributes:
    config: The run's config.
    data: Bands, scale and type of its patches, a `data_info.DataInfo`.
    batch_size: Patches at a time.
    level_knots: By task, how levels are calibrated, see `Prediction`; {} where
      they are the model's own.
  """

  def __init__(
    self, config, data, variables, mesh, batch_size, level_knots=None
  ):
    """Args: variables: Those of the model, `{"params", "batch_stats"}`."""
    self.config, self.data, self.batch_size = config, data, batch_size
    self.level_knots = level_knots or {}
    self._mesh, self._model_variables = mesh, variables
    self._variables = {
      "params": {"model": variables["params"]},
      "batch_stats": variables["batch_stats"],
    }
    task_list = tasks.create_tasks(config, targets=data.targets)
    make_columns = step_lib.make_columns(
      config,
      task_list,
      offset=data.offset,
      divisor=data.divisor,
      extra=("logits",),
    )
    self._columns = jax.jit(
      make_columns, compiler_options=compilation.options()
    )
    self._mixture = jax.device_get(
      coords_serving.served_components(
        self._variables["params"], config.mixture
      )
    )
    self._read_places = jax.jit(
      functools.partial(coords_serving.read_places, options=config.mixture)
    )

  @property
  def bands(self) -> tuple[str, ...]:
    """Names of the bands, in order."""
    return self.data.bands

  @property
  def scale(self) -> np.ndarray:
    """Offset and divisor of each band, `[bands, 2]`, float32.

    The model sees `(value - offset) / divisor` of a raw value.
    """
    return np.stack([self.data.offset, self.data.divisor], axis=-1)

  def features(self, patches, *, stages: bool = False):
    """Encodes patches.

    Args:
      patches: See `predict`.
      stages: Whether to return the encoder's maps too.

    Returns:
      Features, float32, `[n, features]`; with `stages` these and a tuple of
      maps, `[n, rows, columns, channels]`.

    Raises:
      ValueError: See `predict`.
      training.errors.ConfigError: These are several runs, whose features are
        not those of one encoder.
    """
    if "members" in self.config:
      raise ConfigError(
        "several runs have no features in common; give the workdir of one"
      )
    compute = self._make_features(stages)

    def encode(images):
      batch = sharding.put_batch({"image": images}, self._mesh)
      return compute(self._model_variables, batch["image"])

    return prediction.in_batches(
      encode, self._checked(patches), self.batch_size
    )

  @functools.cache  # noqa: B019 - there are two of them.
  def _make_features(self, stages):
    return jax.jit(
      step_lib.make_features(
        self.config,
        offset=self.data.offset,
        divisor=self.data.divisor,
        stages=stages,
      ),
      compiler_options=compilation.options(),
    )

  def predict(self, patches) -> Prediction:
    """Predicts patches.

    Args:
      patches: Raw values as the run's records hold them, such as reflectance
        times 10,000: shape `[n, patch, patch, bands]`, in the type and order of
        bands of `data`. They are scaled as in training.

    Returns:
      A `Prediction` of `n` rows.

    Raises:
      ValueError: Size, bands or type are others, values are in other units, or
        there is no patch.
    """

    def columns(images):
      batch = sharding.put_batch({"image": images}, self._mesh)
      return self._columns(self._variables, batch)

    return Prediction(
      prediction.in_batches(columns, self._checked(patches), self.batch_size),
      **self._mixture,
      level_knots=self.level_knots,
    )

  def combine(
    self, sums: Sums, *, how: str = "mean", num_independent: float = 1.0
  ) -> Prediction:
    """Combines patches of one place and date, of a tile, to one answer.

    Climate shares are means over patches. For where and when, a patch counts by
    its share of land. Days go by the mean of sine and cosine. Mixtures share
    their centers, so they combine to a mixture again, of weights that are

    - "mean": the mean of the weights, the density for a patch drawn from the
      tile at random.
    - "product": proportional to the product of the weights, each to the power
      of `num_independent` over the number of patches: each patch is evidence
      for the center that the tile belongs to, under equal priors. Patches of
      one tile resemble each other, so all of them are worth few. 1 is the
      geometric mean. A background is one of the weights: it may fall below
      `config.mixture.background`.

    A regression's places are averaged either way. Levels of the mean are
    calibrated as those of its patches are; no patch is as sure as a product,
    whose levels are the model's own.

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
    totals = sums.columns
    columns = {}
    if "climate_probs" in totals:
      columns["climate_probs"] = totals["climate_probs"] / sums.count
    if "date_mean" in totals:
      columns["date_mean"] = totals["date_mean"] / sums.land
    if "weight" not in totals and "place" in totals:
      lat_lon = sphere.unit_to_latlon(totals["place"])
      columns["place"] = sphere.latlon_to_unit(*lat_lon)
    columns = {k: np.float32(v)[None] for k, v in columns.items()}
    if "weight" in totals:
      if how == "mean":
        # A weight that no patch gives at all underflows.
        logits = np.log(np.maximum(totals["weight"] / sums.land, 1e-37))
      else:
        logits = totals["log_weight"] * (num_independent / sums.land)
      places = self._read_places(np.float32(logits)[None], **self._mixture)
      columns |= jax.device_get(places)
    knots = self.level_knots if how == "mean" else {}
    return Prediction(columns, **self._mixture, level_knots=knots)

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
    self._check_units(patches)
    return patches

  def _check_units(self, patches):
    pixels = patches.reshape(-1, patches.shape[-1])
    some = pixels[:: -(-len(pixels) // _PIXELS_CHECKED)].astype(np.float64)
    data = self.data
    for band, values, (offset, divisor) in zip(
      data.bands, some.T, data.scale, strict=True
    ):
      values = values[np.isfinite(values)]
      median = np.median(values) if len(values) else offset
      if abs(median - offset) > _LARGEST_MEDIAN * divisor:
        raise ValueError(
          f"band {band} has the median {median:g}, but was trained on values"
          f" of about {offset:g} to {offset + divisor:g}: patches must be in"
          f" the units of the records of {data.name}"
        )
