"""Small models, and their shapes by PyTorch's names."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.models import (
  CoreEncoder,
  CoreUnet,
  Linear,
  MultiTaskModel,
  unbox,
)

DEPTHS, WIDTHS, BANDS = (1, 2), (16, 32), 5


def make_encoder(**kwargs):
  return CoreEncoder(depths=DEPTHS, widths=WIDTHS, **kwargs)


def make_model(coords=None, **kwargs):
  heads = {
    "coords": coords or Linear(3, sigmoid=True),
    "climate": Linear(31),
    "date": Linear(2, sigmoid=True),
  }
  return MultiTaskModel(make_encoder(**kwargs), heads)


def make_unet(**kwargs):
  widths = [2 * width for width in WIDTHS]
  return CoreUnet(depths=DEPTHS, widths=widths, num_outputs=2, **kwargs)


def shapes_of(model, side=8):
  images = jax.ShapeDtypeStruct((1, side, side, BANDS), jnp.float32)
  return unbox(jax.eval_shape(model.init, jax.random.key(0), images))


def random_variables(shapes, seed=0):
  """Variables of distinct values, so that no two arrays can be swapped."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype), shapes
  )


def block_shapes(channels, width):
  shapes = {
    "conv1.weight": (width, channels, 1, 1),
    "conv1.bias": (width,),
    "conv2.weight": (width, 1, 3, 3),
    "conv2.bias": (width,),
    "conv3.weight": (width, width, 3, 3),
    "conv3.bias": (width,),
    "squeeze.excitation.0.weight": (width // 16, width),
    "squeeze.excitation.2.weight": (width, width // 16),
  }
  norms = ["norm1", "norm2", "norm3"]
  if channels != width:
    shapes["match_channels.0.weight"] = (width, channels, 1, 1)
    norms.append("match_channels.1")
  for norm in norms:
    for name in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{norm}.{name}"] = (width,)
    shapes[f"{norm}.num_batches_tracked"] = ()
  return shapes


def prefixed(**blocks):
  return {
    f"{prefix.replace('__', '.')}.{key}": shape
    for prefix, block in blocks.items()
    for key, shape in block_shapes(*block).items()
  }


ENCODER_SHAPES = prefixed(
  stem=(5, 16),
  encoder_blocks__0__blocks__0=(16, 16),
  encoder_blocks__1__blocks__0=(16, 32),
  encoder_blocks__1__blocks__1=(32, 32),
)
HEAD_SHAPES = {"head.2.weight": (36, 32), "head.2.bias": (36,)}
UNET_SHAPES = {
  **prefixed(
    stem__0=(5, 16),
    encoder_blocks__0__blocks__0=(16, 16),
    encoder_blocks__1__blocks__0=(16, 32),
    encoder_blocks__1__blocks__1=(32, 32),
    bridge__0=(32, 32),
    decoder_blocks__0__match_channels=(64, 16),
    decoder_blocks__0__blocks__0=(16, 16),
    decoder_blocks__0__blocks__1=(16, 16),
    decoder_blocks__1__match_channels=(32, 16),
    decoder_blocks__1__blocks__0=(16, 16),
    head__0=(16, 16),
  ),
  "decoder_blocks.0.attention.compress.weight": (1, 32, 1, 1),
  "decoder_blocks.0.attention.compress.bias": (1,),
  "decoder_blocks.0.attention.attn_c_reduction.weight": (128, 512),
  "decoder_blocks.0.attention.attn_c_reduction.bias": (128,),
  "decoder_blocks.0.attention.attn_c_extention.weight": (32, 128),
  "decoder_blocks.0.attention.attn_c_extention.bias": (32,),
  "decoder_blocks.1.attention.compress.weight": (1, 16, 1, 1),
  "decoder_blocks.1.attention.compress.bias": (1,),
  "decoder_blocks.1.attention.attn_c_reduction.weight": (64, 256),
  "decoder_blocks.1.attention.attn_c_reduction.bias": (64,),
  "decoder_blocks.1.attention.attn_c_extention.weight": (16, 64),
  "decoder_blocks.1.attention.attn_c_extention.bias": (16,),
  "head.1.weight": (2, 16, 1, 1),
  "head.1.bias": (2,),
}
