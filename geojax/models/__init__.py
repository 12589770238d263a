"""Flax modules: encoders and heads. They know arrays, and nothing of geojax."""

import flax.linen as nn
import jax.numpy as jnp

from geojax.models import core, vit
from geojax.models.core import CoreEncoder, CoreUnet
from geojax.models.heads import GeographicModel
from geojax.models.vit import ViT

# The sizes of each encoder that a config's `name` and `size` choose from.
SIZES = {
  "core": tuple(core.SIZES),
  "core_unet": tuple(core.SIZES),
  "vit": tuple(vit.SIZES),
}


def create_encoder(config, *, axis_name: str | None = None) -> nn.Module:
  """Builds the encoder of a config's `model` part.

  Args:
    config: `name` "core", "core_unet" or "vit"; `size`; `depths` and `widths`,
      which stand in for those of the size where they are not empty, of the Core
      family alone; `patch_size`, `dropout`, `dtype` and `remat`; `norm` and
      `excitation`, of the Core family alone.
    axis_name: Under `pmap` the mapped axis, over which batch norm takes its
      statistics.

  Returns:
    A module from images to features.

  Raises:
    ValueError: A name, size or type is unknown, or a key does not go with the
      name.
  """
  if config.name not in SIZES:
    raise ValueError(
      f"unknown model {config.name!r}; known are {', '.join(SIZES)}"
    )
  if config.size not in SIZES[config.name]:
    raise ValueError(
      f"unknown size {config.size!r}; those of {config.name!r} are"
      f" {', '.join(SIZES[config.name])}"
    )
  common = {
    "dropout": config.dropout,
    "dtype": jnp.dtype(config.dtype),
    "remat": config.remat,
  }
  if config.name == "vit":
    if config.depths or config.widths:
      raise ValueError(
        "depths and widths are the Core family's; 'vit' has none"
      )
    if config.patch_size == 1:
      raise ValueError("'vit' needs a patch_size, such as 8 or 16")
    width, depth, num_heads = vit.SIZES[config.size]
    return ViT(width, depth, num_heads, patch_size=config.patch_size, **common)
  depths, widths = core.SIZES[config.size]
  common |= {
    "depths": tuple(config.depths) or depths,
    "widths": tuple(config.widths) or widths,
    "norm": config.norm,
    "excitation": config.excitation,
    "axis_name": axis_name,
  }
  if config.name == "core_unet":
    if config.patch_size != 1:
      raise ValueError(
        "'core_unet' returns to every pixel: patch_size must be 1"
      )
    return CoreUnet(num_outputs=None, **common)
  return CoreEncoder(patch_size=config.patch_size, **common)


def create_model(
  config,
  *,
  coords_dim: int,
  apply_coords: bool = True,
  axis_name: str | None = None,
) -> GeographicModel:
  """Builds the model of a config's `model` part.

  Args:
    config: As of `create_encoder`.
    coords_dim: Outputs of the location head, see `GeographicModel`.
    apply_coords: Whether that head is applied, likewise.
    axis_name: Under `pmap` the mapped axis, over which batch norm takes its
      statistics.

  Returns:
    The module.

  Raises:
    ValueError: As of `create_encoder`.
  """
  return GeographicModel(
    encoder=create_encoder(config, axis_name=axis_name),
    coords_dim=coords_dim,
    apply_coords=apply_coords,
  )
