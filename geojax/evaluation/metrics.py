"""Metrics: the name, unit, direction and formula of each figure, stated once.

Tasks list their metrics; `summarize` computes them from a table.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from geojax.evaluation import intervals, reductions

_MEAN = reductions.Mean()


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
      counts = len(values) or isinstance(metric.reduction, reductions.Count)
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
