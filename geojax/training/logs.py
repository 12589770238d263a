"""Metrics of a run: metrics.jsonl, TensorBoard, Weights & Biases."""

import json
import pathlib

import jax
import tensorboardX

from geojax import files
from geojax.training.errors import ConfigError


class MetricsLog:
  """Writes `metrics.jsonl`, TensorBoard event files and a wandb run.

  With several processes, only the first one writes.
  """

  def __init__(
    self, workdir: pathlib.Path, *, step: int, evaluated: int, wandb_run=None
  ):
    """Opens the logs of a run that continues after `step`.

    Removes later lines: a run that was killed repeats those steps and would log
    them twice.

    Args:
      workdir: Folder of the run.
      step: Steps taken at the restored checkpoint.
      evaluated: Step of the last evaluation before that checkpoint.
      wandb_run: A run of `start_wandb`, or None.
    """
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    last = {"train": step}
    path = workdir / "metrics.jsonl"
    kept = [
      line + "\n"
      for line in _lines(path)
      if (entry := json.loads(line))["step"]
      <= last.get(entry["split"], evaluated)
    ]
    files.write_text(path, "".join(kept))
    self._file = path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(workdir / "tensorboard"), purge_step=step + 1 if step else None
    )
    self._wandb = wandb_run

  def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
    """Writes the metrics of a split ("train", "validation" or "test")."""
    if not self._writes:
      return
    entry = {"step": step, "split": split, **metrics}
    self._file.write(json.dumps(entry) + "\n")
    self._file.flush()
    named = {f"{split}/{name}": value for name, value in metrics.items()}
    for name, value in named.items():
      self._events.add_scalar(name, value, step)
    if self._wandb:
      self._wandb.log({"step": step, **named})

  def close(self) -> None:
    """Flushes and closes all logs."""
    if not self._writes:
      return
    self._file.close()
    self._events.close()
    if self._wandb:
      self._wandb.finish()


def start_wandb(workdir: pathlib.Path, project: str):
  """Starts a run of Weights & Biases, or resumes the one of the workdir.

  Args:
    workdir: Folder of the run, whose name identifies it.
    project: The project, or "" for none.

  Returns:
    The run; None without a project and in all processes but the first.

  Raises:
    ConfigError: Weights & Biases refuses the run.
  """
  if not project or jax.process_index():
    return None
  # An optional dependency, and slow to import.
  import wandb

  try:
    return wandb.init(
      project=project,
      name=workdir.name,
      id=workdir.name,
      resume="allow",
      dir=workdir,
    )
  except wandb.errors.Error as error:
    raise ConfigError(
      f"config.wandb_project: {error} Or set WANDB_MODE=offline, or leave it"
      " empty"
    ) from error


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """Reads `metrics.jsonl` of a workdir, one dict a line."""
  return [json.loads(line) for line in _lines(workdir / "metrics.jsonl")]


def _lines(path):
  if not path.exists():
    return []
  text = path.read_text()
  # An unfinished last line was being written when the run was killed.
  return text[: text.rfind("\n") + 1].splitlines()
