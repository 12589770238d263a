"""Intervals hold the truth as often as they claim, and draw places whole."""

import numpy as np
from sklearn.metrics import f1_score

from geojax import sphere
from geojax.evaluation import intervals, reductions


def _places(rng, num_places, repeats):
  places = rng.normal(size=(num_places, 3))
  places /= np.linalg.norm(places, axis=1, keepdims=True)
  return np.repeat(places, repeats, axis=0)


def test_resampled_reductions_by_a_loop():
  rng = np.random.default_rng(0)
  places = _places(rng, 40, 3)
  values = np.repeat(rng.exponential(1000, 40), 3) + rng.random(120)
  pairs = rng.integers(0, 3, (120, 2))
  pairs[:, 0] = np.where(rng.random(120) < 0.6, pairs[:, 1], 1)
  where = np.arange(120) % 5 > 0
  draws = intervals.draw(places, num_resamples=50)
  expected = []
  for weight in draws.weights.T:
    times = np.where(where, weight[draws.neighbourhood], 0).astype(int)
    drawn = np.repeat(np.arange(120), times)
    true, predicted = pairs[drawn].T
    expected.append(
      (
        values[drawn].mean(),
        np.sort(values[drawn])[(len(drawn) - 1) // 2],
        f1_score(true, predicted, average="macro"),
      )
    )
  some = draws.of(where)
  found = [
    reductions.Mean().resampled(values[where], some),
    reductions.Median().resampled(values[where], some),
    reductions.MacroF1(4).resampled(pairs[where], some),
  ]
  np.testing.assert_allclose(np.transpose(found), expected, rtol=1e-5)
  low, high = intervals.percentiles(np.append(found[0], np.nan), 0.9)
  np.testing.assert_allclose([low, high], np.percentile(found[0], [5, 95]))


def test_the_median_of_many_is_by_rank():
  rng = np.random.default_rng(0)
  values = rng.exponential(1000, 20_000)
  draws = intervals.draw(np.full((20_000, 3), np.nan), num_resamples=9)
  for found, weight in zip(
    draws.medians(values), draws.weights[draws.neighbourhood].T, strict=True
  ):
    expected = np.median(np.repeat(values, weight.astype(int)))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_intervals_of_a_mean_hold_the_truth_as_often_as_they_claim():
  rng = np.random.default_rng(1)
  hits = 0
  for _ in range(100):
    places = _places(rng, 80, 4)
    draws = intervals.draw(places)
    means = draws.means(np.repeat(rng.exponential(1000, 80), 4))
    low, high = intervals.percentiles(means, 0.95)
    hits += low <= 1000 <= high
  # Drawn patch by patch, four alike a place, it would be about 67.
  assert 86 <= hits <= 99


def test_neighbours_are_drawn_together_and_unknown_places_alone():
  places = sphere.latlon_to_unit(np.array([10, 10.001, 40, 0, 0]), np.zeros(5))
  places[3:] = np.nan
  draws = intervals.draw(places, num_resamples=7)
  first, same, *others = draws.neighbourhood
  assert first == same
  assert len({first, *others}) == 4
  assert draws.weights.shape == (4, 7)
  nothing = draws.of(np.zeros(5, bool))
  for reduction in (reductions.Mean(), reductions.Median()):
    assert np.isnan(reduction.resampled(np.zeros(0), nothing)).all()
  assert np.isnan(intervals.percentiles(np.full(3, np.nan), 0.95)).all()
