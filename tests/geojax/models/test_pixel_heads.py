"""Heads that answer for every pixel, frozen encoders, and orders of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import models
from geojax.models import heads
from geojax.training import config as config_lib

RNG = np.random.default_rng(0)


def make_maps(*sides, channels=3):
  return [
    RNG.normal(size=(2, side, side, channels)).astype(np.float32)
    for side in sides
  ]


def test_linear_is_a_1x1_convolution_of_resampled_maps():
  maps = make_maps(8, 4, 2)
  head = heads.PixelLinear(5)
  params = head.init(jax.random.key(0), maps, size=(8, 8))
  found = head.apply(params, maps, size=(8, 8))
  expected = 0.0
  for i, x in enumerate(maps):
    layer = params["params"][f"map{i}"]
    up = jax.image.resize(x, (2, 8, 8, 3), "bilinear")
    expected = expected + np.einsum("bhwc,co->bhwo", up, layer["kernel"])
  expected = expected + params["params"]["map0"]["bias"][None, None, None]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert "bias" not in params["params"]["map1"]


@pytest.mark.parametrize("order", [(8, 4, 2), (2, 4, 8), (4, 4)])
def test_pyramid_takes_maps_in_any_order(order):
  maps = make_maps(*order)
  head = heads.Pyramid(5, width=8)
  params = head.init(jax.random.key(0), maps, size=(16, 16))
  found = head.apply(params, maps, size=(16, 16))
  assert found.shape == (2, 16, 16, 5)
  # Each map reaches the outputs.
  for i in range(len(maps)):
    changed = [m + (j == i) for j, m in enumerate(maps)]
    other = head.apply(params, changed, size=(16, 16))
    assert not np.allclose(found, other)


def make_model(frozen):
  config = config_lib.default_config().model
  config.depths, config.widths, config.dropout = (1,), (16,), 0.5
  listed = {"a": heads.Linear(2), "b": heads.PixelLinear(3)}
  return models.create_model(config, listed, frozen=frozen)


def test_a_frozen_encoder_computes_as_in_evaluation_without_gradient():
  images = RNG.normal(size=(4, 8, 8, 2)).astype(np.float32)
  variables = make_model(False).init(jax.random.key(0), images)

  def outputs(params, frozen, train):
    return make_model(frozen).apply(
      {**variables, "params": params},
      images,
      train=train,
      rngs={"dropout": jax.random.key(1)},
      mutable=["batch_stats"],
    )

  found, updates = outputs(variables["params"], True, True)
  expected, _ = outputs(variables["params"], False, False)
  for name in ("a", "b"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
  assert jax.tree.all(
    jax.tree.map(
      lambda a, b: bool((a == b).all()),
      updates["batch_stats"],
      variables["batch_stats"],
    )
  )

  def loss(params):
    found, _ = outputs(params, True, True)
    return sum(jnp.sum(x**2) for x in found.values())

  grads = jax.grad(loss)(variables["params"])
  assert all(not x.any() for x in jax.tree.leaves(grads["encoder"]))
  assert all(x.any() for name in "ab" for x in jax.tree.leaves(grads[name]))


@pytest.mark.parametrize(
  ("name", "keys", "first", "last"),
  [
    ("core", {"depths": (1, 2), "widths": (16, 16)}, "stem", "stage1_block1"),
    ("core_unet", {"depths": (1, 1), "widths": (32, 32)}, "stem", "head_block"),
    ("vit", {"size": "ti", "patch_size": 8}, "patches", "norm"),
  ],
)
def test_layers_are_counted_from_the_heads(name, keys, first, last):
  config = config_lib.default_config().model
  config.name = name
  config.update(keys)
  encoder = models.create_encoder(config)
  shapes = jax.eval_shape(
    encoder.init, jax.random.key(0), jnp.zeros((1, 16, 16, 2))
  )
  modules = list(shapes["params"])
  above = models.layers_above(name, modules)
  assert set(above) == set(modules)
  assert above[last] == 0
  assert above[first] == max(above.values())
  if name == "vit":
    assert above["block11"] == 1
    assert above["block2"] == 10
  if name == "core_unet":
    assert above["bridge"] > above["up0_gate"] > above["up1_match"]
  with pytest.raises(ValueError, match=r"without an order of its layers x"):
    models.layers_above(name, [*modules, "x"])
