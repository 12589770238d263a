"""Vision Transformer with fixed positions and pre-norm blocks.

References:
  Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021.
  Beyer et al., Better plain ViT baselines for ImageNet-1k, 2022: fixed
  sine-cosine positions and global mean pooling.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from geojax.models import encoders

# Width, blocks and heads.
SIZES = {
  "ti": (192, 12, 3),
  "s": (384, 12, 6),
  "b": (768, 12, 12),
  "l": (1024, 24, 16),
}
# Feature maps are returned after each quarter of the blocks.
_NUM_STAGES = 4


class Block(nn.Module):
  """Self-attention and a two-layer perceptron, each on a normed residual."""

  num_heads: int

  @nn.compact
  def __call__(self, x):
    """Maps tokens `[batch, tokens, width]` to the same shape."""
    width = x.shape[-1]
    y = nn.LayerNorm(dtype=x.dtype, name="norm1")(x)
    x = x + nn.MultiHeadDotProductAttention(
      self.num_heads,
      dtype=x.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      name="attention",
    )(y)
    y = nn.LayerNorm(dtype=x.dtype, name="norm2")(x)
    y = nn.gelu(nn.Dense(4 * width, dtype=x.dtype, name="up")(y))
    return x + nn.Dense(width, dtype=x.dtype, name="down")(y)


class ViT(nn.Module):
  """Images to one feature vector each, by attention between patches.

  Attributes:
    width: Channels of a token.
    depth: Blocks.
    num_heads: Heads of attention; divides `width`.
    patch_size: Side of a patch in pixels.
    dropout: Share of the pooled features dropped in training.
    dtype: What is computed in. Parameters and features are float32.
    remat: Whether a block's inner values are computed anew in the backward
      pass instead of kept.
  """

  width: int = SIZES["ti"][0]
  depth: int = SIZES["ti"][1]
  num_heads: int = SIZES["ti"][2]
  patch_size: int = 16
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, images, *, train: bool = False, stages: bool = False):
    """Encodes images.

    Args:
      images: Scaled reflectances, shape `[batch, height, width, bands]`; sides
        of any multiple of `patch_size`.
      train: Whether to drop features (needs the `dropout` key where `dropout`
        > 0).
      stages: Whether to return the maps after each quarter of the blocks too.

    Returns:
      Features, shape `[batch, width]`; with `stages`, these and a tuple of four
      maps, `[batch, height / patch_size, width / patch_size, width]`.

    Raises:
      ValueError: A side of the images is no multiple of `patch_size`.
    """
    batch, height, width, _ = images.shape
    if height % self.patch_size or width % self.patch_size:
      raise ValueError(
        f"ViT: images of {height} x {width} pixels do not divide into patches"
        f" of {self.patch_size} x {self.patch_size}"
      )
    x = nn.Conv(
      self.width,
      (self.patch_size, self.patch_size),
      strides=self.patch_size,
      padding="VALID",
      dtype=self.dtype,
      name="patches",
    )(images.astype(self.dtype))
    down, across = x.shape[1:3]
    x = x.reshape(batch, down * across, self.width)
    x = x + jnp.asarray(sincos_positions(down, across, self.width), x.dtype)
    block = nn.remat(Block) if self.remat else Block
    maps = []
    for i in range(self.depth):
      x = block(self.num_heads, name=f"block{i}")(x)
      if (i + 1) * _NUM_STAGES % self.depth == 0:
        maps.append(x.reshape(batch, down, across, self.width))
    x = nn.LayerNorm(name="norm")(x.astype(jnp.float32))
    features = jnp.mean(x, axis=1)
    features = nn.Dropout(self.dropout, deterministic=not train)(features)
    return (features, tuple(maps)) if stages else features


@encoders.register(
  "vit",
  sizes=SIZES,
  uses=("patch_size", "dropout", "dtype", "remat"),
  layers=(r"patches", r"block(\d+)", r"norm"),
)
def create_vit(config, *, axis_name=None) -> ViT:
  """Builds a `ViT` from the `model` part of a config."""
  del axis_name  # Layer norm has no statistics of the batch.
  if config.depths or config.widths:
    raise ValueError("depths and widths are the Core family's; 'vit' has none")
  if config.patch_size == 1:
    raise ValueError("'vit' needs a patch_size, such as 8 or 16")
  return ViT(
    *SIZES[config.size],
    patch_size=config.patch_size,
    dropout=config.dropout,
    dtype=jnp.dtype(config.dtype),
    remat=config.remat,
  )


def sincos_positions(down: int, across: int, width: int) -> np.ndarray:
  """Positions in a grid as sines and cosines of falling frequencies.

  Args:
    down: Rows.
    across: Columns.
    width: Channels, a multiple of 4: a quarter each for sine and cosine of the
      column and of the row, at frequencies from 1 to 1/10000.

  Returns:
    Shape `[1, down * across, width]`, float32.

  Raises:
    ValueError: The width is no multiple of 4.
  """
  if width % 4:
    raise ValueError(f"positions need a width divisible by 4, got {width}")
  frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
  rows, columns = np.mgrid[:down, :across].reshape(2, -1, 1)
  angles = [columns * frequencies, rows * frequencies]
  parts = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
  return np.concatenate(parts, axis=-1)[None].astype(np.float32)
