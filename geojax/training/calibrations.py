"""Calibrated levels of a run, kept beside its config.

An evaluation fits them, predictions use them. They belong to a checkpoint, so
the file has them by step.
"""

import json
import pathlib

import numpy as np

from geojax import files
from geojax.training.errors import ConfigError

FILE = "calibration.json"
# Levels are kept to a millionth.
_DIGITS = 6


def save(workdir: pathlib.Path, step: int, fitted: dict) -> None:
  """Adds the levels of a step, whole or not at all.

  Args:
    workdir: Folder of the run.
    step: The checkpoint's.
    fitted: What the tasks' `fit` returned, by task.

  Raises:
    ConfigError: The file that is there is damaged.
  """
  path = workdir / FILE
  found = _read(path)
  found[str(step)] = to_dict(fitted)
  files.write_text(path, json.dumps(found) + "\n")


def load(workdir: pathlib.Path, step: int) -> dict | None:
  """Reads the levels of a step, as of `to_dict`.

  Args:
    workdir: Folder of the run.
    step: The checkpoint's.

  Returns:
    A dict by task, or None if that step was never evaluated.

  Raises:
    ConfigError: The file is damaged.
  """
  return _read(workdir / FILE).get(str(step))


def _read(path):
  if not path.exists():
    return {}
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise ConfigError(
      f"{path} is damaged ({error}); delete it, and experiments/evaluate.py"
      " writes it again"
    ) from error


def describe_lack(calibration: dict | None, task_list) -> str:
  """Says which tasks serve the model's own levels, and why.

  Args:
    calibration: What `load` returned.
    task_list: The tasks of the run.

  Returns:
    A sentence; "" if all levels are calibrated that can be.
  """
  names = [task.name for task in task_list if task.fit is not None]
  missing = [name for name in names if name not in (calibration or {})]
  if not missing:
    return ""
  why = "validation has no patch to calibrate them by"
  if calibration is None:
    why = "the step was not evaluated; experiments/evaluate.py calibrates them"
  return f"levels of {', '.join(missing)} are the model's own: {why}"


def to_dict(fitted: dict) -> dict:
  """Returns the levels in JSON's types.

  Args:
    fitted: See `save`.

  Returns:
    By task `level_knots` and `num_blocks`; tasks that rest on no block are
    missing.
  """
  return {
    name: {
      "num_blocks": int(found["num_blocks"]),
      "level_knots": np.round(
        np.float64(found["level_knots"]), _DIGITS
      ).tolist(),
    }
    for name, found in fitted.items()
    if "level_knots" in found and found["num_blocks"] > 0
  }


def level_knots(described: dict) -> dict[str, np.ndarray]:
  """Returns `Prediction.level_knots` of the result of `to_dict`."""
  return {
    name: np.array(found["level_knots"], np.float32)
    for name, found in described.items()
  }
