"""Reductions against scikit-learn, and resamples against repeated examples."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from geojax.evaluation import intervals, reductions

RNG = np.random.default_rng(0)
CLASSES = 5
TRUE = RNG.integers(0, CLASSES - 1, (40, 6, 6))
ANSWER = np.where(RNG.random(TRUE.shape) < 0.6, TRUE, RNG.integers(0, 4))
SCORES = RNG.random((60, 4))
LABELS = (RNG.random((60, 4)) < [0.1, 0.4, 0.7, 0.0]).astype(float)
NUMBERS = RNG.normal(3.0, 2.0, 50)
GUESSES = NUMBERS + RNG.normal(size=50)


def pixel_counts():
  def count(of_class):
    return np.stack([of_class(c).sum((1, 2)) for c in range(CLASSES)], -1)

  return np.concatenate(
    [
      count(lambda c: (c == TRUE) & (c == ANSWER)),
      count(lambda c: c == TRUE),
      count(lambda c: c == ANSWER),
    ],
    axis=-1,
  )


def squares(shift=0.0):
  truth = NUMBERS - shift
  return np.stack(
    [np.ones(50), (GUESSES - NUMBERS) ** 2, truth, truth**2], axis=-1
  )


CASES = {
  "iou": (
    reductions.MeanIoU(),
    pixel_counts(),
    oracle.jaccard_score(TRUE.ravel(), ANSWER.ravel(), average="macro"),
  ),
  "share": (
    reductions.Share(),
    np.stack([NUMBERS, np.full(50, 2.0)], axis=-1),
    NUMBERS.mean() / 2,
  ),
  "r2": (
    reductions.RSquared(),
    squares(),
    oracle.r2_score(NUMBERS, GUESSES),
  ),
  "r2_shifted": (
    reductions.RSquared(),
    squares(shift=7.0),
    oracle.r2_score(NUMBERS, GUESSES),
  ),
  "micro": (
    reductions.AveragePrecision(micro=True),
    np.concatenate([SCORES, LABELS], axis=-1),
    oracle.average_precision_score(LABELS, SCORES, average="micro"),
  ),
  "macro": (
    reductions.AveragePrecision(micro=False),
    np.concatenate([SCORES, LABELS], axis=-1),
    # A label that no example has does not count.
    oracle.average_precision_score(LABELS[:, :3], SCORES[:, :3]),
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_oracle(name):
  reduction, values, expected = CASES[name]
  assert reduction(values) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_resample_is_the_figure_of_repeated_examples(name):
  reduction, values, _ = CASES[name]
  count = len(values)
  neighbourhood = RNG.integers(0, 7, count)
  times = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 2, 1, 0, 3, 0, 1]])
  draws = intervals.Draws(times.T.astype(np.float32), neighbourhood)
  found = reduction.resampled(values, draws)
  for drawn, value in zip(times, found, strict=True):
    repeated = np.repeat(values, drawn[neighbourhood], axis=0)
    if name in ("micro", "macro"):
      # Ties within a neighbourhood: repeated examples share their score.
      repeated = repeated[RNG.permutation(len(repeated))]
      assert value == pytest.approx(reduction(repeated), abs=2e-2)
    else:
      assert value == pytest.approx(reduction(repeated), rel=1e-6)


def test_nothing_to_divide_by_is_nan():
  assert np.isnan(reductions.Share()(np.zeros((3, 2))))
  assert np.isnan(reductions.RSquared()(np.zeros((3, 4))))
