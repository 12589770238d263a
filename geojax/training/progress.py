"""What a run remembers on the host: its interval, its best, its patience.

Part of each checkpoint, so that a run that goes on logs and decides as one that
never stopped.
"""

import dataclasses
import math
import time

from geojax import metrics as metrics_lib
from geojax.training import config as config_lib
from geojax.training import optimizers
from geojax.training.errors import NonFiniteError


@dataclasses.dataclass
class Progress:
  """A run so far.

  Attributes:
    step: Steps taken.
    evaluated: Step of the last evaluation on validation.
    best: Best value of `config.best_metric` so far, None before the first.
    best_step: Its step.
    waited: Evaluations since the best.
    plateau: Evaluations since the best or the last reduction of the rate.
    rate_scale: Product of the reductions so far.
    skipped: Steps left out, as not finite.
    sums: Sums of the metrics of the steps since the last log line.
    count: Number of those steps.
  """

  step: int = 0
  evaluated: int = 0
  best: float | None = None
  best_step: int = 0
  waited: int = 0
  plateau: int = 0
  rate_scale: float = 1.0
  skipped: int = 0
  sums: dict[str, float] = dataclasses.field(default_factory=dict)
  count: int = 0

  def judge(self, config, metrics: dict[str, float]) -> bool:
    """Takes in an evaluation: best so far, patience, rate.

    Args:
      config: The config of the run.
      metrics: Those of validation, at `step`.

    Returns:
      Whether it is the best so far.
    """
    self.evaluated = self.step
    name = config_lib.best_metric(config)
    value = metrics[name]
    if metrics_lib.is_better(name, value, self.best):
      self.best, self.best_step = value, self.step
      self.waited = self.plateau = 0
      return True
    self.waited += 1
    self.plateau += 1
    optimizer = config.optimizer
    if (
      optimizer.schedule == "plateau"
      and self.plateau >= optimizer.plateau_patience
    ):
      self.plateau = 0
      self.rate_scale = max(
        self.rate_scale * optimizer.plateau_factor, optimizer.final_fraction
      )
    return False

  def is_over(self, config) -> bool:
    """Tells whether all steps are taken, or patience is at its end."""
    patience = config.early_stopping_patience
    return self.step >= config.num_steps or 0 < patience <= self.waited

  def add(self, step: int, metrics: dict, *, at_most_skipped: int) -> str:
    """Takes in the metrics of a step.

    Args:
      step: Its number.
      metrics: Scalars; reading them waits for the step.
      at_most_skipped: How many steps may be left out as not finite.

    Returns:
      "" where all are finite, or what is not.

    Raises:
      NonFiniteError: One step too many is not finite.
    """
    metrics = {name: float(value) for name, value in metrics.items()}
    wrong = ", ".join(
      f"{name} is {value}"
      for name, value in metrics.items()
      if not math.isfinite(value)
    )
    if wrong:
      self.skipped += 1
      wrong = f"step {step}: {wrong}"
      if self.skipped > at_most_skipped:
        raise NonFiniteError(wrong)
      return wrong
    for name, value in metrics.items():
      self.sums[name] = self.sums.get(name, 0.0) + value
    self.count += 1
    return ""

  def take_means(self) -> dict[str, float]:
    """Returns the means since the last call, and starts anew."""
    means = {name: total / self.count for name, total in self.sums.items()}
    self.sums, self.count = {}, 0
    return means


class Clock:
  """Time of the steps since the last log line, and that spent on waiting."""

  def __init__(self, config):
    self._batch_size = config.data.batch_size
    self.restart()

  def restart(self):
    """Forgets all that was so far, such as an evaluation."""
    self._start = time.perf_counter()
    self._waited, self._steps = 0.0, 0

  def next(self, batches):
    """Takes the next batch, and the time that it needs."""
    start = time.perf_counter()
    batch = next(batches)
    self._waited += time.perf_counter() - start
    self._steps += 1
    return batch

  def read(self) -> dict[str, float]:
    """Returns speed and share of waiting since the last call."""
    elapsed = time.perf_counter() - self._start
    found = {
      "patches_per_second": self._steps * self._batch_size / elapsed,
      "data_wait_fraction": self._waited / elapsed,
    }
    self.restart()
    return found


def learning_rate(config, progress: Progress) -> float:
  """Returns the rate of the newest step that was not left out."""
  schedule = optimizers.make_schedule(config, config.optimizer.learning_rate)
  # A step that is left out is none for the optimizer, whose schedule waits.
  taken = progress.step - progress.skipped
  return float(schedule(max(taken - 1, 0))) * progress.rate_scale
