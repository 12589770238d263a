"""The Core encoder, a convolutional network; core_unet.py has a U around it.

A block is a 1x1 convolution, a depthwise 3x3, a full 3x3, squeeze-and-
excitation and a residual. A stem block, then stages of blocks, each followed by
2x2 max pooling. 1x1 convolutions are matrix products, the others in
convolutions.py.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from geojax.models import convolutions, encoders, norms

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
    excitation: See `SqueezeExcitation`.
    norm: See `norms.normalize`, which has `axis_name` too.
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


class CoreNetwork(nn.Module):
  """The attributes and the contracting path of the Core family.

  Attributes:
    depths: Blocks a stage.
    widths: Channels a stage.
    dropout: Share of the pooled features dropped in training.
    excitation: See `SqueezeExcitation`.
    norm: See `norms.normalize`, which has `axis_name` too.
    dtype: What is computed in. Parameters, statistics and the features
      returned are float32.
    remat: Whether a block's inner values are computed anew in the backward
      pass instead of kept: less memory for another forward pass. XLA on CPUs
      undoes it.
  """

  depths: Sequence[int] = SIZES["atto"][0]
  widths: Sequence[int] = SIZES["atto"][1]
  dropout: float = 0.0
  excitation: str = "gate"
  norm: str = "batch"
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  def make_block(self, train: bool) -> Callable:
    """Returns the function `(width, name, x)` that applies a named block."""
    block = CoreBlock
    if self.remat:
      block = nn.remat(CoreBlock, static_argnums=(2,))

    def apply(width: int, name: str, x: jax.Array) -> jax.Array:
      kind = (self.excitation, self.norm, self.axis_name)
      return block(width, *kind, name=name)(x, train)

    return apply

  def contract(self, block: Callable, x: jax.Array, widths: Sequence[int]):
    """Applies stem and stages.

    Returns:
      The last map after pooling, and a tuple of every stage's before it.

    Raises:
      ValueError: Depths and widths differ in number.
    """
    if len(self.depths) != len(widths):
      raise ValueError(
        f"{type(self).__name__}: {len(self.depths)} depths for {len(widths)}"
        " widths"
      )
    x = block(widths[0], "stem", x)
    maps = []
    for stage, (depth, width) in enumerate(
      zip(self.depths, widths, strict=True)
    ):
      for i in range(depth):
        x = block(width, f"stage{stage}_block{i}", x)
      maps.append(x)
      x = convolutions.max_pool_2x2(x)
    return x, tuple(maps)

  def pool(self, x: jax.Array, train: bool) -> jax.Array:
    """Features: float32 means over pixels, after dropout in training."""
    features = jnp.mean(widen(x), axis=(1, 2))
    return nn.Dropout(self.dropout, deterministic=not train)(features)


class CoreEncoder(CoreNetwork):
  """The Core encoder: images to one feature vector each.

  Attributes:
    patch_size: Side in pixels of the squares folded into channels before the
      stem; 1 is the published encoder, larger is faster.
  """

  patch_size: int = 1

  @nn.compact
  def __call__(self, images, *, train: bool = False, stages: bool = False):
    """Encodes images, see `encoders.Encoder`.

    Returns:
      Features, shape `[batch, widths[-1]]`; with `stages`, these and the
      stages' maps before pooling, `[batch, height / (patch_size 2^i),
      width / (patch_size 2^i), widths[i]]`.

    Raises:
      ValueError: The images are too small for the stages' poolings, or depths
        and widths differ in number.
    """
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
    x, maps = self.contract(self.make_block(train), x, self.widths)
    features = self.pool(x, train)
    return (features, maps) if stages else features


def widen(x: jax.Array) -> jax.Array:
  """Converts to float32 at least, for means over pixels and for heads."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


# The keys of a config's `model` part that the whole family uses.
USES = ("depths", "widths", "norm", "excitation", "dropout", "dtype", "remat")


def attributes(config, axis_name: str | None) -> dict:
  """The attributes of `CoreNetwork` by a config's `model` part."""
  depths, widths = SIZES[config.size]
  return {
    **{key: config[key] for key in USES},
    "depths": tuple(config.depths) or depths,
    "widths": tuple(config.widths) or widths,
    "dtype": jnp.dtype(config.dtype),
    "axis_name": axis_name,
  }


# Names of the modules of the way down, in order.
LAYERS = (r"stem", r"stage(\d+)_block(\d+)")


@encoders.register(
  "core", sizes=SIZES, uses=(*USES, "patch_size"), layers=LAYERS
)
def create_core(config, *, axis_name=None) -> CoreEncoder:
  """Builds a `CoreEncoder` from the `model` part of a config."""
  return CoreEncoder(
    patch_size=config.patch_size, **attributes(config, axis_name)
  )
