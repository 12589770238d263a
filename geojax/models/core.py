"""The Core family: a convolutional encoder and a U around it.

A block is a 1x1 convolution, a depthwise 3x3, a full 3x3, squeeze-and-
excitation and a residual. A stem block, then stages of blocks, each followed by
2x2 max pooling. 1x1 convolutions are matrix products, the others in
convolutions.py.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from geojax.models import convolutions, norms

# Depths and widths of the stages.
SIZES = {
  "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
  "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
  "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
  "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
  "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
  "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
  "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
  "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
}

EXCITATIONS = ("gate", "published")


class Conv3x3(nn.Module):
  """Full 3x3 convolution with bias, `[..., C] -> [..., width]`."""

  width: int

  @nn.compact
  def __call__(self, x):
    """Convolves `[batch, height, width, channels]`."""
    shape = (3, 3, x.shape[-1], self.width)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    y = convolutions.conv_3x3(x, kernel.astype(x.dtype))
    return y + bias.astype(x.dtype)[None, None, None]


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
    y = convolutions.depthwise_conv_3x3(x, kernel.astype(x.dtype))
    return y + bias.astype(x.dtype)[None, None, None]


class SqueezeExcitation(nn.Module):
  """Scales each channel by a gate read off the whole image.

  Attributes:
    excitation: "gate", `x * gate`, or "published", `x * (x * gate)`, which is
      what the published weights of the Core family were trained with.
    reduction: Channels for each unit in between.
  """

  excitation: str = "gate"
  reduction: int = 16

  @nn.compact
  def __call__(self, x):
    """Gates `[batch, height, width, channels]`, channels >= reduction."""
    if self.excitation not in EXCITATIONS:
      raise ValueError(
        f"excitation must be one of {', '.join(EXCITATIONS)}; got"
        f" {self.excitation!r}"
      )
    channels = x.shape[-1]
    if channels < self.reduction:
      raise ValueError(
        f"SqueezeExcitation: {channels} channels over a reduction of"
        f" {self.reduction} leave no unit; widths must be at least"
        f" {self.reduction}"
      )
    dense = functools.partial(nn.Dense, use_bias=False, dtype=x.dtype)
    gate = jnp.mean(x, axis=(1, 2))
    gate = nn.relu(dense(channels // self.reduction)(gate))
    gate = nn.sigmoid(dense(channels)(gate))
    gated = x * gate[:, None, None, :]
    return x * gated if self.excitation == "published" else gated


class CoreBlock(nn.Module):
  """The Core block: `[batch, height, width, C] -> [..., width]`.

  Attributes:
    width: Channels of the output.
    excitation: As of `SqueezeExcitation`.
    norm: As of `norms.normalize`.
    axis_name: Likewise.
  """

  width: int
  excitation: str = "gate"
  norm: str = "batch"
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train: bool):
    """Applies the block; `train` chooses the batch's own statistics."""

    def convolve(module, norm_name, x):
      return norms.normalize(
        self.norm,
        module(x),
        train=train,
        axis_name=self.axis_name,
        name=norm_name,
      )

    dense = functools.partial(nn.Dense, self.width, dtype=x.dtype)
    residual = x
    if x.shape[-1] != self.width:
      match = dense(use_bias=False, name="match")
      residual = convolve(match, "match_norm", x)
    x = nn.relu6(convolve(dense(name="conv1"), "norm1", x))
    x = nn.relu6(convolve(DepthwiseConv(name="conv2"), "norm2", x))
    x = convolve(Conv3x3(self.width, name="conv3"), "norm3", x)
    x = SqueezeExcitation(self.excitation, name="squeeze")(x)
    return nn.relu6(x + residual)


class CoreEncoder(nn.Module):
  """The Core encoder: images to one feature vector each.

  Attributes:
    depths: Blocks a stage.
    widths: Channels a stage.
    patch_size: Side in pixels of the squares folded into channels before the
      stem; 1 is the published encoder, larger is faster.
    dropout: Share of the pooled features dropped in training.
    excitation: As of `SqueezeExcitation`.
    norm: As of `norms.normalize`.
    dtype: What is computed in. Parameters, statistics and the features
      returned are float32.
    remat: Whether a block's inner values are computed anew in the backward
      pass instead of kept: less memory for another forward pass. XLA on CPUs
      undoes it.
    axis_name: As of `norms.normalize`.
  """

  depths: Sequence[int] = SIZES["atto"][0]
  widths: Sequence[int] = SIZES["atto"][1]
  patch_size: int = 1
  dropout: float = 0.0
  excitation: str = "gate"
  norm: str = "batch"
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images, *, train: bool = False, stages: bool = False):
    """Encodes images.

    Args:
      images: Scaled reflectances, shape `[batch, height, width, bands]`.
      train: Whether to use batch statistics and dropout (needs the `dropout`
        key where `dropout` > 0).
      stages: Whether to return every stage's features too.

    Returns:
      Features, shape `[batch, widths[-1]]`; with `stages`, these and a tuple
      of the stages' maps before pooling, `[batch, height / (patch_size 2^i),
      width / (patch_size 2^i), widths[i]]`.

    Raises:
      ValueError: The images are too small for the stages' poolings, or depths
        and widths differ in number.
    """
    _check_stages("CoreEncoder", self.depths, self.widths)
    smallest = self.patch_size * 2 ** len(self.depths)
    if min(images.shape[1:3]) < smallest:
      raise ValueError(
        f"CoreEncoder: images of {images.shape[1]} x {images.shape[2]} pixels"
        f" vanish in {len(self.depths)} poolings; at least {smallest} are"
        " needed, or fewer stages"
      )
    x = images.astype(self.dtype)
    if self.patch_size > 1:
      x = convolutions.space_to_depth(x, self.patch_size)
    x, maps = _contract(_block(self, train), x, self.depths, self.widths)
    features = jnp.mean(_widen(x), axis=(1, 2))
    features = nn.Dropout(self.dropout, deterministic=not train)(features)
    return (features, maps) if stages else features


