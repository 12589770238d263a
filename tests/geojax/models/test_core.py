"""The Core encoder against its definition and JAX's own convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.models import CoreEncoder, GeographicModel, core


def _normal(seed, shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def test_core_atto_has_the_published_number_of_parameters():
  class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(36)(CoreEncoder()(x))

  images = jax.ShapeDtypeStruct((1, 64, 64, 10), jnp.float32)
  variables = jax.eval_shape(Classifier().init, jax.random.key(0), images)
  sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
  assert sum(sizes) == 3_852_676


def _native_depthwise(x, kernel):
  return jax.lax.conv_general_dilated(
    x,
    kernel[:, :, None, :],
    (1, 1),
    "SAME",
    feature_group_count=x.shape[-1],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7)])
def test_depthwise_convolution_and_gradients_equal_the_native_one(size):
  x, kernel = _normal(0, (3, *size, 6)), _normal(1, (3, 3, 6))
  weights = _normal(2, x.shape)

  def loss(conv):
    return lambda x, kernel: jnp.sum(conv(x, kernel) ** 2 * weights)

  np.testing.assert_allclose(
    core.depthwise_conv_3x3(x, kernel), _native_depthwise(x, kernel), atol=1e-5
  )
  ours = jax.jit(jax.grad(loss(core.depthwise_conv_3x3), (0, 1)))(x, kernel)
  native = jax.grad(loss(_native_depthwise), (0, 1))(x, kernel)
  for a, b in zip(ours, native, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_max_pool_is_the_window_reduction_and_leaves_an_odd_edge_out():
  x = _normal(0, (2, 5, 6, 3))
  window = nn.max_pool(x, (2, 2), strides=(2, 2), padding="VALID")
  np.testing.assert_array_equal(core.max_pool_2x2(x), window)


def test_space_to_depth_keeps_each_square_together():
  x = _normal(0, (2, 4, 6, 3))
  folded = core.space_to_depth(x, 2)
  assert folded.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(folded[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))


def test_space_to_depth_says_what_does_not_divide():
  with pytest.raises(ValueError, match=r"30 x 32 .* 4 x 4"):
    core.space_to_depth(jnp.zeros((1, 30, 32, 3)), 4)


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

  def conv(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  h = nn.relu6(x @ p["conv1"]["kernel"] * scale)
  h = nn.relu6(_native_depthwise(h, p["conv2"]["kernel"]) * scale)
  h = conv(h, p["conv3"]["kernel"]) * scale
  gate = nn.relu(h.mean((1, 2)) @ p["squeeze"]["Dense_0"]["kernel"])
  gate = nn.sigmoid(gate @ p["squeeze"]["Dense_1"]["kernel"])
  residual = x @ p["match"]["kernel"] * scale
  expected = nn.relu6(h * gate[:, None, None, :] + residual)
  np.testing.assert_allclose(
    block.apply(variables, x, train=False), expected, atol=1e-5
  )


@pytest.mark.parametrize("coords_dim", [3, 40])
def test_heads_give_each_task_its_shape_and_range(coords_dim):
  encoder = CoreEncoder(depths=(1,), widths=(16,), patch_size=4)
  model = GeographicModel(encoder=encoder, coords_dim=coords_dim)
  images = _normal(0, (2, 32, 32, 5))
  variables = model.init(jax.random.key(0), images)
  outputs = model.apply(variables, images)
  assert outputs["coords"].shape == (2, coords_dim)
  assert outputs["climate"].shape == (2, 31)
  assert outputs["date"].shape == (2, 2)
  bounded = ["date"] + ["coords"] * (coords_dim == 3)
  for name in bounded:
    assert jnp.all((outputs[name] > 0) & (outputs[name] < 1))


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
