"""Features of a data set's splits by an encoder, computed once and kept."""

import hashlib
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from geojax import models
from geojax.training import compilation, pipeline
from geojax.training import step as step_lib
from geojax.transfer import baselines

# Train patches that random convolutions are drawn from.
_NUM_PATCHES = 2048


class Encoder:
  """An encoder's features.

  Attributes:
    name: Its name in the results.
    config: A training config, of which `model` is read.
    variables: `{"params", "batch_stats"}` of the model.
    pooling: "encoder", the features that heads read, or "stages", see
      `pool_stages`.
  """

  def __init__(self, name, config, variables, dataset, pooling="encoder"):
    """Args: see the attributes; dataset: a `dataset.Dataset`."""
    self.name, self.config, self.variables = name, config, variables
    self.pooling = pooling
    self._scale = {"offset": dataset.offset, "divisor": dataset.divisor}

  def key(self):
    """What the features depend on, as a digest."""
    digest = hashlib.blake2b(
      json.dumps([self.config.model.to_dict(), self.pooling]).encode(),
      digest_size=8,
    )
    for leaf in jax.tree.leaves(self.variables):
      digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()

  def make(self, stages):
    """Returns a function of raw images, see `step.make_features`."""
    pools = self.pooling == "stages" and not stages
    features = step_lib.make_features(
      self.config, **self._scale, stages=stages or pools
    )

    def compute(variables, images):
      found = features(variables, images)
      return pool_stages(found[1]) if pools else found

    jitted = jax.jit(compute, compiler_options=compilation.options())
    return lambda images: jitted(self.variables, images)


def pool_stages(maps) -> jax.Array:
  """Means and standard deviations over the pixels of every stage's map.

  Args:
    maps: An encoder's maps, `[batch, rows, columns, channels]`.

  Returns:
    Float32, `[batch, twice the sum of the channels]`.
  """
  wide = [x.astype(jnp.float32) for x in maps]
  return jnp.concatenate(
    [f(x, axis=(1, 2)) for f in (jnp.mean, jnp.std) for x in wide], axis=-1
  )


def random_encoder(config, dataset, pooling="encoder") -> Encoder:
  """The encoder of a config with weights as they are drawn.

  Args:
    config: A training config.
    dataset: A `dataset.Dataset`.
    pooling: See `Encoder`.

  Returns:
    The `Encoder`, the same for the same `config.seed`.
  """
  model = models.create_model(config.model, {})
  images = jnp.zeros((1, *dataset.image_shape))
  variables = jax.jit(lambda key: model.init(key, images, method="features"))(
    jax.random.key(config.seed)
  )
  variables = jax.device_get(variables)
  return Encoder("random", config, variables, dataset, pooling)


class BandStatistics:
  """Mean, deviation, minimum and maximum of each band."""

  name = "band_statistics"

  def __init__(self, dataset):
    """Args: dataset: a `dataset.Dataset`."""
    self._scale = {"offset": dataset.offset, "divisor": dataset.divisor}

  def key(self):
    """See `Encoder`."""
    return "1"

  def make(self, stages):
    """See `Encoder`; there are no maps."""
    del stages
    return lambda images: baselines.band_statistics(
      step_lib.scale_images(images, **self._scale)
    )


class RandomConvolutions:
  """Random convolutions out of whitened train patches, as MOSAIKS."""

  name = "random_convolutions"

  def __init__(self, dataset, seed=0):
    """Args: dataset: a `dataset.Dataset`; seed: of the patches."""
    self._dataset, self._seed = dataset, seed
    self._scale = {"offset": dataset.offset, "divisor": dataset.divisor}

  def key(self):
    """See `Encoder`."""
    return f"1-{self._seed}"

  def make(self, stages):
    """See `Encoder`; there are no maps."""
    del stages
    positions = self._dataset.positions("train", _NUM_PATCHES)
    images = self._dataset.source("train").read(positions)["image"]
    convolve = baselines.fit_random_convolutions(
      np.asarray(step_lib.scale_images(images, **self._scale)), self._seed
    )
    return lambda images: convolve(
      np.asarray(step_lib.scale_images(images, **self._scale))
    )


class Cache:
  """Features by encoder and split, kept in a folder."""

  def __init__(self, folder: pathlib.Path, dataset, batch_size: int):
    """See the class.

    Args:
      folder: Where they are kept.
      dataset: A `dataset.Dataset`.
      batch_size: Patches at a time.
    """
    self._folder, self._dataset = folder, dataset
    self._batch_size = batch_size

  def features(self, encoder, split, positions) -> np.ndarray:
    """Features of records, float32, `[count, features]`.

    Args:
      encoder: An `Encoder`, or another of this module's classes.
      split: Name of a split.
      positions: Positions of the records.
    """
    (found,) = self._read(encoder, split, positions, stages=False)
    return found

  def maps(self, encoder, split, positions) -> list[np.ndarray]:
    """Maps of records by stage, float16, `[count, rows, columns, channels]`.

    Args:
      encoder: An `Encoder`.
      split: Name of a split.
      positions: Positions of the records.
    """
    return self._read(encoder, split, positions, stages=True)

  def _read(self, encoder, split, positions, stages):
    key = hashlib.blake2b(
      json.dumps(
        [encoder.key(), self._dataset.origin(split), list(positions)[-1:]]
        + [len(positions), stages]
      ).encode(),
      digest_size=12,
    ).hexdigest()
    folder = self._folder / f"{encoder.name}_{split}_{key}".replace("/", "_")
    if not folder.exists():
      self._write(encoder, split, positions, stages, folder)
    return [
      np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))
    ]

  def _write(self, encoder, split, positions, stages, folder):
    compute = encoder.make(stages)
    batches = pipeline.eval_batches(
      self._dataset.source(split, ()),
      batch_size=self._batch_size,
      records=positions,
    )
    self._folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=self._folder) as parent:
      temporary = pathlib.Path(parent, "whole")
      temporary.mkdir()
      arrays, done = None, 0
      for batch in batches:
        found = compute(batch["image"])
        parts = found[1] if stages else (found,)
        if arrays is None:
          arrays = [
            np.lib.format.open_memmap(
              temporary / f"{i:02d}.npy",
              "w+",
              np.float16 if stages else np.float32,
              (len(positions), *part.shape[1:]),
            )
            for i, part in enumerate(parts)
          ]
        number = int(batch["mask"].sum())
        for array, part in zip(arrays, parts, strict=True):
          array[done : done + number] = np.asarray(part)[:number]
        done += number
      for array in arrays:
        array.flush()
      temporary.rename(folder)
