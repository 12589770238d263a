"""The registry of encoders, and the contract that each of them keeps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from geojax import models
from geojax.training import config as config_lib
from geojax.training import config_check
from geojax.training.errors import ConfigError


class Pooled(nn.Module):
  """Means of the bands, as few lines as an encoder can have."""

  width: int

  @nn.compact
  def __call__(self, images, *, train=False, stages=False):
    pixels = nn.Dense(self.width)(images)
    features = jnp.mean(pixels, axis=(1, 2))
    return (features, (pixels,)) if stages else features


@pytest.fixture
def pooled():
  """Registers one more encoder, as a user's file does."""
  before = dict(models.ENCODERS)

  @models.register("pooled", sizes=("s", "l"), uses=("dtype",))
  def create_pooled(config, *, axis_name=None):
    return Pooled({"s": 4, "l": 8}[config.size])

  yield
  models.ENCODERS.clear()
  models.ENCODERS.update(before)


def _config(**keys):
  config = config_lib.default_config()
  config.model.update(keys)
  return config


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
  "keys",
  [
    {"dtype": "bfloat16", "depths": (1, 1), "widths": (16, 32)},
    {
      "name": "core_unet",
      "dtype": "bfloat16",
      "depths": (1, 1),
      "widths": (32, 32),
    },
    {"name": "vit", "size": "ti", "patch_size": 8, "dtype": "bfloat16"},
  ],
)
def test_encoders_keep_the_contract(keys, train):
  encoder = models.create_encoder(_config(**keys).model)
  images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)

  def apply(images):
    variables = encoder.init(jax.random.key(0), images)
    (features, maps), _ = encoder.apply(
      variables, images, train=train, stages=True, mutable=["batch_stats"]
    )
    alone, _ = encoder.apply(
      variables, images, train=train, mutable=["batch_stats"]
    )
    return features, maps, alone

  features, maps, alone = jax.eval_shape(apply, images)
  assert features.shape[0] == 2
  assert features.ndim == 2
  assert features.dtype == jnp.float32
  assert (alone.shape, alone.dtype) == (features.shape, features.dtype)
  assert isinstance(maps, tuple)
  assert all(len(x.shape) == 4 and x.shape[0] == 2 for x in maps)


def test_a_registered_encoder_is_one_more_choice(pooled):
  config = _config(name="pooled", size="l")
  config_check.check_config(config)
  encoder = models.create_encoder(config.model)
  features, maps = encoder.init_with_output(
    jax.random.key(0), jnp.zeros((2, 4, 4, 3)), stages=True
  )[0]
  assert features.shape == (2, 8)
  assert maps[0].shape == (2, 4, 4, 8)


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"size": "m"}, "unknown size 'm'; those of 'pooled' are s, l"),
    ({"size": "s", "norm": "group"}, "norm is not used where .* 'pooled'"),
    ({"size": "s", "dropout": 0.5}, "dropout is not used where .* 'pooled'"),
    ({"size": "s", "remat": True}, "remat is not used where .* 'pooled'"),
  ],
)
def test_only_the_keys_that_an_encoder_uses_may_change(pooled, keys, message):
  config_check.check_config(_config(name="pooled", size="s", dtype="bfloat16"))
  with pytest.raises(ConfigError, match=message):
    config_check.check_config(_config(name="pooled", **keys))


def test_an_encoder_of_one_size_takes_no_size(pooled):
  models.register("single")(lambda config, *, axis_name: Pooled(2))
  config_check.check_config(_config(name="single"))
  with pytest.raises(ConfigError, match=r"size is not used where .* 'single'"):
    config_check.check_config(_config(name="single", size="nano"))


def test_an_unknown_name_is_refused_with_all_that_there_are(pooled):
  with pytest.raises(ConfigError, match=r"core, core_unet, vit.*, pooled; got"):
    config_check.check_config(_config(name="resnet"))


def test_a_name_is_registered_once(pooled):
  with pytest.raises(ValueError, match="'pooled' already"):
    models.register("pooled")(Pooled)


def test_the_axis_reaches_batch_norm():
  for name in ("core", "core_unet"):
    config = _config(name=name).model
    assert models.create_encoder(config, axis_name="i").axis_name == "i"
