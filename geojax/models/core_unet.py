"""A U around the Core encoder: contraction, and a way back to every pixel."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from geojax.models import convolutions, core, encoders


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


class CoreUnet(core.CoreNetwork):
  """The Core encoder at half its widths, and a decoder back to every pixel.

  `depths` and `widths` are those of the encoder of the same size; the U has
  half of the widths, and as many blocks up as down.

  Attributes:
    num_outputs: Values a pixel. None leaves the last layer out: the U is then
      an encoder whose features are the means over its last block's pixels.
  """

  num_outputs: int | None = 1

  @nn.compact
  def __call__(self, images, *, train: bool = False, stages: bool = False):
    """Maps images to images, or encodes them, see `encoders.Encoder`.

    Returns:
      Outputs, shape `[batch, height, width, num_outputs]`, or features, shape
      `[batch, widths[0] / 2]`; with `stages`, these and the maps of every stage
      of the way up, the smallest first.

    Raises:
      ValueError: The images' sides are no multiples of 2^stages, or depths and
        widths differ in number.
    """
    factor = 2 ** len(self.depths)
    if images.shape[1] % factor or images.shape[2] % factor:
      raise ValueError(
        f"CoreUnet: the sides of images of {images.shape[1]} x"
        f" {images.shape[2]} pixels are no multiples of {factor}, which"
        f" {len(self.depths)} poolings need"
      )
    widths = [width // 2 for width in self.widths]
    block = self.make_block(train)
    x, skips = self.contract(block, images.astype(self.dtype), widths)
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
    x = block(widths[0], "head_block", x)
    if self.num_outputs is None:
      x = self.pool(x, train)
    else:
      x = core.widen(x)
      x = nn.Dense(self.num_outputs, dtype=x.dtype, name="head")(x)
    return (x, tuple(maps)) if stages else x


@encoders.register(
  "core_unet",
  sizes=core.SIZES,
  uses=core.USES,
  layers=(
    *core.LAYERS,
    r"bridge",
    r"up(\d+)_(?:gate|match|block(\d+))",
    r"head_block",
  ),
)
def create_core_unet(config, *, axis_name=None) -> CoreUnet:
  """Builds a `CoreUnet` without outputs from the `model` part of a config."""
  if config.patch_size != 1:
    raise ValueError("'core_unet' returns to every pixel: patch_size must be 1")
  return CoreUnet(num_outputs=None, **core.attributes(config, axis_name))
