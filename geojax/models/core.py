"""CoreEncoder: the convolutional encoder of the Core family.

A block is a 1x1 convolution, a depthwise 3x3, a full 3x3, squeeze-and-
excitation and a residual. A stem block, then stages of blocks, each followed by
2x2 max pooling, then the global mean.

Two departures from the textbook form are for speed on CPUs alone and change no
number beyond rounding: 1x1 convolutions are matrix products, and the depthwise
convolution is nine shifted products with a backward pass of its own.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from geojax.models.norms import BatchNorm


@jax.custom_vjp
def depthwise_conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Depthwise 3x3 convolution, stride 1, zero padding ("same").

  Args:
    x: Images, shape `[batch, height, width, channels]`.
    kernel: One 3x3 kernel a channel, shape `[3, 3, channels]`.

  Returns:
    Shape `[batch, height, width, channels]`.
  """
  height, width = x.shape[1:3]
  padded = _pad(x)
  return sum(
    padded[:, i : i + height, j : j + width] * kernel[i, j][None, None, None]
    for i in range(3)
    for j in range(3)
  )


def _pad(x):
  return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _depthwise_fwd(x, kernel):
  return depthwise_conv_3x3(x, kernel), (x, kernel)


def _depthwise_bwd(residuals, g):
  x, kernel = residuals
  height, width = x.shape[1:3]

  # One image at a time: the nine sums over pixels then run in cache, where
  # autodiff makes nine passes over the whole batch.
  def add_image(total, image_and_grad):
    image, grad = image_and_grad
    taps = [
      jnp.sum(image[i : i + height, j : j + width] * grad, axis=(0, 1))
      for i in range(3)
      for j in range(3)
    ]
    return total + jnp.stack(taps), None

  zero = jnp.zeros((9, kernel.shape[-1]), kernel.dtype)
  taps, _ = jax.lax.scan(add_image, zero, (_pad(x), g))
  return (
    depthwise_conv_3x3(g, kernel[::-1, ::-1]),
    taps.reshape(kernel.shape),
  )


depthwise_conv_3x3.defvjp(_depthwise_fwd, _depthwise_bwd)


class DepthwiseConv(nn.Module):
  """Depthwise 3x3 convolution with bias, `[..., C] -> [..., C]`."""

  @nn.compact
  def __call__(self, x):
    """Convolves `[batch, height, width, channels]`."""
    channels = x.shape[-1]
    init = nn.initializers.variance_scaling(
      1.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=2
    )
    kernel = self.param("kernel", init, (3, 3, channels))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    return depthwise_conv_3x3(x, kernel) + bias[None, None, None]


class SqueezeExcitation(nn.Module):
  """Scales each channel by a gate read off the whole image."""

  excitation: str = "gate"
  reduction: int = 16

  @nn.compact
  def __call__(self, x):
    """Gates `[batch, height, width, channels]`, channels >= reduction."""
    channels = x.shape[-1]
    if channels < self.reduction:
      raise ValueError(
        f"SqueezeExcitation: {channels} channels over a reduction of"
        f" {self.reduction} leave no unit; widths must be at least"
        f" {self.reduction}"
      )
    gate = jnp.mean(x, axis=(1, 2))
    gate = nn.Dense(channels // self.reduction, use_bias=False)(gate)
    gate = nn.Dense(channels, use_bias=False)(nn.relu(gate))
    gated = x * nn.sigmoid(gate)[:, None, None, :]
    return x * gated if self.excitation == "published" else gated


class CoreBlock(nn.Module):
  """The Core block: `[batch, height, width, C] -> [..., width]`."""

  width: int
  excitation: str = "gate"
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, *, train: bool):
    """Applies the block; `train` chooses the batch's own statistics."""

    def norm(name):
      return BatchNorm(
        use_running_average=not train, axis_name=self.axis_name, name=name
      )

    residual = x
    if x.shape[-1] != self.width:
      residual = nn.Dense(self.width, use_bias=False, name="match")(x)
      residual = norm("match_norm")(residual)
    x = nn.relu6(norm("norm1")(nn.Dense(self.width, name="conv1")(x)))
    x = nn.relu6(norm("norm2")(DepthwiseConv(name="conv2")(x)))
    x = norm("norm3")(nn.Conv(self.width, (3, 3), name="conv3")(x))
    x = SqueezeExcitation(self.excitation, name="squeeze")(x)
    return nn.relu6(x + residual)


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


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """Maximum over 2x2 squares; an odd last row or column is left out.

  By reshape and max, ten times as fast on a CPU as a window reduction.
  """
  batch, height, width, channels = x.shape
  x = x[:, : height // 2 * 2, : width // 2 * 2]
  x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
  return jnp.max(x, axis=(2, 4))


class CoreEncoder(nn.Module):
  """The Core encoder: images to one feature vector each.

  Attributes:
    depths: Blocks a stage.
    widths: Channels a stage.
    patch_size: Side in pixels of the squares folded into channels before the
      stem; 1 is the published encoder, larger is faster.
    dropout: Share of the pooled features dropped in training.
    axis_name: As of `BatchNorm`.
  """

  depths: Sequence[int] = (2, 2, 6, 2)
  widths: Sequence[int] = (40, 80, 160, 320)
  patch_size: int = 1
  dropout: float = 0.0
  excitation: str = "gate"
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images, *, train: bool = False):
    """Encodes images.

    Args:
      images: Scaled reflectances, shape `[batch, height, width, bands]`.
      train: Whether to use batch statistics and dropout (needs the `dropout`
        key where `dropout` > 0).

    Returns:
      Features, shape `[batch, widths[-1]]`.

    Raises:
      ValueError: The images are too small for the stages' poolings.
    """
    if len(self.depths) != len(self.widths):
      raise ValueError(
        f"CoreEncoder: {len(self.depths)} depths for {len(self.widths)} widths"
      )
    smallest = self.patch_size * 2 ** len(self.depths)
    if min(images.shape[1:3]) < smallest:
      raise ValueError(
        f"CoreEncoder: images of {images.shape[1]} x {images.shape[2]} pixels"
        f" vanish in {len(self.depths)} poolings; at least {smallest} are"
        " needed, or fewer stages"
      )
    x = images
    if self.patch_size > 1:
      x = space_to_depth(x, self.patch_size)
    kinds = (self.excitation, self.axis_name)
    x = CoreBlock(self.widths[0], *kinds, name="stem")(x, train=train)
    for stage, (depth, width) in enumerate(
      zip(self.depths, self.widths, strict=True)
    ):
      for block in range(depth):
        name = f"stage{stage}_block{block}"
        x = CoreBlock(width, *kinds, name=name)(x, train=train)
      x = max_pool_2x2(x)
    features = jnp.mean(x, axis=(1, 2))
    return nn.Dropout(self.dropout, deterministic=not train)(features)
