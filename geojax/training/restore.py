"""The state of a run out of its workdir, without its data.

Loads nothing that training alone needs: predictions start from here.
"""

import dataclasses
import pathlib
import sys

import jax

from geojax import models, tasks
from geojax.training import checkpoint, data_info, sharding
from geojax.training import config as config_lib
from geojax.training import state as state_lib
from geojax.training import workdir as workdir_lib
from geojax.training.errors import CheckpointError, ConfigError


@dataclasses.dataclass(frozen=True)
class Restored:
  """A trained run without its data set.

  Attributes:
    config: Its config.
    data: What its records hold.
    state: Its state at some checkpoint, on the devices.
  """

  config: object
  data: data_info.DataInfo
  state: state_lib.TrainState

  @property
  def step(self) -> int:
    """The checkpoint's step."""
    return int(self.state.step)


def restore_run(
  workdir: pathlib.Path, *, last: bool = False, step: int | None = None
) -> Restored:
  """Restores a run from its workdir alone.

  Args:
    workdir: Folder of the run.
    last: See `restore_state`.
    step: See `restore_state`.

  Returns:
    The run.

  Raises:
    ConfigError: There is no trained run in the workdir.
    CheckpointError: See `restore_state`.
  """
  config = config_lib.load_config(workdir / workdir_lib.CONFIG_FILE)
  data = data_info.load(workdir)
  mesh = sharding.create_mesh(config.model_devices)
  task_list = tasks.create_tasks(config, targets=data.targets)
  state, _ = restore_state(
    config, task_list, workdir, data.image_shape, mesh, last=last, step=step
  )
  return Restored(config, data, state)


def restore_state(
  config,
  task_list,
  workdir: pathlib.Path,
  image_shape: tuple[int, int, int],
  mesh,
  *,
  last: bool = False,
  step: int | None = None,
) -> tuple[state_lib.TrainState, int]:
  """Restores the state of a workdir's checkpoint, without its data.

  Args:
    config: The run's config.
    task_list: Its tasks.
    workdir: Folder of the run.
    image_shape: `(patch, patch, bands)` of its records.
    mesh: See `sharding.create_mesh`.
    last: Whether to restore the newest checkpoint instead of the best.
    step: The step of the checkpoint to restore instead, or None.

  Returns:
    The state, on the devices of the mesh, and the best step so far.

  Raises:
    ConfigError: There is no checkpoint yet.
    CheckpointError: The checkpoint is gone, or cannot be read.
  """
  checkpointer = checkpoint.Checkpointer(
    workdir, keep=config.checkpoints_to_keep, read_only=True
  )
  if not checkpointer.steps():
    raise ConfigError(
      f"{workdir} holds no checkpoint yet; train first with experiments/main.py"
    )
  if step is not None and step not in checkpointer.steps():
    raise CheckpointError(
      f"the checkpoint of step {step:,} is gone from {workdir}: the run was"
      " trained further; evaluate the runs together once more"
    )
  target = abstract_state(config, task_list, image_shape, mesh)
  state, record = checkpointer.restore(target, step=step, report=report)
  best_step = record["best_step"]
  if step is None and not last and best_step not in (0, record["step"]):
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
