"""The Core encoder against its definition and JAX's own convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.models import (
  CoreEncoder,
  CoreUnet,
  Linear,
  MultiTaskModel,
  core,
)


def _normal(seed, shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def _num_parameters(module):
  images = jax.ShapeDtypeStruct((1, 64, 64, 10), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), images)
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
  ("size", "encoder", "unet"),
  [
    ("atto", 3_852_676, 3_953_065),
    ("femto", 5_536_644, 5_684_477),
    ("pico", 9_817_636, 10_087_589),
    ("nano", 17_401_476, 16_400_685),
    ("tiny", 32_990_052, 26_114_741),
    ("base", 106_522_404, 61_429_957),
    ("large", 239_397_540, 138_010_277),
    ("huge", 803_792_740, 463_234_997),
  ],
)
def test_every_size_has_the_published_number_of_parameters(size, encoder, unet):
  depths, widths = core.SIZES[size]
  model = MultiTaskModel(CoreEncoder(depths, widths), {"geo": Linear(36)})
  assert _num_parameters(model) == encoder
  assert _num_parameters(CoreUnet(depths, widths)) == unet


def test_encoder_rejects_images_that_vanish_in_pooling():
  encoder = CoreEncoder(depths=(1, 1), widths=(16, 32), patch_size=4)
  with pytest.raises(ValueError, match="at least 16"):
    encoder.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_narrow_widths_are_refused():
  encoder = CoreEncoder(depths=(1,), widths=(8,))
  with pytest.raises(ValueError, match="at least 16"):
    encoder.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_a_block_is_its_definition():
  block = core.CoreBlock(width=32)
  x = _normal(0, (2, 4, 4, 16))
  variables = block.init(jax.random.key(0), x, train=False)
  # Statistics as they stand at the start: mean 0, variance 1.
  p, scale = variables["params"], 1 / np.sqrt(1 + 1e-5)

  def conv(x, kernel, **groups):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=layout, **groups
    )

  h = nn.relu6(x @ p["conv1"]["kernel"] * scale)
  depthwise = p["conv2"]["kernel"][:, :, None]
  h = nn.relu6(conv(h, depthwise, feature_group_count=32) * scale)
  h = conv(h, p["conv3"]["kernel"]) * scale
  gate = nn.relu(h.mean((1, 2)) @ p["squeeze"]["Dense_0"]["kernel"])
  gate = nn.sigmoid(gate @ p["squeeze"]["Dense_1"]["kernel"])
  residual = x @ p["match"]["kernel"] * scale
  expected = nn.relu6(h * gate[:, None, None, :] + residual)
  np.testing.assert_allclose(
    block.apply(variables, x, train=False), expected, atol=1e-5
  )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_encoder_lowers_for_accelerators(platform):
  encoder = CoreEncoder(depths=(1,), widths=(16,), patch_size=4)
  images = jnp.zeros((2, 32, 32, 5))
  variables = encoder.init(jax.random.key(0), images)

  def loss(params, images):
    out, _ = encoder.apply(
      {**variables, "params": params},
      images,
      train=True,
      mutable=["batch_stats"],
    )
    return jnp.sum(out)

  grad = jax.jit(jax.grad(loss))
  jax.export.export(grad, platforms=[platform])(variables["params"], images)


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_bfloat16_computes_close_by_and_keeps_float32(norm):
  def encoder(dtype):
    return CoreEncoder((1, 1), (16, 32), norm=norm, dtype=dtype)

  images = _normal(0, (4, 8, 8, 3))
  variables = encoder(jnp.float32).init(jax.random.key(0), images)
  wide = encoder(jnp.float32).apply(variables, images)
  narrow, maps = encoder(jnp.bfloat16).apply(variables, images, stages=True)
  assert narrow.dtype == jnp.float32
  assert maps[0].dtype == jnp.bfloat16
  kinds = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kinds == {jnp.dtype("float32")}
  assert 0 < float(jnp.max(jnp.abs(narrow - wide))) < 0.05


def test_gradient_checkpointing_changes_no_gradient():
  def gradient(remat):
    encoder = CoreEncoder((1,), (32,), remat=remat)
    images = _normal(0, (2, 8, 8, 3))
    variables = encoder.init(jax.random.key(0), images)

    def loss(params):
      y, _ = encoder.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats"],
      )
      return jnp.sum(y**2)

    return jax.jit(jax.grad(loss))(variables["params"]), jax.make_jaxpr(
      jax.grad(loss)
    )(variables["params"])

  kept, _ = gradient(remat=False)
  computed, program = gradient(remat=True)
  assert "checkpoint" in str(program) or "remat" in str(program)
  for a, b in zip(
    jax.tree.leaves(kept), jax.tree.leaves(computed), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_features_are_reachable_pooled_and_by_stage():
  encoder = CoreEncoder((1, 2), (16, 32), patch_size=2)
  model = MultiTaskModel(encoder, {"climate": Linear(31)})
  images = _normal(0, (2, 16, 24, 3))
  variables = model.init(jax.random.key(0), images)
  features, maps = model.apply(
    variables, images, stages=True, method="features"
  )
  assert [m.shape for m in maps] == [(2, 8, 12, 16), (2, 4, 6, 32)]
  climate = variables["params"]["climate"]
  np.testing.assert_allclose(
    features @ climate["kernel"] + climate["bias"][None],
    model.apply(variables, images)["climate"],
    rtol=1e-5,
    atol=1e-5,
  )


def test_the_u_maps_to_every_pixel_and_encodes():
  images = _normal(0, (2, 16, 8, 3))
  unet = CoreUnet((1, 1), (32, 64), num_outputs=5)
  outputs, maps = unet.apply(
    unet.init(jax.random.key(0), images), images, stages=True
  )
  assert outputs.shape == (2, 16, 8, 5)
  assert [m.shape for m in maps] == [(2, 8, 4, 16), (2, 16, 8, 16)]
  encoder = CoreUnet((1, 1), (32, 64), num_outputs=None)
  features, _ = encoder.init_with_output(jax.random.key(0), images)
  assert features.shape == (2, 16)


def test_the_u_says_which_sides_it_takes():
  with pytest.raises(ValueError, match="no multiples of 4"):
    CoreUnet((1, 1), (32, 64)).init(jax.random.key(0), jnp.zeros((1, 10, 8, 3)))


def test_unknown_norms_and_excitations_are_refused():
  images = jnp.zeros((1, 8, 8, 3))
  for wrong in ({"norm": "instance"}, {"excitation": "square"}):
    with pytest.raises(ValueError, match="must be one of"):
      CoreEncoder((1,), (16,), **wrong).init(jax.random.key(0), images)
