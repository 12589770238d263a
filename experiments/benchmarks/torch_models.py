"""The encoders and the U in plain PyTorch, for tests and benchmarks.

They carry the published names, so that a published file of weights loads into
them with `load_state_dict` as it is, and `geojax.models.convert` can be held
against them. Images are `[batch, bands, height, width]`.
"""

import torch
from torch import nn
from torch.nn import functional

# Blocks a stage and channels of the first stage, which double stage by stage.
SIZES = {
  "atto": ((2, 2, 6, 2), 40),
  "femto": ((2, 2, 6, 2), 48),
  "pico": ((2, 2, 6, 2), 64),
  "nano": ((2, 2, 8, 2), 80),
  "tiny": ((3, 3, 9, 3), 96),
  "base": ((3, 3, 27, 3), 128),
  "large": ((3, 3, 27, 3), 192),
  "huge": ((3, 3, 27, 3), 352),
}


def depths_and_widths(size: str) -> dict:
  """The arguments `depths` and `widths` of one of `SIZES`."""
  depths, width = SIZES[size]
  return {"depths": depths, "widths": [width << i for i in range(len(depths))]}


class SqueezeExcitation(nn.Module):
  """Scales each channel by a gate read off the whole image."""

  def __init__(self, channels, excitation, reduction=16):
    super().__init__()
    if excitation not in ("gate", "published"):
      raise ValueError(f"unknown excitation {excitation!r}")
    self.published = excitation == "published"
    self.excitation = nn.Sequential(
      nn.Linear(channels, channels // reduction, bias=False),
      nn.ReLU(),
      nn.Linear(channels // reduction, channels, bias=False),
      nn.Sigmoid(),
    )

  def forward(self, x):
    """`x * gate`; as published, that once more by `x`."""
    gated = x * self.excitation(x.mean((2, 3)))[:, :, None, None]
    return x * gated if self.published else gated


class CoreBlock(nn.Module):
  """1x1, depthwise 3x3 and full 3x3 convolutions with a gated residual."""

  def __init__(self, channels, width, excitation):
    super().__init__()
    self.conv1 = nn.Conv2d(channels, width, 1)
    self.norm1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
    self.norm2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, width, 3, padding=1)
    self.norm3 = nn.BatchNorm2d(width)
    self.squeeze = SqueezeExcitation(width, excitation)
    self.match_channels = nn.Identity()
    if channels != width:
      self.match_channels = nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
      )

  def forward(self, x):
    """`[batch, channels, height, width]` to as many pixels."""
    y = functional.relu6(self.norm1(self.conv1(x)))
    y = functional.relu6(self.norm2(self.conv2(y)))
    y = self.squeeze(self.norm3(self.conv3(y)))
    return functional.relu6(y + self.match_channels(x))


def _blocks(depth, channels, width, excitation):
  return nn.Sequential(
    *(
      CoreBlock(channels if i == 0 else width, width, excitation)
      for i in range(depth)
    )
  )


class EncoderStage(nn.Module):
  """A stage of the encoder, before its pooling."""

  def __init__(self, depth, channels, width, excitation):
    super().__init__()
    self.blocks = _blocks(depth, channels, width, excitation)

  def forward(self, x):
    """Applies the blocks."""
    return self.blocks(x)


def _encoder_stages(depths, widths, excitation):
  before = [widths[0], *widths[:-1]]
  return nn.ModuleList(
    EncoderStage(*stage, excitation)
    for stage in zip(depths, before, widths, strict=True)
  )


class CoreEncoder(nn.Module):
  """The Core encoder with its linear head: `[batch, num_outputs]`."""

  def __init__(
    self, *, bands=10, num_outputs=36, depths, widths, excitation="published"
  ):
    super().__init__()
    self.stem = CoreBlock(bands, widths[0], excitation)
    self.encoder_blocks = _encoder_stages(depths, widths, excitation)
    self.head = nn.Sequential(
      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_outputs)
    )

  def forward(self, x):
    """Predicts from `[batch, bands, height, width]`."""
    x = self.stem(x)
    for stage in self.encoder_blocks:
      x = functional.max_pool2d(stage(x), 2)
    return self.head(x)


