"""When: the day of the year, a regression of its point on a circle."""

from geojax import encodings, losses
from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import Median
from geojax.models import heads
from geojax.tasks.registry import register
from geojax.tasks.task import Task

_COUNTS = ("date_counts",)
METRICS = (
  Metric(
    name="date_mae_days",
    words="day of year, mean error",
    unit="days",
    columns=("date_days",),
    where=_COUNTS,
    headline=True,
  ),
  Metric(
    name="date_median_days",
    words="day of year, median error",
    unit="days",
    columns=("date_days",),
    where=_COUNTS,
    reduction=Median(),
  ),
)


@register("date")
def create(config, *, mesh=None) -> Task:
  """Creates the task of a run's config; land patches of known date count."""
  del config, mesh
  return Task(
    name="date",
    head=heads.Linear(2, sigmoid=True),
    labels=("date",),
    target=lambda batch: batch["date"],
    counts=lambda batch: encodings.known_rows(batch)["date"],
    loss=losses.squared_error,
    decode=_decode,
    compare=_compare,
    metrics=METRICS,
    weight=losses.DEFAULT_WEIGHTS["date"],
    best_metric="date_mae_days",
  )


def _decode(outputs):
  """`day` `[batch]`; `date_mean`, sine and cosine of its angle `[batch, 2]`."""
  return {
    "day": encodings.decode_day_of_year(outputs),
    "date_mean": 2 * outputs - 1,
  }


def _compare(answers, target):
  """`day_true` and `date_days`, the error around the year, each `[batch]`."""
  day_true = encodings.decode_day_of_year(target)
  return {
    "day_true": day_true,
    "date_days": encodings.days_apart(answers["day"], day_true),
  }
