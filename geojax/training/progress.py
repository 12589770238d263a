"""State of a run on the host: log interval, best step, patience.

Part of each checkpoint, so that a resumed run logs and decides as one that was
never interrupted.
"""

import contextlib
import dataclasses
import math
import time

from geojax.evaluation.metrics import Metric
from geojax.training import optimizers
from geojax.training.errors import NonFiniteError

# Times that a `Clock` adds to a log line. The rest is the same in each run.
TIMINGS = ("patches_per_second", "data_wait_fraction", "save_wait_s", "eval_s")


@dataclasses.dataclass
class Progress:
  """Progress of a run.

  Attributes:
    step: Steps taken.
    evaluated: Step of the last evaluation on validation.
    best: Best value of the run's best metric, None before the first.
    best_step: Step of the best value.
    waited: Evaluations since the best one.
    plateau: Evaluations since the best one or the last reduction of the rate.
    rate_scale: Product of the reductions of the learning rate.
    skipped: Steps skipped because they were not finite.
    sums: Sums of the metrics of the steps since the last log line.
    count: Number of these steps.
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

  def judge(self, config, best_metric: Metric, value: float) -> bool:
    """Adds the validation metric at `step`; returns whether it is the best."""
    self.evaluated = self.step
    if best_metric.is_better(value, self.best):
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
    """Returns whether all steps are taken or patience has run out."""
    patience = config.early_stopping_patience
    return self.step >= config.num_steps or 0 < patience <= self.waited

  def add(self, step: int, metrics: dict, *, at_most_skipped: int) -> str:
    """Adds the metrics of a step to the sums, unless one is not finite.

    Args:
      step: Number of the step.
      metrics: Scalars; reading them waits for the step.
      at_most_skipped: How many steps may be skipped.

    Returns:
      The metrics that are not finite, as text; "" if all are.

    Raises:
      NonFiniteError: More steps than allowed are not finite.
    """
    metrics = {name: float(value) for name, value in metrics.items()}
    wrong = [
      f"{name} is {value}"
      for name, value in metrics.items()
      if not math.isfinite(value)
    ]
    if wrong:
      message = f"step {step}: {', '.join(wrong)}"
      self.skipped += 1
      if self.skipped > at_most_skipped:
        raise NonFiniteError(message)
      return message
    for name, value in metrics.items():
      self.sums[name] = self.sums.get(name, 0.0) + value
    self.count += 1
    return ""

  def take_means(self) -> dict[str, float]:
    """Returns the means since the last call and resets the sums."""
    means = {name: total / self.count for name, total in self.sums.items()}
    self.sums, self.count = {}, 0
    return means


class Clock:
  """Measures the speed of steps, and what they wait for."""

  def __init__(self, config):
    self._batch_size = config.data.batch_size
    self._restart()

  def _restart(self):
    self._start = time.perf_counter()
    self._waited_s, self._steps = 0.0, 0
    self._pauses_s = {"save_wait_s": 0.0, "eval_s": 0.0}

  def next(self, batches):
    """Returns the next batch and measures the wait for it."""
    start = time.perf_counter()
    batch = next(batches)
    self._waited_s += time.perf_counter() - start
    self._steps += 1
    return batch

  @contextlib.contextmanager
  def pause(self, name: str):
    """Measures something that no step is taken during.

    Args:
      name: "save_wait_s" or "eval_s".
    """
    start = time.perf_counter()
    try:
      yield
    finally:
      self._pauses_s[name] += time.perf_counter() - start

  def read(self) -> dict[str, float]:
    """Returns the `TIMINGS` since the last call.

    Speed, and the share of the time spent waiting for batches, are those of the
    steps, without the pauses.
    """
    elapsed_s = time.perf_counter() - self._start
    stepping_s = elapsed_s - sum(self._pauses_s.values())
    found = {
      "patches_per_second": self._steps * self._batch_size / stepping_s,
      "data_wait_fraction": self._waited_s / stepping_s,
      **self._pauses_s,
    }
    self._restart()
    return found


def learning_rate(config, progress: Progress) -> float:
  """Returns the learning rate of the newest step that was not skipped."""
  schedule = optimizers.make_schedule(config, config.optimizer.learning_rate)
  # A skipped step does not advance the optimizer's schedule.
  taken = progress.step - progress.skipped
  return float(schedule(max(taken - 1, 0))) * progress.rate_scale
