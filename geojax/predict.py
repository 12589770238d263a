"""A trained run, or an exported encoder, as a function of patches.

    encoder = geojax.from_pretrained("encoders/base")
    features = encoder.features(patches)
    prediction = encoder.predict(patches)
    prediction.lat_lon, prediction.climate_probs, prediction.day

Config, scale, bands and parameters are read from the folder; the data set of
the training need not be there. An exported encoder needs neither Orbax nor
Grain nor TFDS.
"""

import os
import sys

import jax

from geojax import files, tasks
from geojax.prediction import LEVELS, SET_LEVEL, Prediction, Sums, sum_up
from geojax.predictor import Predictor
from geojax.training import calibrations, exported, sharding

__all__ = [
  "LEVELS",
  "SET_LEVEL",
  "Prediction",
  "Predictor",
  "Sums",
  "from_pretrained",
  "load",
  "sum_up",
]

# A batch's pixels by default: few enough for the widest features of the
# encoder to take a few hundred MB.
_PIXELS_PER_BATCH = 2**18


def load(
  workdir, *, batch_size: int | None = None, last: bool = False
) -> Predictor:
  """Loads a trained run, or several that answer together.

  Their data sets need not be there.

  Args:
    workdir: Folder of a run, or one that experiments/evaluate.py was given as
      --output for several; or a sequence of workdirs of runs, whose levels are
      not calibrated.
    batch_size: Patches at a time, rounded up to a multiple of the devices; by
      default what makes about 2^18 pixels on each of them.
    last: Whether to take the newest checkpoint instead of the one that was best
      on validation, by `config.best_metric`; not of runs that were evaluated
      together.

  Returns:
    The run, or runs, as a `Predictor`.

  Raises:
    training.errors.ConfigError: There is no trained run in the workdir, or the
      runs cannot answer together.
  """
  # Imported here, since an exported encoder needs no Orbax.
  from geojax.training import ensemble, restore

  if not isinstance(workdir, str | os.PathLike):
    workdir = list(map(files.path, workdir))
    found = ensemble.restore_all(workdir, last=last)
    name, calibration = ", ".join(map(str, workdir)), None
  else:
    name = workdir = files.path(workdir)
    if ensemble.is_ensemble(workdir):
      found = ensemble.restore_saved(workdir, last=last)
    else:
      found = restore.restore_run(workdir, last=last)
    calibration = calibrations.load(workdir, found.step)
  task_list = tasks.create_tasks(found.config, targets=found.data.targets)
  if note := calibrations.describe_lack(calibration, task_list):
    print(f"{name}, step {found.step:,}: {note}", file=sys.stderr)
  evaluated = found.state.evaluated
  return _create(
    found.config,
    found.data,
    {
      "params": evaluated["params"]["model"],
      "batch_stats": evaluated["batch_stats"],
    },
    sharding.create_mesh(found.config.model_devices),
    batch_size,
    calibration,
  )


def from_pretrained(path, *, batch_size: int | None = None) -> Predictor:
  """Loads an encoder with its heads.

  Args:
    path: A folder that experiments/export.py wrote, or a run's workdir; either
      may be in a bucket, `gs://...` (needs the extra `gcs`).
    batch_size: See `load`.

  Returns:
    A `Predictor`.

  Raises:
    training.errors.ConfigError: There is no encoder.
  """
  folder = files.path(path)
  if not exported.is_exported(folder):
    return load(folder, batch_size=batch_size)
  found = exported.read(folder)
  mesh = sharding.create_mesh()
  variables = jax.device_put(found.variables, sharding.replicated(mesh))
  calibration = found.about.get("calibration", {}).get("levels")
  return _create(
    found.config, found.data, variables, mesh, batch_size, calibration
  )


def _create(config, data, variables, mesh, batch_size, calibration):
  devices = mesh.shape["data"]
  if batch_size is None:
    height, width, _ = data.image_shape
    batch_size = devices * max(1, _PIXELS_PER_BATCH // (height * width))
  batch_size = -(-batch_size // devices) * devices
  level_knots = calibrations.level_knots(calibration or {})
  return Predictor(config, data, variables, mesh, batch_size, level_knots)
