"""Calibrated levels of a run, kept beside its config.

An evaluation fits them, predictions use them. They belong to a checkpoint, so
the file has them by step.
"""

import json
import pathlib

import numpy as np

from geojax import files

FILE = "calibration.json"
# Levels are kept to a millionth.
_DIGITS = 6


def save(workdir: pathlib.Path, step: int, fitted: dict) -> None:
  """Adds the levels of a step, whole or not at all.

  Args:
    workdir: Folder of the run.
    step: The checkpoint's.
    fitted: What the tasks' `fit` returned, by task.
  """
  path = workdir / FILE
  found = json.loads(path.read_text()) if path.exists() else {}
  found[str(step)] = to_dict(fitted)
  files.write_text(path, json.dumps(found) + "\n")


def load(workdir: pathlib.Path, step: int) -> dict | None:
  """Reads the levels of a step, as of `to_dict`.

  Args:
    workdir: Folder of the run.
    step: The checkpoint's.

  Returns:
    A dict by task, or None if that step was never evaluated.
  """
  path = workdir / FILE
  if not path.exists():
    return None
  return json.loads(path.read_text()).get(str(step))


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