class AttentionGate(nn.Module):
  """What of a skip connection the U takes, by pixel and by channel."""

  @nn.compact
  def __call__(self, x, skip):
    """Gates `skip` by `x`, both `[batch, height, width, channels]`."""
    dense = functools.partial(nn.Dense, dtype=x.dtype)
    both = nn.relu6(x + skip)
    by_pixel = nn.sigmoid(dense(1, name="spatial")(both))
    channels = x.shape[-1]
    means = convolutions.mean_pool(both, 4)
    # Channels first, as the published weights have them.
    means = means.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    by_channel = nn.relu6(dense(4 * channels, name="channel1")(means))
    by_channel = nn.sigmoid(dense(channels, name="channel2")(by_channel))
    return skip * by_pixel + (skip + by_channel[:, None, None, :])


class CoreUnet(nn.Module):
  """The Core encoder at half its widths, and a decoder back to every pixel.

  Attributes:
    depths: Blocks a stage, down and up.
    widths: Channels a stage of the encoder of the same size; the U has half.
    num_outputs: Values a pixel. None leaves the last layer out: the U is then
      an encoder whose features are the means over its last block's pixels.
    dropout: As of `CoreEncoder`, of those features.
    excitation: As of `SqueezeExcitation`.
    norm: As of `norms.normalize`.
    dtype: As of `CoreEncoder`.
    remat: As of `CoreEncoder`.
    axis_name: As of `norms.normalize`.
  """

  depths: Sequence[int] = SIZES["atto"][0]
  widths: Sequence[int] = SIZES["atto"][1]
  num_outputs: int | None = 1
  dropout: float = 0.0
  excitation: str = "gate"
  norm: str = "batch"
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images, *, train: bool = False, stages: bool = False):
    """Maps images to images, or encodes them.

    Args:
      images: Scaled reflectances, shape `[batch, height, width, bands]`.
      train: As of `CoreEncoder`.
      stages: Whether to return the features of every stage of the way up too.

    Returns:
      Outputs, shape `[batch, height, width, num_outputs]`, or features, shape
      `[batch, widths[0] / 2]`; with `stages`, these and a tuple of maps, the
      smallest first.

    Raises:
      ValueError: The images' sides are no multiples of 2^stages, or depths and
        widths differ in number.
    """
    _check_stages("CoreUnet", self.depths, self.widths)
    factor = 2 ** len(self.depths)
    if images.shape[1] % factor or images.shape[2] % factor:
      raise ValueError(
        f"CoreUnet: the sides of images of {images.shape[1]} x"
        f" {images.shape[2]} pixels are no multiples of {factor}, which"
        f" {len(self.depths)} poolings need"
      )
    widths = [width // 2 for width in self.widths]
    block = _block(self, train)
    x, skips = _contract(block, images.astype(self.dtype), self.depths, widths)
    x = block(widths[-1], "bridge", x)
    maps = []
    for up, stage in enumerate(reversed(range(len(widths)))):
      x = convolutions.upsample_2x(x)
      gated = AttentionGate(name=f"up{up}_gate")(x, skips[stage])
      width = widths[max(stage - 1, 0)]
      x = jnp.concatenate([x, gated], axis=-1)
      x = block(width, f"up{up}_match", x)
      for i in range(self.depths[stage]):
        x = block(width, f"up{up}_block{i}", x)
      maps.append(x)
    x = _widen(block(widths[0], "head_block", x))
    if self.num_outputs is None:
      x = jnp.mean(x, axis=(1, 2))
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    else:
      x = nn.Dense(self.num_outputs, dtype=x.dtype, name="head")(x)
    return (x, tuple(maps)) if stages else x


def _block(encoder, train):
  """The function that applies a named block of an encoder's kind."""
  block = CoreBlock
  if encoder.remat:
    block = nn.remat(CoreBlock, static_argnums=(2,))

  def apply(width: int, name: str, x: jax.Array) -> jax.Array:
    kind = (encoder.excitation, encoder.norm, encoder.axis_name)
    module = block(width, *kind, name=name)
    return module(x, train)

  return apply


def _contract(block, x, depths, widths):
  """Stem and stages; returns the result and each stage's map before pooling."""
  x = block(widths[0], "stem", x)
  maps = []
  for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
    for i in range(depth):
      x = block(width, f"stage{stage}_block{i}", x)
    maps.append(x)
    x = convolutions.max_pool_2x2(x)
  return x, tuple(maps)


def _widen(x):
  """Float32 at least, for means over pixels and for heads."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _check_stages(name, depths, widths):
  if len(depths) != len(widths):
    raise ValueError(f"{name}: {len(depths)} depths for {len(widths)} widths")
