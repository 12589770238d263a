"""Which climate: fractions of a patch in the 31 Koppen-Geiger zones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from geojax import climate, encodings, losses, sphere
from geojax.evaluation import conformal
from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import CalibrationError, Count, MacroF1
from geojax.models import heads
from geojax.tasks.registry import register
from geojax.tasks.task import Task, mean_logits


def _equal(a, b):
  return a == b


def _pairs(a, b):
  return np.stack([a, b], axis=-1).astype(np.float64)


_OVER_LAND = ("climate_counts", "is_land")
_ON_LAND = (
  Metric(
    name="climate_accuracy",
    words=f"climate, {len(climate.ZONES)} zones",
    higher_is_better=True,
    columns=("zone", "zone_true"),
    value=_equal,
    where=_OVER_LAND,
    headline=True,
  ),
  Metric(
    name="climate_top3",
    words="climate, in the 3 likeliest zones",
    higher_is_better=True,
    columns=("in_top3",),
    where=_OVER_LAND,
  ),
  Metric(
    name="climate_class_accuracy",
    words=f"climate, {len(climate.CLASSES)} classes",
    higher_is_better=True,
    columns=("climate_class", "class_true"),
    value=_equal,
    where=_OVER_LAND,
    headline=True,
  ),
  Metric(
    name="climate_macro_f1",
    words="climate, macro F1",
    higher_is_better=True,
    columns=("zone_true", "zone"),
    value=_pairs,
    where=_OVER_LAND,
    reduction=MacroF1(len(climate.ZONES)),
    headline=True,
  ),
  Metric(
    name="climate_ece",
    words="climate, calibration error",
    columns=("confidence", "zone", "zone_true"),
    value=lambda confidence, zone, true: _pairs(confidence, zone == true),
    where=_OVER_LAND,
    reduction=CalibrationError(),
  ),
)
# Share of the patches whose zone the reported sets are to hold.
SET_LEVEL = 0.9
_SET_PERCENT = round(100 * SET_LEVEL)
_SETS = (
  Metric(
    name=f"climate_coverage@{_SET_PERCENT}%",
    words=f"true zone in the {_SET_PERCENT} % set",
    higher_is_better=None,
    columns=("climate_level",),
    value=lambda level: level <= SET_LEVEL,
    where=_OVER_LAND,
    final=True,
  ),
  Metric(
    name=f"climate_set_size@{_SET_PERCENT}%",
    words=f"zones in the {_SET_PERCENT} % set",
    columns=("climate_set_size",),
    where=_OVER_LAND,
    final=True,
  ),
)
_COUNT = Metric(
  name="count",
  words="patches of known climate",
  higher_is_better=None,
  columns=("zone",),
  where=_OVER_LAND,
  reduction=Count(),
)
# Over all patches, open sea included, only in metrics.json.
METRICS = (
  _ON_LAND
  + _SETS
  + tuple(
    dataclasses.replace(
      metric,
      name=f"{metric.name}_with_sea",
      words=f"{metric.words}, with sea",
      where=("climate_counts",),
      headline=False,
      in_report=False,
    )
    for metric in (*_ON_LAND, _COUNT)
  )
)


@register("climate")
def create(config, *, mesh=None) -> Task:
  """Creates the task of a run's config; all patches of known climate count."""
  del mesh
  return Task(
    name="climate",
    head=heads.Linear(len(climate.ZONES)),
    labels=("climate",),
    target=lambda batch: batch["climate"],
    counts=lambda batch: encodings.known_rows(batch)["climate"],
    loss=functools.partial(
      losses.climate_loss, fine_weight=config.loss.climate_fine_weight
    ),
    decode=lambda outputs: {"climate_probs": jax.nn.softmax(outputs, axis=-1)},
    compare=_compare,
    combine=mean_logits,
    score=_score,
    fit_columns=("raw_climate_level", *_OVER_LAND),
    fit=functools.partial(
      conformal.fit_table, level="raw_climate_level", where=_OVER_LAND
    ),
    metrics=METRICS,
    weight=losses.DEFAULT_WEIGHTS["climate"],
    best_metric="climate_accuracy",
  )


def zone_levels(probs):
  """Levels of the zones: how much probability one has to go through to each.

  Args:
    probs: Probabilities of zones, shape `[..., zones]`.

  Returns:
    Sums of the probabilities of a zone and of all that are likelier, in [0, 1],
    and 0 for the likeliest one, `[..., zones]`. The set of a level holds the
    zones of at most that level, so the likeliest one always.
  """
  xp, probs = sphere.as_floats(probs)
  order = xp.argsort(-probs, axis=-1)
  reached = xp.cumsum(xp.take_along_axis(probs, order, axis=-1), axis=-1)
  rank = xp.argsort(order, axis=-1)
  level = xp.take_along_axis(reached, rank, axis=-1)
  return xp.where(rank == 0, 0, xp.minimum(level, 1))


def _score(outputs, target, fitted):
  """Level of the true zone, `[batch]`, and how many zones the set has.

  `climate_level` and `climate_set_size` by calibrated levels, `raw_...` by
  those of `zone_levels`, which they are before there is a fit.
  """
  knots = (fitted or {}).get("level_knots")
  level = zone_levels(jax.nn.softmax(outputs, axis=-1))
  zone_true = jnp.argmax(target, axis=-1)[:, None]
  raw = jnp.take_along_axis(level, zone_true, axis=-1)[:, 0]
  promised = np.float32(SET_LEVEL)

  def size(limit):
    return jnp.sum(level <= limit, axis=-1)

  return {
    "climate_level": conformal.calibrate(raw, knots),
    "raw_climate_level": raw,
    "climate_set_size": size(conformal.model_level(promised, knots)),
    "raw_climate_set_size": size(promised),
  }


def _compare(answers, target):
  """Columns of shape `[batch]` of predicted and true zones.

  `zone` and `zone_true`, the likeliest and the largest of the 31; `confidence`,
  the likeliest zone's probability; `in_top3`, whether fewer than 3 others are
  as likely as the true zone; `climate_class` and `class_true`, likeliest and
  largest of the 6 sums.
  """
  xp, probs, target = sphere.as_floats(answers["climate_probs"], target)
  zone_true = xp.argmax(target, axis=-1)
  true_prob = xp.take_along_axis(probs, zone_true[..., None], axis=-1)
  return {
    "zone": xp.argmax(probs, axis=-1),
    "zone_true": zone_true,
    "confidence": xp.max(probs, axis=-1),
    # Ties count against it: an answer of one zone alone has no second.
    "in_top3": xp.sum(probs >= true_prob, axis=-1) <= 3,
    "climate_class": xp.argmax(climate.class_fractions(probs), axis=-1),
    "class_true": xp.argmax(climate.class_fractions(target), axis=-1),
  }
