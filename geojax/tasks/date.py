"""When: the day of the year, a regression of its point on a circle."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from geojax import circular, encodings, losses
from geojax.evaluation import conformal
from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import Median
from geojax.models import heads
from geojax.tasks.registry import register
from geojax.tasks.task import Task

_COUNTS = ("date_counts",)
# Share of the patches whose day the reported arcs are to hold, in %.
_ARC_PERCENT = 80
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
  Metric(
    name=f"date_coverage@{_ARC_PERCENT}%",
    words=f"true day in the {_ARC_PERCENT} % arc",
    columns=("date_level",),
    value=lambda level: level <= _ARC_PERCENT / 100,
    where=_COUNTS,
    higher_is_better=None,
    final=True,
  ),
  Metric(
    name=f"date_arc@{_ARC_PERCENT}%_days",
    words=f"length of the {_ARC_PERCENT} % arc",
    unit="days",
    columns=("date_arc_days",),
    where=_COUNTS,
    final=True,
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
    score=_score,
    fit_columns=("raw_date_level", *_COUNTS),
    fit=functools.partial(
      conformal.fit_table, level="raw_date_level", where=_COUNTS
    ),
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


def _score(outputs, target, fitted):
  """Level of the true day, and days of the arc about the predicted one.

  The answer is taken for a von Mises distribution; a day's level is what lies
  nearer. `date_level` and `date_arc_days`, each `[batch]`, by calibrated
  levels, `raw_...` by the distribution's, which they are before there is a fit.
  """
  knots = (fitted or {}).get("level_knots")
  answers = _decode(outputs)
  length = jnp.linalg.norm(answers["date_mean"], axis=-1)
  days = _compare(answers, target)["date_days"]
  # A target that is unknown, and does not count, has no day.
  days = jnp.nan_to_num(days)
  turn = 2 * math.pi / encodings.DAYS_PER_YEAR
  raw = circular.mass_within(days * turn, length)
  promised = np.float32(_ARC_PERCENT / 100)

  def arc(level):
    return 2 / turn * circular.angle_of_mass(level, length)

  return {
    "date_level": conformal.calibrate(raw, knots),
    "raw_date_level": raw,
    "date_arc_days": arc(conformal.model_level(promised, knots)),
    "raw_date_arc_days": arc(promised),
  }


def _compare(answers, target):
  """`day_true` and `date_days`, the error around the year, each `[batch]`."""
  day_true = encodings.decode_day_of_year(target)
  return {
    "day_true": day_true,
    "date_days": encodings.days_apart(answers["day"], day_true),
  }
