"""Devices: one mesh, and where batches and state lie on it."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from geojax import models
from geojax.training import compilation
from geojax.training.errors import ConfigError

# Smaller arrays are not worth a message a step.
_SMALLEST_SHARDED = 1024


def join_processes(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the processes of a run; before anything else uses JAX.

  Args:
    coordinator: `host:port` of the first process, or None where TPU VMs, Slurm
      or Open MPI say who is who: then the other two are theirs to say, too.
    num_processes: How many there are.
    process_id: Number of this one, from 0.

  Raises:
    ConfigError: They do not find each other; says what was tried.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (RuntimeError, ValueError) as error:
    raise ConfigError(
      f"process {process_id} of {num_processes} does not find the others at"
      f" {coordinator}: {error}. Give each process the same --coordinator, that"
      " of process 0, and its own --process_id; none of the three on TPU VMs"
      " and under Slurm's srun"
    ) from error


def create_mesh(model_devices: int = 1) -> jax.sharding.Mesh:
  """Returns a mesh of all devices with the axes "data" and "model".

  Args:
    model_devices: Devices along "model".

  Raises:
    ConfigError: They do not divide the number of devices.
  """
  devices = jax.device_count()
  if devices % model_devices:
    raise ConfigError(
      f"config.model_devices is {model_devices}, which does not divide the"
      f" {devices} devices"
    )
  return jax.make_mesh(
    (devices // model_devices, model_devices),
    ("data", "model"),
    axis_types=(AxisType.Auto,) * 2,
  )


def local_mesh() -> jax.sharding.Mesh:
  """Returns a mesh of one device of this process, for work of its own."""
  return jax.make_mesh(
    (1, 1),
    ("data", "model"),
    axis_types=(AxisType.Auto,) * 2,
    devices=jax.local_devices()[:1],
  )


def replicated(mesh) -> NamedSharding:
  """The sharding of what is whole on each device."""
  return NamedSharding(mesh, PartitionSpec())


def state_shardings(shapes, mesh, *, fsdp: bool):
  """Chooses where each array of a state lies.

  Args:
    shapes: See `state.state_shapes`; what has an axis "model" by name is spread
      over that of the mesh.
    mesh: See `create_mesh`.
    fsdp: Whether to spread each large array over the axis "data" too, along
      the largest axis that divides, instead of holding it on every device.

  Returns:
    A tree of shardings.
  """

  def of_array(x, named):
    spec = [*named, *[None] * (x.ndim - len(named))]
    if fsdp and x.size >= _SMALLEST_SHARDED:
      free = [
        axis
        for axis, size in enumerate(x.shape)
        if spec[axis] is None and size % mesh.shape["data"] == 0
      ]
      if free:
        spec[max(free, key=lambda axis: x.shape[axis])] = "data"
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(
    of_array, models.unbox(shapes), models.partition_specs(shapes)
  )


def compile_step(train_step, shardings, *, parallel: str):
  """Compiles a step for all devices.

  Args:
    train_step: See `step.make_train_step`, for "pmap" with the axis name
      "data".
    shardings: See `state_shardings`.
    parallel: "jit", or "pmap" over the devices of one process.

  Returns:
    A function of a state and a batch from `put_batch`. By "jit" it takes the
    state's memory for the next one.
  """
  if parallel == "jit":
    return jax.jit(
      train_step,
      donate_argnums=0,
      out_shardings=(shardings, None),
      compiler_options=compilation.options(),
    )
  mapped = jax.pmap(
    train_step, axis_name="data", in_axes=(None, 0), out_axes=None
  )
  devices = jax.local_device_count()

  def step(state, batch):
    by_device = {
      name: rows.reshape(devices, -1, *rows.shape[1:])
      for name, rows in batch.items()
    }
    state, metrics = mapped(state, by_device)
    return jax.device_put(state, shardings), metrics

  return step


def check_rows(rows: int, mesh, *, parts: int = 1) -> None:
  """Checks that a batch splits over the devices.

  Args:
    rows: Its number of rows.
    mesh: See `create_mesh`.
    parts: Parts that it is taken in, each of which is to split.

  Raises:
    ConfigError: It doesn't; says what would.
  """
  devices = mesh.shape["data"]
  multiple = devices * parts
  if rows % multiple:
    in_parts = f" in {parts} parts" if parts > 1 else ""
    raise ConfigError(
      f"a batch of {rows} does not split over {devices} devices{in_parts}; set"
      f" the config's batch sizes to a multiple of {multiple}, such as"
      f" {-(-rows // multiple) * multiple}"
    )


def local_rows(rows: int, mesh) -> slice:
  """Returns the rows of a batch that are on this process's devices.

  Args:
    rows: Number of rows of the whole batch.
    mesh: See `create_mesh`.

  Returns:
    One slice, as devices are in the order of their processes.
  """
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  held = sharding.addressable_devices_indices_map((rows,)).values()
  ranges = [index.indices(rows) for (index,) in held]
  return slice(min(r[0] for r in ranges), max(r[1] for r in ranges))


def put_batch(batch: dict[str, np.ndarray], mesh) -> dict[str, jax.Array]:
  """Puts a batch on the devices, rows split over the axis "data".

  Args:
    batch: Arrays of the rows `local_rows`, each with the same leading axis.
    mesh: See `create_mesh`.

  Returns:
    The arrays of the whole batch, each row on its devices.
  """
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  return {
    name: jax.make_array_from_process_local_data(sharding, value)
    for name, value in batch.items()
  }


def on_host(tree, mesh):
  """Copies arrays that are spread over devices to every process.

  Args:
    tree: Arrays on the mesh's devices.
    mesh: See `create_mesh`.

  Returns:
    The same tree of whole NumPy arrays.
  """
  whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
  return jax.tree.map(np.asarray, whole)
