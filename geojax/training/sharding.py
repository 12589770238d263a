"""Devices: one mesh, batches split over it, everything else on each device."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from geojax.training.errors import ConfigError


def create_mesh() -> jax.sharding.Mesh:
  """Returns a mesh of all devices with one axis, "data"."""
  return jax.make_mesh(
    (jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)
  )


def replicated(mesh) -> NamedSharding:
  """The sharding of parameters: whole on each device."""
  return NamedSharding(mesh, PartitionSpec())


def check_rows(rows: int, mesh) -> None:
  """Checks that a batch splits over the devices.

  Args:
    rows: Its number of rows.
    mesh: As of `create_mesh`.

  Raises:
    ConfigError: It doesn't; says what would.
  """
  devices = mesh.shape["data"]
  if rows % devices:
    raise ConfigError(
      f"a batch of {rows} does not split over {devices} devices; set the"
      f" config's batch sizes to a multiple of {devices}, such as"
      f" {-(-rows // devices) * devices}"
    )


def put_batch(batch: dict[str, np.ndarray], mesh) -> dict[str, jax.Array]:
  """Puts a batch on the devices, rows split over the axis "data".

  Args:
    batch: Arrays with the same leading axis.
    mesh: As of `create_mesh`.

  Returns:
    The arrays on the devices.

  Raises:
    ConfigError: As of `check_rows`.
  """
  check_rows(len(next(iter(batch.values()))), mesh)
  return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
