"""The state of a run out of its workdir, without its data.

Loads nothing that training alone needs: predictions start from here.
"""

import pathlib
import sys

import jax

from geojax.training import checkpoint, sharding
from geojax.training import state as state_lib
from geojax.training.errors import ConfigError


def restore_state(
  config,
  workdir: pathlib.Path,
  image_shape: tuple[int, int, int],
  mesh,
  *,
  last: bool = False,
) -> tuple[state_lib.TrainState, int]:
  """Restores the state of a workdir's checkpoint, without its data.

  Args:
    config: The run's config.
    workdir: Folder of the run.
    image_shape: `(patch, patch, bands)` of its records.
    mesh: As of `sharding.create_mesh`.
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
  # Shapes alone: to initialise what the checkpoint holds would be compiled,
  # which takes seconds, and memory that is not given back.
  shapes = jax.eval_shape(
    lambda: state_lib.create_state(
      config,
      image_shape=image_shape,
      mixture=state_lib.placeholder_mixture(config),
    )
  )
  state = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes,
    sharding.state_shardings(shapes, mesh, fsdp=config.sharding == "fsdp"),
  )
  state, record = checkpointer.restore(state, report=report)
  best_step = record["best_step"]
  if not last and best_step not in (0, record["step"]):
    state, _ = checkpointer.restore(state, step=best_step, report=report)
  checkpointer.close()
  return state, best_step


def report(line: str) -> None:
  """Prints a line on standard error at once."""
  print(line, file=sys.stderr, flush=True)
