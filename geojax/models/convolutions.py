"""Convolutions and resampling of images, in the form each platform runs fast.

The forms of a function differ by rounding alone. Which one runs is chosen here
and nowhere else, by the platform that a program is lowered for: accelerators
take the native convolutions; a CPU takes the depthwise one as nine shifted
products, the full one by Winograd's filtering.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from geojax.models import bilinear, winograd

# What a core's second-level cache holds beside other things.
_CACHED_BYTES = 2**18


def conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """3x3 convolution, stride 1, zero padding ("same").

  Args:
    x: Images, shape `[batch, height, width, in]`.
    kernel: Shape `[3, 3, in, out]`.

  Returns:
    Shape `[batch, height, width, out]`.
  """
  if x.dtype != jnp.float32:
    # Winograd's sums lose digits that narrower types cannot spare.
    return _native(x, kernel)
  return _conv_3x3(x, kernel)


def depthwise_conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Depthwise 3x3 convolution, stride 1, zero padding ("same").

  Args:
    x: Images, shape `[batch, height, width, channels]`.
    kernel: One 3x3 kernel a channel, shape `[3, 3, channels]`.

  Returns:
    Shape `[batch, height, width, channels]`.
  """
  return _depthwise_conv_3x3(x, kernel)


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """Maximum over 2x2 squares; an odd last row or column is left out.

  By maxima of pairs, ten times as fast on a CPU as a window reduction. Their
  derivative has no division; that of `jnp.max` divides by the number of values
  that equal the maximum, which is 0 where the compiler computes them twice and
  rounds them differently.

  Args:
    x: Images, shape `[batch, height, width, channels]`.

  Returns:
    Shape `[batch, height // 2, width // 2, channels]`.
  """
  batch, height, width, channels = x.shape
  x = x[:, : height // 2 * 2, : width // 2 * 2]
  x = x.reshape(batch, height // 2, 2, width // 2 * 2, channels)
  x = jnp.maximum(x[:, :, 0], x[:, :, 1])
  x = x.reshape(batch, height // 2, width // 2, 2, channels)
  return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def space_to_depth(x: jax.Array, size: int) -> jax.Array:
  """Folds each `size` x `size` square of pixels into the channels.

  Args:
    x: Images, shape `[batch, height, width, channels]`.
    size: Side of a square in pixels; divides height and width.

  Returns:
    Shape `[batch, height / size, width / size, size * size * channels]`.

  Raises:
    ValueError: The image's sides are no multiples of `size`.
  """
  batch, height, width, channels = x.shape
  if height % size or width % size:
    raise ValueError(
      f"space_to_depth: images of {height} x {width} pixels do not divide"
      f" into squares of {size} x {size}"
    )
  x = x.reshape(batch, height // size, size, width // size, size, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, height // size, width // size, -1)


def upsample_2x(x: jax.Array) -> jax.Array:
  """Bilinear resampling to twice the size, corners on corners.

  Args:
    x: Images, shape `[batch, height, width, channels]`.

  Returns:
    Shape `[batch, 2 height, 2 width, channels]`; row r is read at row
    `r (height - 1) / (2 height - 1)`.
  """
  return _resample(x, _upsampling(x.shape[1]), _upsampling(x.shape[2]))


def mean_pool(x: jax.Array, size: int) -> jax.Array:
  """Means over a grid of `size` x `size` windows, whatever the image's size.

  Args:
    x: Images, shape `[batch, height, width, channels]`.
    size: Windows down and across; window q of n rows holds those from
      floor(q n / size) to ceil((q + 1) n / size).

  Returns:
    Shape `[batch, size, size, channels]`.
  """
  down, across = (_windows(side, size) for side in x.shape[1:3])
  return _resample(x, down, across)


def _resample(x, down, across):
  down, across = down.astype(x.dtype), across.astype(x.dtype)
  return jnp.einsum("ph,qw,bhwc->bpqc", down, across, x)


def _upsampling(side):
  positions = np.arange(2 * side) * (side - 1) / (2 * side - 1)
  rows = np.arange(side)
  return np.maximum(0, 1 - np.abs(positions[:, None] - rows[None]))


def _windows(side, size):
  matrix = np.zeros((size, side))
  for q in range(size):
    first, last = q * side // size, -(-(q + 1) * side // size)
    matrix[q, first:last] = 1 / (last - first)
  return matrix


def _native(x, kernel, groups=1):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1, 1),
    padding="SAME",
    feature_group_count=groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _native_image_adjoint(g, kernel):
  return _native(g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))


def _native_kernel_adjoint(x, g):
  shape = (3, 3, x.shape[-1], g.shape[-1])
  return _transpose_kernel(functools.partial(_native, x), shape, g)


def _native_depthwise(x, kernel):
  return _native(x, kernel[:, :, None, :], groups=x.shape[-1])


def _native_depthwise_image_adjoint(g, kernel):
  return _native_depthwise(g, kernel[::-1, ::-1])


def _native_depthwise_kernel_adjoint(x, g):
  shape = (3, 3, x.shape[-1])
  return _transpose_kernel(functools.partial(_native_depthwise, x), shape, g)


def _transpose_kernel(convolve, shape, g):
  kernel = jax.ShapeDtypeStruct(shape, g.dtype)
  return jax.linear_transpose(convolve, kernel)(g)[0]


def _tile_size(images, channels):
  """Outputs of a Winograd tile, for images and a kernel's input channels.

  Tiles of 4 need fewer products, tiles of 2 a smaller spread of the kernel,
  which pays where a kernel meets few pixels.
  """
  batch, height, width, _ = images.shape
  num_tiles = batch * -(-height // 4) * -(-width // 4)
  return 4 if 2 * num_tiles >= channels else 2


def _winograd(x, kernel):
  return winograd.conv_3x3(x, kernel, _tile_size(x, x.shape[-1]))


def _winograd_image_adjoint(g, kernel):
  return winograd.image_adjoint(g, kernel, _tile_size(g, kernel.shape[2]))


def _winograd_kernel_adjoint(x, g):
  return winograd.kernel_adjoint(x, g, _tile_size(x, x.shape[-1]))


def _shifted_products(x, kernel):
  height, width = x.shape[1:3]
  padded = _pad(x)
  return sum(
    padded[:, i : i + height, j : j + width] * kernel[i, j][None, None, None]
    for i in range(3)
    for j in range(3)
  )


def _shifted_products_image_adjoint(g, kernel):
  return _shifted_products(g, kernel[::-1, ::-1])


def _shifted_products_kernel_adjoint(x, g):
  height, width = x.shape[1:3]
  padded = _pad(x)

  # Some rows at a time: the nine sums then run in cache, where autodiff makes
  # nine passes over all images. Images stay apart until the end, so that none
  # has to leave the device that holds it.
  step = _divisor(height, _CACHED_BYTES // (4 * x[:, 0].size))

  def add_rows(index, totals):
    row = step * index
    grad = jax.lax.dynamic_slice_in_dim(g, row, step, axis=1)
    rows = jax.lax.dynamic_slice_in_dim(padded, row, step + 2, axis=1)
    taps = [
      jnp.sum(rows[:, i : i + step, j : j + width] * grad, axis=(1, 2))
      for i in range(3)
      for j in range(3)
    ]
    return totals + jnp.stack(taps, axis=1)

  zero = jnp.zeros((len(x), 9, x.shape[-1]), g.dtype)
  taps = jax.lax.fori_loop(0, height // step, add_rows, zero)
  return jnp.sum(taps, axis=0).reshape(3, 3, -1)


def _pad(x):
  return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _divisor(number, at_most):
  """The largest divisor of a number up to `at_most`; 1 at least."""
  return max(
    (d for d in range(1, min(number, at_most) + 1) if number % d == 0),
    default=1,
  )


_conv_3x3 = bilinear.make_operation(
  "conv_3x3",
  cpu=bilinear.Forms(
    _winograd, _winograd_image_adjoint, _winograd_kernel_adjoint
  ),
  default=bilinear.Forms(
    _native, _native_image_adjoint, _native_kernel_adjoint
  ),
)
_depthwise_conv_3x3 = bilinear.make_operation(
  "depthwise_conv_3x3",
  cpu=bilinear.Forms(
    _shifted_products,
    _shifted_products_image_adjoint,
    _shifted_products_kernel_adjoint,
  ),
  default=bilinear.Forms(
    _native_depthwise,
    _native_depthwise_image_adjoint,
    _native_depthwise_kernel_adjoint,
  ),
)
