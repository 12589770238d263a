"""From a config to a model."""

import jax
import jax.numpy as jnp
import pytest

from geojax import models
from geojax.training import config as config_lib


def _config(**keys):
  config = config_lib.default_config().model
  config.update(keys)
  return config


@pytest.mark.parametrize(
  ("keys", "features"),
  [
    ({"size": "atto"}, 320),
    ({"depths": (1, 1), "widths": (16, 48)}, 48),
    ({"name": "core_unet", "size": "femto"}, 24),
    ({"name": "vit", "size": "s", "patch_size": 8}, 384),
    ({"dtype": "bfloat16", "norm": "group", "remat": True}, 320),
  ],
)
def test_a_config_makes_its_model(keys, features):
  model = models.create_model(_config(**keys), {"zone": models.Linear(7)})
  images = jax.ShapeDtypeStruct((2, 32, 32, 4), jnp.float32)
  outputs, variables = jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x), images
  )
  assert outputs["zone"].shape == (2, 7)
  head = variables["params"]["zone"]
  assert head["kernel"].shape == (features, 7)


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"name": "resnet"}, "known are core, core_unet, vit"),
    ({"size": "giant"}, "atto, femto"),
    ({"name": "vit"}, "ti, s, b, l"),
    ({"name": "vit", "size": "ti"}, "needs a patch_size"),
    (
      {"name": "vit", "size": "ti", "patch_size": 8, "widths": (8,)},
      "'vit' has none",
    ),
    ({"name": "core_unet", "patch_size": 2}, "patch_size must be 1"),
  ],
)
def test_what_does_not_go_together_is_refused(keys, message):
  with pytest.raises(ValueError, match=message):
    models.create_model(_config(**keys), {})


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
  "keys",
  [
    {"depths": (1, 1), "widths": (16, 32)},
    pytest.param(
      {
        "name": "core_unet",
        "depths": (1, 1),
        "widths": (32, 32),
        "remat": True,
      },
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"name": "vit", "size": "ti", "patch_size": 8}, marks=pytest.mark.slow
    ),
  ],
)
def test_forward_mode_agrees_with_reverse_mode(keys, train):
  encoder = models.create_encoder(_config(**keys))
  images, tangent = jax.random.normal(jax.random.key(0), (2, 2, 16, 16, 3))
  variables = jax.jit(encoder.init)(jax.random.key(1), images)

  @jax.jit
  def loss(images):
    features, _ = encoder.apply(
      variables, images, train=train, mutable=["batch_stats"]
    )
    return jnp.sum(jnp.sin(features))

  _, forward = jax.jvp(loss, (images,), (tangent,))
  reverse = jnp.vdot(jax.grad(loss)(images), tangent)
  assert forward == pytest.approx(float(reverse), rel=1e-3, abs=1e-4)


def test_forward_mode_is_finite_without_optimisations():
  # The compiler then rounds what it computes twice in two ways.
  encoder = models.create_encoder(_config(depths=(1, 1), widths=(16, 32)))
  images, tangent = jax.random.normal(jax.random.key(0), (2, 2, 16, 16, 3))
  variables = jax.jit(encoder.init)(jax.random.key(1), images)

  def encode(images):
    return encoder.apply(variables, images)

  options = {"xla_backend_optimization_level": 0}
  forward = jax.jit(
    lambda *args: jax.jvp(encode, args[:1], args[1:]), compiler_options=options
  )
  assert jnp.isfinite(forward(images, tangent)[1]).all()
