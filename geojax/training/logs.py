"""Metrics of a run: metrics.jsonl, TensorBoard, Weights & Biases."""

import json
import pathlib
import tempfile

import jax
import tensorboardX

from geojax import files
from geojax.training.errors import ConfigError

_METRICS = "metrics.jsonl"
_EVENTS = "tensorboard"


class MetricsLog:
  """Writes `metrics.jsonl`, TensorBoard event files and a wandb run.

  With several processes, only the first one writes. An object of a bucket
  cannot grow: for a workdir there, files on this machine do, and `publish`
  uploads them.
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
    self._workdir, self._folder, self._temporary = workdir, workdir, None
    if not self._writes:
      return
    last = {"train": step}
    kept = [
      line + "\n"
      for line in _lines(workdir / _METRICS)
      if (entry := json.loads(line))["step"]
      <= last.get(entry["split"], evaluated)
    ]
    if not files.is_local(workdir):
      self._temporary = tempfile.TemporaryDirectory()
      self._folder = pathlib.Path(self._temporary.name)
    self._published = {}
    path = self._folder / _METRICS
    files.write_text(path, "".join(kept))
    self._file = path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(self._folder / _EVENTS), purge_step=step + 1 if step else None
    )
    self._wandb = wandb_run
    self.publish()

  @property
  def trace_folder(self) -> pathlib.Path | None:
    """Where the profiler writes; None if that is a bucket it cannot reach."""
    return self._folder / _EVENTS if files.is_local(self._folder) else None

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

  def publish(self) -> None:
    """Uploads what has changed, where the workdir is in a bucket.

    To be called before a checkpoint is saved: then no checkpoint is there
    without the lines up to its step.
    """
    if not self._writes or not self._temporary:
      return
    self._events.flush()
    for path in sorted(self._folder.rglob("*")):
      size = path.stat().st_size
      if path.is_dir() or self._published.get(path) == size:
        continue
      target = self._workdir / path.relative_to(self._folder).as_posix()
      files.copy_from(path, target)
      self._published[path] = size

  def close(self) -> None:
    """Flushes and closes all logs."""
    if not self._writes:
      return
    self._file.close()
    self._events.close()
    if self._temporary:
      self.publish()
      self._temporary.cleanup()
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
      dir=workdir if files.is_local(workdir) else None,
    )
  except wandb.errors.Error as error:
    raise ConfigError(
      f"config.wandb_project: {error} Or set WANDB_MODE=offline, or leave it"
      " empty"
    ) from error


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """Reads `metrics.jsonl` of a workdir, one dict a line."""
  return [json.loads(line) for line in _lines(workdir / _METRICS)]


def _lines(path):
  if not path.exists():
    return []
  text = path.read_text()
  # An unfinished last line was being written when the run was killed.
  return text[: text.rfind("\n") + 1].splitlines()
