"""Calibration: coverage of regions, reliability of classes, temperature."""

import numpy as np

NUM_BINS = 15


def reliability_curve(confidence, correct, *, num_bins=NUM_BINS):
  """Accuracy of answers by their confidence.

  Args:
    confidence: Probabilities of the answers given, in [0, 1], shape `[count]`.
    correct: Whether each answer is right, shape `[count]`.
    num_bins: Number of bins of confidence, equally wide.

  Returns:
    A dict of arrays of shape `[num_bins]`: `confidence` and `accuracy`, means
    over a bin's examples, NaN where it has none, and `count`.
  """
  confidence = np.asarray(confidence, np.float64)
  # A bin holds its upper edge, and the first 0 too.
  index = np.ceil(confidence * num_bins).astype(int) - 1
  index = np.clip(index, 0, num_bins - 1)
  count = np.bincount(index, minlength=num_bins)
  sums = {
    "confidence": np.bincount(index, confidence, num_bins),
    "accuracy": np.bincount(index, np.asarray(correct, float), num_bins),
  }
  curve = {
    name: np.divide(
      total, count, out=np.full(num_bins, np.nan), where=count > 0
    )
    for name, total in sums.items()
  }
  return {**curve, "count": count}


def expected_calibration_error(confidence, correct, *, num_bins=NUM_BINS):
  """Mean over examples of |accuracy - confidence| of the example's bin.

  Args:
    confidence: Probabilities of the answers given, in [0, 1], shape `[count]`.
    correct: Whether each answer is right, shape `[count]`.
    num_bins: Number of bins of confidence, equally wide.

  Returns:
    A float in [0, 1]; NaN of no example.

  References:
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
  """
  curve = reliability_curve(confidence, correct, num_bins=num_bins)
  apart = np.nan_to_num(np.abs(curve["accuracy"] - curve["confidence"]))
  total = curve["count"].sum()
  return float(apart @ curve["count"] / total) if total else float("nan")


def coverage(level, masses):
  """Share of truths that lie in the credible region of each mass.

  Calibrated regions cover a share equal to their mass: less is over-confident,
  more under-confident.

  Args:
    level: Credible levels of the truths, see `mixture.credible_level`, shape
      `[count]`.
    masses: Masses of regions in [0, 1], shape `[masses]`.

  Returns:
    Shares, shape `[masses]`; NaN of no example.
  """
  level = np.sort(np.asarray(level, np.float64))
  inside = np.searchsorted(level, masses, side="right")
  return inside / len(level) if len(level) else np.full(len(masses), np.nan)


def best_temperature(temperatures, nll_nats):
  """The temperature of least nll, between the ones that were tried.

  Args:
    temperatures: Temperatures tried, ascending, evenly spaced in their
      logarithm, shape `[count]`.
    nll_nats: Mean nll at each, shape `[count]`.

  Returns:
    The lowest point of the parabola through the best and its neighbours over
    log temperature, a float; the best itself at either end.
  """
  nll_nats = np.asarray(nll_nats, np.float64)
  best = int(np.argmin(nll_nats))
  log_t = np.log(np.asarray(temperatures, np.float64))
  if best in (0, len(log_t) - 1):
    return float(np.exp(log_t[best]))
  before, at, after = nll_nats[best - 1 : best + 2]
  bend = before - 2 * at + after
  shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
  return float(np.exp(log_t[best] + shift * (log_t[best + 1] - log_t[best])))
