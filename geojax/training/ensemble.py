"""Several runs that answer together: a deep ensemble.

Its answers are the means of theirs, see `Task.combine`: of where, the mean of
the densities, which is a mixture of the components of all. It is evaluated and
calibrated as one run is, and is not trained. Its config is that of the first
run, with those of all runs as `members`.

References:
  Lakshminarayanan, Pritzel & Blundell, Simple and scalable predictive
  uncertainty estimation using deep ensembles, NeurIPS 2017, arXiv:1612.01474.
"""

import dataclasses
import json
from collections.abc import Sequence

import jax.numpy as jnp
import ml_collections

from geojax import files
from geojax.training import data_info, restore
from geojax.training import state as state_lib
from geojax.training import workdir as workdir_lib
from geojax.training.errors import ConfigError

FILE = "ensemble.json"


@dataclasses.dataclass(frozen=True)
class Ensemble(restore.Restored):
  """Runs that answer together.

  `state.evaluated` has the variables of each; the step is the sum of theirs.

  Attributes:
    workdirs: Their folders.
    steps: The step of each one's checkpoint.
  """

  workdirs: tuple
  steps: tuple[int, ...]


def is_ensemble(folder) -> bool:
  """Whether a folder is one that `save` wrote to."""
  return (folder / FILE).exists()


def save(ensemble: Ensemble, folder) -> None:
  """Notes in a folder which runs, at which steps, answer together.

  Args:
    ensemble: The runs.
    folder: The folder; made if it isn't there.

  Raises:
    ConfigError: The folder is a run's, or that of other runs.
  """
  if (folder / workdir_lib.CONFIG_FILE).exists():
    raise ConfigError(
      f"{folder} is the workdir of a run; choose another --output"
    )
  workdirs = [str(files.absolute(path)) for path in ensemble.workdirs]
  if is_ensemble(folder):
    others, _ = _read(folder)
    if list(map(str, others)) != workdirs:
      raise ConfigError(
        f"{folder} is what other runs answer together,"
        f" {', '.join(map(str, others))}; choose another --output"
      )
  folder.mkdir(parents=True, exist_ok=True)
  members = [
    {"workdir": workdir, "step": step}
    for workdir, step in zip(workdirs, ensemble.steps, strict=True)
  ]
  text = json.dumps({"members": members}, indent=2)
  files.write_text(folder / FILE, text + "\n")


def restore_saved(folder, *, last: bool = False) -> Ensemble:
  """Restores the runs that `save` noted, each at its step.

  Args:
    folder: The folder.
    last: Whether other checkpoints are asked for, which is refused.

  Raises:
    ConfigError: See `restore_all`; `last`; or the file is damaged.
    CheckpointError: A run's checkpoint of that step is gone, or cannot be read.
  """
  if last:
    raise ConfigError(
      f"{folder} has runs at the steps that they were evaluated with; for the"
      " newest checkpoints give --last with the workdirs of the runs"
    )
  return restore_all(*_read(folder))


def restore_all(
  workdirs: Sequence, steps=None, *, last: bool = False
) -> Ensemble:
  """Restores runs to answer together.

  Args:
    workdirs: Their folders, two or more.
    steps: The step of the checkpoint of each; None for the best ones on
      validation.
    last: Whether to take the newest checkpoints instead of the best.

  Returns:
    The `Ensemble`.

  Raises:
    ConfigError: One is no run, or they cannot answer together.
    CheckpointError: A checkpoint cannot be read.
  """
  repeated = len(set(map(str, map(files.absolute, workdirs)))) < len(workdirs)
  if len(workdirs) < 2 or repeated:
    raise ConfigError(
      "runs that answer together must be two or more, each of them once; found"
      f" {', '.join(map(str, workdirs))}"
    )
  runs = [
    restore.restore_run(path, last=last, step=step)
    for path, step in zip(
      workdirs, steps or [None] * len(workdirs), strict=True
    )
  ]
  for path, run in zip(workdirs, runs, strict=True):
    if differing := _differences(runs[0], run):
      raise ConfigError(
        f"{workdirs[0]} and {path} cannot answer together: they differ in"
        f" {', '.join(differing)}"
      )
  members = {f"run_{i:02}": run for i, run in enumerate(runs)}
  return Ensemble(
    config=_join({name: run.config for name, run in members.items()}),
    data=runs[0].data,
    state=_join_states({name: run.state for name, run in members.items()}),
    workdirs=tuple(workdirs),
    steps=tuple(run.step for run in runs),
  )


def _read(folder):
  """Workdirs and steps of a folder's runs."""
  path = folder / FILE
  try:
    members = json.loads(path.read_text())["members"]
    return (
      [files.path(member["workdir"]) for member in members],
      [int(member["step"]) for member in members],
    )
  except (ValueError, KeyError, TypeError) as error:
    raise ConfigError(
      f"{path} is damaged ({error!r}); delete it, and experiments/evaluate.py"
      " writes it again"
    ) from error


def _differences(run, other):
  """Names of what differs and must not."""
  ours, theirs = (data_info.to_dict(found.data) for found in (run, other))
  found = [
    f"{key} of {data_info.FILE}" for key in ours if ours[key] != theirs[key]
  ]

  def asked(config):
    return {
      "tasks": tuple(config.tasks),
      "model_devices": config.model_devices,
      "mixture.background": config.mixture.background,
      "loss.coords (a mixture or a place)": config.loss.coords == "mse",
    }

  ours, theirs = asked(run.config), asked(other.config)
  return found + [f"config.{k}" for k in ours if ours[k] != theirs[k]]


def _join(members):
  first = next(iter(members.values()))
  joined = first.copy_and_resolve_references()
  with joined.unlocked():
    joined.members = ml_collections.ConfigDict(members)
  joined.mixture.num_centers = sum(
    config.mixture.num_centers for config in members.values()
  )
  # The members' own temperatures are part of their densities.
  joined.mixture.temperature = 1.0
  return joined


def _join_states(members):
  found = {name: state.evaluated for name, state in members.items()}
  params = {name: each["params"]["model"] for name, each in found.items()}
  model = {"members": params}
  heads = [each["coords"] for each in params.values() if "coords" in each]
  if heads and "mu" in heads[0]:
    model["coords"] = {
      name: jnp.concatenate([head[name] for head in heads])
      for name in ("mu", "log_kappa")
    }
  return state_lib.TrainState(
    step=sum(state.step for state in members.values()),
    params={"model": model},
    batch_stats={name: each["batch_stats"] for name, each in found.items()},
    opt_state=None,
    ema=None,
    rate_scale=None,
  )
