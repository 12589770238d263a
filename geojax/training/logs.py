"""What a run writes for people: metrics.jsonl, TensorBoard events, a bar."""

import json
import pathlib

import jax
import tensorboardX

from geojax import files
from geojax.training.errors import ConfigError


class MetricsLog:
  """`metrics.jsonl`, one object a line, and TensorBoard event files.

  Of several processes the first one writes, the others' logs do nothing.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    step: int,
    evaluated: int,
    wandb_run=None,
  ):
    """Opens the logs of a run that goes on after `step`.

    What comes later is cut off: a run that was killed takes those steps again
    and would log them twice.

    Args:
      workdir: Folder of the run.
      step: Steps taken by the checkpoint that the run goes on from.
      evaluated: Step of the last evaluation that the checkpoint knows of.
      wandb_run: As of `start_wandb`; gets the metrics too.
    """
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    path = workdir / "metrics.jsonl"
    kept = [
      line
      for line in _lines(path)
      if _step(line) <= (step if _is_of_train(line) else evaluated)
    ]
    files.write_text(path, "".join(line + "\n" for line in kept))
    self._file = path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(workdir / "tensorboard"), purge_step=step + 1 if step else None
    )
    self._wandb = wandb_run

  def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
    """Writes the metrics of a step.

    Args:
      step: Steps taken.
      split: "train", "validation" or "test".
      metrics: Numbers by name.
    """
    if not self._writes:
      return
    line = {"step": step, "split": split, **metrics}
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    for name, value in metrics.items():
      self._events.add_scalar(f"{split}/{name}", value, step)
    if self._wandb:
      named = {f"{split}/{name}": value for name, value in metrics.items()}
      self._wandb.log({"step": step, **named})

  def close(self) -> None:
    """Flushes and closes the files."""
    if not self._writes:
      return
    self._file.close()
    self._events.close()
    if self._wandb:
      self._wandb.finish()


def start_wandb(workdir: pathlib.Path, project: str):
  """Starts a run of Weights & Biases; one of that workdir's name goes on.

  Args:
    workdir: Folder of the run.
    project: The project, or "" for none.

  Returns:
    The run; None without a project and in all processes but the first.

  Raises:
    ConfigError: Weights & Biases does not take the run.
  """
  if not project or jax.process_index():
    return None
  # An extra, and slow to import.
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
  # A line without its end was being written when the run was killed.
  return text[: text.rfind("\n") + 1].splitlines()


def _is_of_train(line):
  return json.loads(line)["split"] == "train"


def _step(line):
  return json.loads(line)["step"]
