"""Metrics: the name, unit, direction and formula of each figure, stated once.

Tasks list their metrics; `summarize` computes them from a table.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from geojax.evaluation import calibration, intervals


class Mean:
  """The mean of values of shape `[count]`."""

  def __call__(self, values):
    """Returns the mean over the last axis."""
    return np.mean(values, axis=-1, dtype=np.float64)

  def resampled(self, values, draws):
    """Returns the mean of each resample of `intervals.Draws`."""
    return draws.means(values)


_MEAN = Mean()


class Median:
  """The median of values of shape `[count]`."""

  def __call__(self, values):
    """Returns the median over the last axis."""
    return np.median(np.asarray(values, np.float64), axis=-1)

  def resampled(self, values, draws):
    """Returns the median of each resample of `intervals.Draws`."""
    return draws.medians(np.asarray(values, np.float64))


class MacroF1:
  """Mean F1 of the classes that occur, of pairs true, predicted `[count, 2]`.

  F1 = 2 TP / (2 TP + FP + FN). A class that is predicted but never true scores
  0, which is scikit-learn's `f1_score(average="macro")`.
  """

  def __init__(self, num_classes: int):
    self._num_classes = num_classes

  def __call__(self, pairs):
    """Returns the mean F1, in [0, 1]."""
    kinds = self._num_classes**2
    counts = np.bincount(self._kind(pairs), minlength=kinds)
    return self._of_counts(counts[None].astype(np.float64))[0]

  def resampled(self, pairs, draws):
    """Returns the mean F1 of each resample of `intervals.Draws`."""
    counts = draws.counts(self._kind(pairs), self._num_classes**2)
    return self._of_counts(np.asarray(counts, np.float64).T)

  def _kind(self, pairs):
    pairs = np.asarray(pairs).astype(np.int64)
    return pairs[:, 0] * self._num_classes + pairs[:, 1]

  def _of_counts(self, counts):
    shape = (-1, self._num_classes, self._num_classes)
    confusion = counts.reshape(shape)
    either = confusion.sum(axis=1) + confusion.sum(axis=2)
    hits = 2 * np.diagonal(confusion, axis1=1, axis2=2)
    f1 = np.divide(hits, either, out=np.zeros_like(either), where=either > 0)
    occurring = (either > 0).sum(axis=1)
    return np.divide(
      f1.sum(axis=1),
      occurring,
      out=np.full(len(f1), np.nan),
      where=occurring > 0,
    )


class CalibrationError:
  """Expected calibration error, of pairs confidence, correct `[count, 2]`."""

  # A mean of distances, whose resamples are biased upwards.
  resampled = None

  def __call__(self, pairs):
    """Returns the error, in [0, 1]."""
    return calibration.expected_calibration_error(pairs[:, 0], pairs[:, 1])


class Count:
  """The number of examples."""

  resampled = None

  def __call__(self, values):
    """Returns the number."""
    return len(values)


_MEAN = Mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
  """One figure of a report.

  Attributes:
    name: Its key in `metrics.json`.
    words: What it measures, for people.
    unit: Its unit, "" for shares and scores.
    higher_is_better: Its direction; None if neither is better.
    columns: The columns of a table that it reads. A table that lacks one has no
      such metric.
    value: Function of these columns to a value per example, `[count, ...]`.
    where: Boolean columns; an example counts where all of them hold.
    reduction: From the values of the examples that count to a float; its
      `resampled`, if any, gives that of each bootstrap resample.
    headline: Whether the table printed after a run shows it.
    in_report: Whether the report lists it.
    final: Whether only a report computes it, since its columns take long.
  """

  name: str
  words: str
  unit: str = ""
  higher_is_better: bool | None = False
  columns: tuple[str, ...]
  value: Callable = lambda column: column
  where: tuple[str, ...]
  reduction: Callable = _MEAN
  headline: bool = False
  in_report: bool = True
  final: bool = False

  @property
  def title(self) -> str:
    """What it measures, with its unit."""
    return f"{self.words}, {self.unit}" if self.unit else self.words

  def is_better(self, value: float, than: float | None) -> bool:
    """Returns whether a value is better than another; NaN never is.

    Args:
      value: The new value.
      than: The old one, or None before the first.
    """
    if math.isnan(value) or than is None:
      return not math.isnan(value)
    return value > than if self.higher_is_better else value < than

  def read(self, table, where=None):
    """Returns the values of the examples that count, and which these are.

    Args:
      table: A dict of arrays, `[count, ...]` each.
      where: Booleans `[count]` that limit the examples further, or None.

    Returns:
      Values `[counting, ...]` and booleans `[count]`; None if the table lacks a
      column.
    """
    if not set(self.columns + self.where) <= set(table):
      return None
    rows = np.logical_and.reduce([table[name] for name in self.where])
    if where is not None:
      rows = rows & where
    columns = (table[name][rows] for name in self.columns)
    return self.value(*columns), rows


def summarize(table, metrics, where=None) -> dict[str, float]:
  """Computes metrics of a table.

  Args:
    table: A dict of arrays, `[count, ...]` each.
    metrics: An iterable of `Metric`.
    where: Booleans `[count]` that limit the examples, or None for all.

  Returns:
    A float per metric whose columns the table has; NaN where no example counts.
  """
  found = {}
  for metric in metrics:
    read = metric.read(table, where)
    if read is not None:
      values, _ = read
      counts = len(values) or isinstance(metric.reduction, Count)
      found[metric.name] = (
        float(metric.reduction(values)) if counts else math.nan
      )
  return found


def with_intervals(table, metrics, draws, where=None, *, mass=0.95):
  """Computes bootstrap intervals of metrics.

  Args:
    table: A dict of arrays, `[count, ...]` each.
    metrics: An iterable of `Metric`.
    draws: The `intervals.Draws` of the table's places.
    where: Booleans `[count]` that limit the examples, or None for all.
    mass: Share of the resamples that an interval holds.

  Returns:
    `[low, high]` per metric that can be resampled; NaN where no resample holds
    an example.
  """
  found = {}
  for metric in metrics:
    read = metric.read(table, where)
    if read is not None and metric.reduction.resampled is not None:
      values, rows = read
      resamples = metric.reduction.resampled(values, draws.of(rows))
      found[metric.name] = intervals.percentiles(resamples, mass)
  return found
