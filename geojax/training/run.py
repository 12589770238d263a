"""A trained run, or several that answer together, with their data set."""

import dataclasses
import pathlib

import jax

from geojax import tasks
from geojax.training import config as config_lib
from geojax.training import dataset as dataset_lib
from geojax.training import ensemble, restore, sharding
from geojax.training import state as state_lib
from geojax.training import workdir as workdir_lib


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained run.

  Attributes:
    config: Its config.
    tasks: What its model is asked.
    mesh: Its devices.
    dataset: The data set it was trained on.
    state: Its state at some checkpoint.
    best_step: The step that was best on validation so far, by
      `config.best_metric`; 0 before the first evaluation.
  """

  config: object
  tasks: tuple[tasks.Task, ...]
  mesh: jax.sharding.Mesh
  dataset: dataset_lib.Dataset
  state: state_lib.TrainState
  best_step: int

  @property
  def described_step(self) -> str:
    """Which checkpoint this is, in words."""
    step = int(self.state.step)
    if "members" in self.config:
      return f"mean of {len(self.config.members)} runs"
    if step == self.best_step:
      name = tasks.best_metric(self.tasks, self.config.best_metric).name
      return f"step {step:,}, best {name} on validation"
    return f"step {step:,}, not the best on validation"


def load(workdir: pathlib.Path, *, last: bool = False) -> Run:
  """Loads a run from its workdir.

  Args:
    workdir: Folder of the run, or of an `ensemble`.
    last: Whether to load the newest checkpoint instead of the one that was best
      on validation, by `config.best_metric`; not of an ensemble.

  Returns:
    The run.

  Raises:
    ConfigError: There is no run in the workdir.
    DatasetError: The run's data set is not on disk.
    CheckpointError: The checkpoint cannot be read.
  """
  if ensemble.is_ensemble(workdir):
    return of_ensemble(ensemble.restore_saved(workdir, last=last))
  config = config_lib.load_config(workdir / workdir_lib.CONFIG_FILE)
  dataset, mesh, task_list = _open(config)
  state, best_step = restore.restore_state(
    config, task_list, workdir, dataset.image_shape, mesh, last=last
  )
  return Run(
    config=config,
    tasks=task_list,
    mesh=mesh,
    dataset=dataset,
    state=state,
    best_step=best_step,
  )


def of_ensemble(found: ensemble.Ensemble) -> Run:
  """Returns runs that answer together as one run.

  Args:
    found: The runs.

  Raises:
    DatasetError: Their data set is not on disk.
  """
  dataset, mesh, task_list = _open(found.config)
  return Run(
    config=found.config,
    tasks=task_list,
    mesh=mesh,
    dataset=dataset,
    state=found.state,
    best_step=0,
  )


def _open(config):
  dataset = dataset_lib.open_dataset(
    config.data.dir, config.data.name, config.data.cache_dir
  )
  mesh = sharding.create_mesh(config.model_devices)
  task_list = tasks.create_tasks(config, targets=dataset.targets, mesh=mesh)
  return dataset, mesh, task_list
