"""Convolutions and resampling against JAX's own and against definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from geojax.models import convolutions, winograd


def _normal(seed, shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def _native(x, kernel, **groups):
  layout = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=layout, **groups
  )


def _assert_equal_with_gradients(ours, native, x, kernel, atol):
  values, pull_back = jax.vjp(jax.jit(ours), x, kernel)
  expected, pull_back_native = jax.vjp(native, x, kernel)
  np.testing.assert_allclose(values, expected, atol=atol)
  g = _normal(9, values.shape)
  for a, b in zip(pull_back(g), pull_back_native(g), strict=True):
    np.testing.assert_allclose(a, b, atol=atol * (1 + np.abs(b).max()))


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(
  "shape", [(1, 1, 1, 2), (3, 4, 4, 6), (2, 5, 7, 3), (2, 9, 16, 8)]
)
def test_winograd_and_its_adjoints_equal_the_native_convolution(m, shape):
  x, kernel = _normal(0, shape), _normal(1, (3, 3, shape[-1], 5))
  values, pull_back = jax.vjp(_native, x, kernel)
  np.testing.assert_allclose(winograd.conv_3x3(x, kernel, m), values, atol=3e-5)
  g = _normal(9, values.shape)
  adjoints = (
    winograd.image_adjoint(g, kernel, m),
    winograd.kernel_adjoint(x, g, m),
  )
  for ours, expected in zip(adjoints, pull_back(g), strict=True):
    bound = 3e-5 * (1 + np.abs(expected).max())
    np.testing.assert_allclose(ours, expected, atol=bound)


@pytest.mark.parametrize(("m", "bound"), [(2, 1e-6), (4, 2.5e-6)])
def test_winograd_rounds_little_over_many_channels(m, bound):
  x, kernel = _normal(0, (2, 16, 16, 160)), _normal(1, (3, 3, 160, 16))
  exact = np.zeros((2, 16, 16, 16))
  padded = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
  for i in range(3):
    for j in range(3):
      exact += padded[:, i : i + 16, j : j + 16] @ np.float64(kernel[i, j])
  error = np.std(winograd.conv_3x3(x, kernel, m) - exact) / np.std(exact)
  assert error < bound


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_transforms_convolve_in_one_dimension(m):
  data, kernel = np.random.default_rng(0).normal(size=(2, m + 2))
  kernel = kernel[:3]
  inputs, kernels, outputs = (np.float64(t) for t in winograd.transforms(m))
  np.testing.assert_allclose(
    outputs @ ((kernels @ kernel) * (inputs @ data)),
    np.correlate(data, kernel, "valid"),
    atol=1e-5,
  )


@pytest.mark.parametrize("shape", [(8, 16, 16, 4), (1, 4, 4, 40)])
def test_convolution_equals_the_native_one_whatever_tiles_it_takes(shape):
  x, kernel = _normal(0, shape), _normal(1, (3, 3, shape[-1], 7))
  _assert_equal_with_gradients(convolutions.conv_3x3, _native, x, kernel, 5e-5)


def test_narrow_types_are_convolved_as_they_are():
  x = _normal(0, (2, 8, 8, 4)).astype(jnp.bfloat16)
  kernel = _normal(1, (3, 3, 4, 4)).astype(jnp.bfloat16)
  y = convolutions.conv_3x3(x, kernel)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, _native(x, kernel))


# One row, two rows, and all rows that its gradient sums at a time.
@pytest.mark.parametrize("cached_bytes", [1, 1200, 2**18])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7), (6, 8)])
def test_depthwise_convolution_and_gradients_equal_the_native_one(
  monkeypatch, size, cached_bytes
):
  monkeypatch.setattr(convolutions, "_CACHED_BYTES", cached_bytes)
  x, kernel = _normal(0, (3, *size, 6)), _normal(1, (3, 3, 6))
  _assert_equal_with_gradients(
    convolutions.depthwise_conv_3x3,
    lambda x, k: _native(x, k[:, :, None], feature_group_count=6),
    x,
    kernel,
    1e-5,
  )


_OPERATIONS = {
  "full": (convolutions.conv_3x3, (3, 3, 4, 5)),
  "depthwise": (convolutions.depthwise_conv_3x3, (3, 3, 4)),
}


@pytest.mark.parametrize("name", _OPERATIONS)
def test_derivatives_of_any_order_and_mode(name):
  operation, shape = _OPERATIONS[name]
  args = _normal(0, (2, 5, 4, 4)), _normal(1, shape)
  check_grads(operation, args, order=3, modes=("fwd", "rev"), rtol=2e-2)


def _native_of(name, x, kernel):
  if name == "full":
    return _native(x, kernel)
  return _native(x, kernel[:, :, None], feature_group_count=x.shape[-1])


# Batched are the images, the kernel, both; at any axis.
@pytest.mark.parametrize("axes", [(0, None), (2, None), (None, 1), (1, 0)])
@pytest.mark.parametrize("name", _OPERATIONS)
def test_vmap_equals_one_at_a_time(name, axes):
  operation, shape = _OPERATIONS[name]
  args = []
  for seed, (one, axis) in enumerate(
    zip(((2, 5, 4, 4), shape), axes, strict=True)
  ):
    batched = list(one)
    if axis is not None:
      batched.insert(axis, 3)
    args.append(_normal(seed, batched))

  def gradients(operation):
    def loss(x, kernel):
      return jnp.sum(jnp.sin(operation(x, kernel)))

    return jax.vmap(jax.value_and_grad(loss, (0, 1)), axes)(*args)

  ours = gradients(operation)
  expected = gradients(lambda x, kernel: _native_of(name, x, kernel))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, expected
  )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_native_convolutions(platform):
  def loss(x, full, depthwise):
    y = convolutions.conv_3x3(x, full)
    return jnp.sum(convolutions.depthwise_conv_3x3(y, depthwise) ** 2)

  args = (
    _normal(0, (2, 8, 8, 4)),
    _normal(1, (3, 3, 4, 4)),
    _normal(2, (3, 3, 4)),
  )
  grad = jax.jit(jax.grad(loss, (0, 1, 2)))
  program = jax.export.export(grad, platforms=[platform])(*args).mlir_module()
  # Forward, and backward by input and by kernel, of two convolutions.
  assert program.count("stablehlo.convolution") == 6
  assert "dot_general" not in program


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_upsampling_puts_corners_on_corners(side):
  x = _normal(0, (1, side, 2, 1))
  y = convolutions.upsample_2x(x)
  positions = np.arange(2 * side) * (side - 1) / max(2 * side - 1, 1)
  column = np.interp(positions, np.arange(side), x[0, :, 0, 0])
  np.testing.assert_allclose(y[0, :, 0, 0], column, atol=1e-6)
  np.testing.assert_allclose(y[0, 0, -1], x[0, 0, -1], atol=1e-6)


@pytest.mark.parametrize("side", [1, 3, 4, 6, 16])
def test_mean_pool_is_the_mean_of_its_windows(side):
  x = _normal(0, (1, side, 8, 2))
  y = convolutions.mean_pool(x, 4)
  for q in range(4):
    rows = slice(q * side // 4, -(-(q + 1) * side // 4))
    np.testing.assert_allclose(
      y[0, q, 1], np.mean(x[0, rows, 2:4], axis=(0, 1)), atol=1e-6
    )


def test_max_pool_is_the_window_reduction_and_leaves_an_odd_edge_out():
  x = _normal(0, (2, 5, 6, 3))
  window = nn.max_pool(x, (2, 2), strides=(2, 2), padding="VALID")
  np.testing.assert_array_equal(convolutions.max_pool_2x2(x), window)


def test_space_to_depth_keeps_each_square_together():
  x = _normal(0, (2, 4, 6, 3))
  folded = convolutions.space_to_depth(x, 2)
  assert folded.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(folded[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))


def test_space_to_depth_says_what_does_not_divide():
  with pytest.raises(ValueError, match=r"30 x 32 .* 4 x 4"):
    convolutions.space_to_depth(jnp.zeros((1, 30, 32, 3)), 4)
