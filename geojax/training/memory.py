"""What to do when a device has too little memory for a step."""

import contextlib

import jax

from geojax.training.errors import OutOfMemoryError

_EXHAUSTED = "RESOURCE_EXHAUSTED"
# Of a device's memory, what the compiler's plan may take: allocations leave
# gaps.
_USABLE = 0.95


@contextlib.contextmanager
def explained(step, config, mesh, describe):
  """Turns an exhausted memory into an error that names what would fit.

  Args:
    step: The train step, see `sharding.compile_step`.
    config: The config of the run.
    mesh: Its devices.
    describe: A function without arguments that returns the state, and a row of
      a batch by name, both as `jax.ShapeDtypeStruct`.

  Raises:
    OutOfMemoryError: Raised in the context was JAX's error.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if _EXHAUSTED not in str(error):
      raise
    raise OutOfMemoryError(_advise(step, config, mesh, *describe())) from error


def _advise(step, config, mesh, state, row):
  rows, parts = config.data.batch_size, config.optimizer.accumulate
  ways = []
  if not config.model.remat:
    ways.append("--config.model.remat=True")
  if config.model.dtype == "float32":
    ways.append("--config.model.dtype=bfloat16")
  ways.append(f"--config.optimizer.accumulate={2 * parts}")
  limit = device_bytes()
  found = ""
  # A mapped step cannot be compiled without being run.
  if limit and config.parallel == "jit":
    fitting = largest_batch(
      lambda rows: planned_bytes(step, state, row, rows, mesh),
      limit=_USABLE * limit,
      rows=rows,
      multiple=mesh.shape["data"] * parts,
    )
    found = (
      f" By the compiler's plan, --config.data.batch_size={fitting} fits into"
      f" the {limit / 2**30:.1f} GiB of a device."
      if fitting
      else " By the compiler's plan, no batch fits: take a smaller model."
    )
  return (
    f"a step of config.data.batch_size={rows} does not fit into the memory of a"
    f" device.{found} The same batch takes less memory by {' or '.join(ways)}"
  )


def device_bytes() -> int | None:
  """Returns the memory of a device; None where it is not known, as on CPUs."""
  stats = jax.local_devices()[0].memory_stats()
  return stats and stats.get("bytes_limit")


def planned_bytes(step, state, row, rows: int, mesh) -> int | None:
  """Returns what the compiler plans for a step on each device.

  Args:
    step: A step of `sharding.compile_step`, by "jit".
    state: Its state, as shapes.
    row: Shape and type of a row of a batch by name.
    rows: Rows of the whole batch.
    mesh: The devices.

  Returns:
    Bytes of arguments, results and temporary arrays; None if the compiler
    itself finds that they do not fit.
  """
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  batch = {
    name: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype, sharding=where)
    for name, x in row.items()
  }
  try:
    plan = step.lower(state, batch).compile().memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    if _EXHAUSTED not in str(error):
      raise
    return None
  return (
    plan.argument_size_in_bytes
    + plan.output_size_in_bytes
    + plan.temp_size_in_bytes
    # Results in the memory of arguments.
    - plan.alias_size_in_bytes
  )


def largest_batch(planned, *, limit: float, rows: int, multiple: int) -> int:
  """Searches the largest batch below one that does not fit.

  Args:
    planned: Bytes of a number of rows; None if they do not fit.
    limit: Bytes that there are.
    rows: Rows that do not fit.
    multiple: What numbers of rows must be multiples of.

  Returns:
    Rows; 0 if none fit.
  """
  fits, fails = 0, -(-rows // multiple)
  while fails - fits > 1:
    middle = (fits + fails) // 2
    needed = planned(middle * multiple)
    if needed is not None and needed <= limit:
      fits = middle
    else:
      fails = middle
  return fits * multiple