class ViT(nn.Module):
  """`geojax.models.ViT` with a linear head, for its speed.

  Attention is PyTorch's fused one. Positions are learned, which costs the same.
  """

  def __init__(
    self, *, bands, num_outputs, side, patch_size, width, depth, num_heads
  ):
    super().__init__()
    self.patches = nn.Conv2d(bands, width, patch_size, patch_size)
    tokens = (side // patch_size) ** 2
    self.positions = nn.Parameter(torch.zeros(tokens, width))
    self.blocks = nn.ModuleList(
      nn.TransformerEncoderLayer(
        width,
        num_heads,
        4 * width,
        dropout=0.0,
        activation=functional.gelu,
        batch_first=True,
        norm_first=True,
      )
      for _ in range(depth)
    )
    self.norm = nn.LayerNorm(width)
    self.head = nn.Linear(width, num_outputs)

  def forward(self, x):
    """Predicts from `[batch, bands, height, width]`."""
    x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
    for block in self.blocks:
      x = block(x)
    return self.head(self.norm(x).mean(1))


class AttentionGate(nn.Module):
  """Where and in which channels a skip connection is let through.

  The published names are kept, "extention" among them.
  """

  def __init__(self, channels):
    super().__init__()
    self.compress = nn.Conv2d(channels, 1, 1)
    self.attn_c_reduction = nn.Linear(16 * channels, 4 * channels)
    self.attn_c_extention = nn.Linear(4 * channels, channels)

  def forward(self, x, skip):
    """Gates `[batch, 1, height, width]` and `[batch, channels, 1, 1]`."""
    x = functional.relu6(x + skip)
    squares = functional.adaptive_avg_pool2d(x, 4).flatten(1)
    hidden = functional.relu6(self.attn_c_reduction(squares))
    channel = self.attn_c_extention(hidden)[:, :, None, None]
    return self.compress(x).sigmoid(), channel.sigmoid()


class DecoderStage(nn.Module):
  """Twice the pixels, joined by a gated skip connection, then blocks."""

  def __init__(self, depth, channels, width, excitation):
    super().__init__()
    self.match_channels = CoreBlock(2 * channels, width, excitation)
    self.attention = AttentionGate(channels)
    self.blocks = _blocks(depth, width, width, excitation)

  def forward(self, x, skip):
    """`x` of half the height and width of `skip`."""
    x = functional.interpolate(
      x, scale_factor=2, mode="bilinear", align_corners=True
    )
    spatial, channel = self.attention(x, skip)
    x = torch.cat([x, skip * spatial + (skip + channel)], dim=1)
    return self.blocks(self.match_channels(x))


class CoreUnet(nn.Module):
  """The Core U: `[batch, num_outputs, height, width]`.

  The encoder has half the given widths; height and width are multiples of
  `2 ** len(depths)`.
  """

  def __init__(
    self, *, bands=10, num_outputs=1, depths, widths, excitation="published"
  ):
    super().__init__()
    widths = [width // 2 for width in widths]
    self.stem = nn.Sequential(CoreBlock(bands, widths[0], excitation))
    self.encoder_blocks = _encoder_stages(depths, widths, excitation)
    self.bridge = nn.Sequential(CoreBlock(widths[-1], widths[-1], excitation))
    after = [widths[0], *widths[:-1]]
    self.decoder_blocks = nn.ModuleList(
      DecoderStage(*stage, excitation)
      for stage in reversed(list(zip(depths, widths, after, strict=True)))
    )
    self.head = nn.Sequential(
      CoreBlock(widths[0], widths[0], excitation),
      nn.Conv2d(widths[0], num_outputs, 1),
    )

  def forward(self, x):
    """Predicts from `[batch, bands, height, width]`."""
    x = self.stem(x)
    skips = []
    for stage in self.encoder_blocks:
      skips.append(stage(x))
      x = functional.max_pool2d(skips[-1], 2)
    x = self.bridge(x)
    for stage in self.decoder_blocks:
      x = stage(x, skips.pop())
    return self.head(x)
