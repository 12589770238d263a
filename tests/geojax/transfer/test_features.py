"""Features that are pooled over the stages of an encoder."""

import jax
import numpy as np
import tiny_encoder

from geojax import models
from geojax.training import config as config_lib
from geojax.transfer import features


class _Dataset:
  offset = np.full(2, 10.0, np.float32)
  divisor = np.full(2, 4.0, np.float32)
  image_shape = (16, 16, 2)


def test_means_and_deviations_are_those_of_each_map():
  rng = np.random.default_rng(0)
  maps = [rng.normal(size=(3, side, side, 4)) for side in (8, 4)]
  found = features.pool_stages([m.astype(np.float16) for m in maps])
  flat = [m.astype(np.float16).reshape(3, -1, 4).astype(float) for m in maps]
  expected = [f(m, axis=1) for f in (np.mean, np.std) for m in flat]
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, np.concatenate(expected, -1), rtol=1e-4)


def test_a_pooled_encoder_pools_the_maps_of_scaled_images():
  config = config_lib.default_config()
  tiny_encoder.use(config)
  encoder = features.random_encoder(config, _Dataset(), "stages")
  images = np.random.default_rng(1).integers(0, 99, (2, 16, 16, 2))
  model = models.create_model(config.model, {})
  scaled = (images.astype(np.float32) - 10.0) / 4.0
  _, maps = model.apply(
    encoder.variables, scaled, stages=True, method="features"
  )
  expected = features.pool_stages(maps)
  np.testing.assert_allclose(
    encoder.make(stages=False)(images), expected, rtol=1e-4, atol=1e-5
  )
  plain = features.random_encoder(config, _Dataset())
  assert plain.key() != encoder.key()
  found, shapes = encoder.make(stages=True)(images)
  assert found.shape[-1] == maps[-1].shape[-1]
  assert [m.shape for m in shapes] == [m.shape for m in jax.tree.leaves(maps)]
