"""Reductions: from values per example to one figure, and to its resamples.

A reduction is called with the values of the examples that count, of shape
`[count, ...]`, and returns a float. Its `resampled` takes the values and the
`intervals.Draws` of the examples and returns the figure of each bootstrap
resample; it is None where resamples of the figure are biased.
"""

import numpy as np

from geojax.evaluation import calibration


class Mean:
  """The mean of values of shape `[count]`."""

  def __call__(self, values):
    """Returns the mean over the last axis."""
    return np.mean(values, axis=-1, dtype=np.float64)

  def resampled(self, values, draws):
    """Returns the mean of each resample of `intervals.Draws`."""
    return draws.means(values)


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


class MeanIoU:
  """Mean intersection over union of classes, over the pixels of all examples.

  IoU = TP / (TP + FP + FN), of sums over all pixels. A class that is neither
  true nor predicted anywhere does not count.

  Values are pixels per class that are right, true and predicted, side by side,
  `[count, 3 * classes]`.
  """

  def __call__(self, values):
    """Returns the mean IoU, in [0, 1]."""
    return self._of_sums(np.sum(values, axis=0, dtype=np.float64)[None])[0]

  def resampled(self, values, draws):
    """Returns the mean IoU of each resample of `intervals.Draws`."""
    return self._of_sums(draws.sums(values))

  def _of_sums(self, sums):
    hits, true, predicted = np.split(sums, 3, axis=-1)
    union = true + predicted - hits
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    return _ratio(iou.sum(axis=-1), (union > 0).sum(axis=-1))


class Share:
  """Quotient of two sums, of values numerator and denominator `[count, 2]`."""

  def __call__(self, values):
    """Returns the quotient of the sums over the examples."""
    return _ratio(*np.sum(values, axis=0, dtype=np.float64)[:, None])[0]

  def resampled(self, values, draws):
    """Returns the quotient of each resample of `intervals.Draws`."""
    return _ratio(*draws.sums(values).T)


class RSquared:
  """Coefficient of determination, 1 - sum of squares left / about the mean.

  Values are weight, squared error, truth and squared truth `[count, 4]`, the
  last three times the weight. The truth may be shifted by any constant: near
  its mean, less of it cancels.
  """

  def __call__(self, values):
    """Returns R2, at most 1."""
    return self._of_sums(np.sum(values, axis=0, dtype=np.float64)[None])[0]

  def resampled(self, values, draws):
    """Returns R2 of each resample of `intervals.Draws`."""
    return self._of_sums(draws.sums(values))

  def _of_sums(self, sums):
    weight, error, truth, squared = sums.T
    spread = squared - truth * _ratio(truth, weight)
    return 1 - _ratio(error, np.maximum(spread, 0))


class AveragePrecision:
  """Average precision of labels, of scores and truths `[count, 2 * labels]`.

  The mean of the precision over the true examples in the order of falling
  scores, which is scikit-learn's `average_precision_score` where no two scores
  are equal.

  Attributes:
    micro: Whether all labels are ranked together, instead of a mean over the
      labels that some example has.
  """

  def __init__(self, *, micro: bool):
    self.micro = micro

  def __call__(self, values):
    """Returns the average precision, in [0, 1]."""
    return self._of_weights(values, np.ones((len(values), 1)))[0]

  def resampled(self, values, draws):
    """Returns the average precision of each resample of `intervals.Draws`."""
    return self._of_weights(values, draws.weights[draws.neighbourhood])

  def _of_weights(self, values, weights):
    scores, truths = np.split(np.asarray(values, np.float64), 2, axis=-1)
    if self.micro:
      owner = np.repeat(np.arange(len(scores)), scores.shape[-1])
      scores, truths = scores.reshape(-1, 1), truths.reshape(-1, 1)
      weights = weights[owner]
    total, number = np.zeros((2, weights.shape[-1]))
    for score, truth in zip(scores.T, truths.T, strict=True):
      order = np.argsort(-score, kind="stable")
      weight = weights[order]
      hits = weight * truth[order, None]
      precision = _ratio(np.cumsum(hits, axis=0), np.cumsum(weight, axis=0))
      occurs = hits.sum(axis=0)
      mean = _ratio(np.nansum(precision * hits, axis=0), occurs)
      total += np.where(occurs > 0, mean, 0.0)
      number += occurs > 0
    return _ratio(total, number)


def _ratio(numerator, denominator):
  """The quotient, NaN where the denominator is 0."""
  nothing = np.full(np.shape(numerator), np.nan)
  return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
