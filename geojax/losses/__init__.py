"""Losses: one value an example, and means over the examples that count."""

from geojax.losses.geographic import DEFAULT_WEIGHTS, TASKS, geographic_loss
from geojax.losses.per_example import (
  class_logits,
  climate_loss,
  make_fused_mixture_loss,
  make_mixture_loss,
  relative_nll,
  squared_error,
)
from geojax.losses.weighting import (
  count_rows,
  masked_mean,
  uncertainty_weighted,
  weighted_loss,
  zero_rows,
)

__all__ = [
  "DEFAULT_WEIGHTS",
  "TASKS",
  "class_logits",
  "climate_loss",
  "count_rows",
  "geographic_loss",
  "make_fused_mixture_loss",
  "make_mixture_loss",
  "masked_mean",
  "relative_nll",
  "squared_error",
  "uncertainty_weighted",
  "weighted_loss",
  "zero_rows",
]
