"""Mixtures of von Mises-Fisher distributions (MvMF) on the unit sphere.

    p(x) = sum_i softmax(logits)_i vMF(x; mu_i, exp(log_kappa_i))

The logits come from a model, one row per example; the centers `mu` and their
`log_kappa` are shared by all examples and may be learned. To raise or lower the
temperature T, pass `logits / T`.
"""

from geojax.mixture.background import (
  add_background,
  background_components,
  background_log_weights,
  nll_with_background,
)
from geojax.mixture.decoders import (
  decode_largest,
  decode_least_expected_distance,
  decode_mode,
  probability_map,
)
from geojax.mixture.dense import log_prob, mean_logits, normalize_centers
from geojax.mixture.fused import fused_log_prob
from geojax.mixture.regions import credible_level, credible_regions
from geojax.mixture.smoothed import fused_smoothed_log_prob, smoothed_log_prob

__all__ = [
  "add_background",
  "background_components",
  "background_log_weights",
  "credible_level",
  "credible_regions",
  "decode_largest",
  "decode_least_expected_distance",
  "decode_mode",
  "fused_log_prob",
  "fused_smoothed_log_prob",
  "log_prob",
  "mean_logits",
  "nll_with_background",
  "normalize_centers",
  "probability_map",
  "smoothed_log_prob",
]
