"""Flax modules: encoders and heads. They import nothing else of geojax."""

from geojax.models.core import CoreEncoder
from geojax.models.core_unet import CoreUnet
from geojax.models.encoders import (
  ENCODERS,
  Encoder,
  create_encoder,
  layers_above,
  register,
)
from geojax.models.heads import (
  PIXEL_HEADS,
  Linear,
  Mixture,
  MultiTaskModel,
  partition_specs,
  reads_maps,
  unbox,
)
from geojax.models.vit import ViT

__all__ = [
  "ENCODERS",
  "PIXEL_HEADS",
  "CoreEncoder",
  "CoreUnet",
  "Encoder",
  "Linear",
  "Mixture",
  "MultiTaskModel",
  "ViT",
  "create_encoder",
  "create_model",
  "layers_above",
  "partition_specs",
  "reads_maps",
  "register",
  "unbox",
]


def create_model(
  config, heads, *, frozen: bool = False, axis_name: str | None = None
):
  """Builds the model of a config's `model` part.

  Args:
    config: See `create_encoder`.
    heads: A Flax module per task, by name.
    frozen: Whether the encoder is not trained, see `MultiTaskModel`.
    axis_name: Under `pmap` the mapped axis, over which batch norm takes its
      statistics.

  Returns:
    A `MultiTaskModel`.

  Raises:
    ValueError: See `create_encoder`.
  """
  encoder = create_encoder(config, axis_name=axis_name)
  return MultiTaskModel(encoder=encoder, heads=heads, frozen=frozen)
