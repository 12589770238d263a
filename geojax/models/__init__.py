"""Flax modules: encoders and heads. They know arrays, and nothing of geojax."""

from geojax.models.core import CoreEncoder
from geojax.models.heads import GeographicModel


def create_model(
  config,
  *,
  coords_dim: int,
  apply_coords: bool = True,
  axis_name: str | None = None,
) -> GeographicModel:
  """Builds the model of a config's `model` part.

  Args:
    config: `name`, `depths`, `widths`, `patch_size` and `dropout`.
    coords_dim: Outputs of the location head, see `GeographicModel`.
    apply_coords: Whether that head is applied, likewise.
    axis_name: Under `pmap` the mapped axis, over which batch norm takes its
      statistics.

  Returns:
    The module.

  Raises:
    ValueError: The name is no known encoder's.
  """
  if config.name != "core":
    raise ValueError(f"unknown model {config.name!r}; known is 'core'")
  encoder = CoreEncoder(
    depths=tuple(config.depths),
    widths=tuple(config.widths),
    patch_size=config.patch_size,
    dropout=config.dropout,
    axis_name=axis_name,
  )
  return GeographicModel(
    encoder=encoder, coords_dim=coords_dim, apply_coords=apply_coords
  )
