"""The state of a run out of its workdir, without its data.

Loads nothing that training alone needs: predictions start from here.
"""

import pathlib
import sys

import jax

from geojax import models
from geojax.training import checkpoint, sharding
from geojax.training import state as state_lib
from geojax.training.errors import ConfigError


def restore_state(
  config,
  task_list,
  workdir: pathlib.Path,
  image_shape: tuple[int, int, int],
  mesh,
  *,
  last: bool = False,
) -> tuple[state_lib.TrainState, int]:
  """Restores the state of a workdir's checkpoint, without its data.

  Args:
    config: The run's config.
    task_list: Its tasks.
    workdir: Folder of the run.
    image_shape: `(patch, patch, bands)` of its records.
    mesh: See `sharding.create_mesh`.
    last: Whether to restore the newest checkpoint instead of the best.

  Returns:
    The state, on the devices of the mesh, and the best step so far.

  Raises:
    ConfigError: There is no checkpoint yet.
    CheckpointError: The checkpoint cannot be read.
  """
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep, read_only=True
  )
  if not checkpointer.steps():
    raise ConfigError(
      f"{workdir} holds no checkpoint yet; train first with experiments/main.py"
    )
  target = abstract_state(config, task_list, image_shape, mesh)
  state, record = checkpointer.restore(target, report=report)
  best_step = record["best_step"]
  if not last and best_step not in (0, record["step"]):
    state, _ = checkpointer.restore(target, step=best_step, report=report)
  checkpointer.close()
  return state, best_step


def abstract_state(config, task_list, image_shape, mesh):
  """Returns a run's state without values: shapes, types and where each lies.

  Args:
    config: The run's config.
    task_list: Its tasks.
    image_shape: `(patch, patch, bands)` of its records.
    mesh: See `sharding.create_mesh`.

  Returns:
    A `TrainState` of `jax.ShapeDtypeStruct` with shardings.
  """
  shapes = state_lib.state_shapes(config, task_list, image_shape=image_shape)
  shardings = sharding.state_shardings(
    shapes, mesh, fsdp=config.sharding == "fsdp"
  )
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    models.unbox(shapes),
    shardings,
  )


def report(line: str) -> None:
  """Prints a line on standard error at once."""
  print(line, file=sys.stderr, flush=True)
