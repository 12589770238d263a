"""Intervals hold the truth as often as they say, and draw places whole."""

import numpy as np
import pytest

from geojax import bootstrap, metrics, sphere


def _examples(rng, num_places, repeats):
  places = rng.normal(size=(num_places, 3))
  places /= np.linalg.norm(places, axis=1, keepdims=True)
  places = np.repeat(places, repeats, axis=0)
  distance = np.repeat(rng.exponential(1000, num_places), repeats)
  zone = rng.integers(0, 3, len(places))
  examples = {
    "distance_km": distance,
    "date_days": rng.uniform(0, 182, len(places)),
    "zone": zone,
    "zone_true": np.where(rng.random(len(places)) < 0.6, zone, 1),
    "climate_class": zone,
    "class_true": zone,
    "in_top3": np.ones(len(places), bool),
    "confidence": np.full(len(places), 0.5),
    "is_land": np.ones(len(places), bool),
  }
  return places, examples


def test_means_and_medians_of_resamples_by_a_loop():
  rng = np.random.default_rng(0)
  places, examples = _examples(rng, 40, 3)
  where = np.arange(120) % 5 > 0
  weights, neighbourhood = bootstrap.draw_weights(places, num_resamples=50)
  found = bootstrap.intervals(examples, where, weights, neighbourhood)
  means, medians, f1 = [], [], []
  for row in weights:
    drawn = [
      i
      for i in range(120)
      if where[i]
      for _ in range(int(row[neighbourhood[i]]))
    ]
    means.append(examples["distance_km"][drawn].mean())
    medians.append(
      np.sort(examples["distance_km"][drawn])[(len(drawn) - 1) // 2]
    )
    f1.append(
      metrics.macro_f1(
        metrics.confusion_matrix(
          examples["zone_true"][drawn],
          examples["zone"][drawn],
          np.ones(len(drawn), bool),
          31,
        )
      )
    )
  for name, values in [
    ("mean_km", means),
    ("median_km", medians),
    ("climate_macro_f1", f1),
  ]:
    expected = np.percentile(values, [2.5, 97.5])
    assert found[name] == pytest.approx(expected, rel=1e-5), name
  assert found["climate_class_accuracy"] == [1, 1]


def test_intervals_of_a_mean_hold_the_truth_as_often_as_they_say():
  rng = np.random.default_rng(1)
  hits = 0
  for _ in range(100):
    places, examples = _examples(rng, 80, 4)
    weights, neighbourhood = bootstrap.draw_weights(places)
    low, high = bootstrap.intervals(
      examples, examples["is_land"], weights, neighbourhood
    )["mean_km"]
    hits += low <= 1000 <= high
  # Drawn patch by patch, four alike a place, it would be about 67.
  assert 86 <= hits <= 99


def test_neighbours_are_drawn_together_and_nothing_is_no_number():
  near = sphere.latlon_to_unit(10.0 + np.array([0.0, 1e-3, 30.0]), np.zeros(3))
  weights, neighbourhood = bootstrap.draw_weights(near, num_resamples=7)
  assert neighbourhood[0] == neighbourhood[1] != neighbourhood[2]
  assert weights.shape == (7, 2)
  places, examples = _examples(np.random.default_rng(2), 5, 1)
  weights, neighbourhood = bootstrap.draw_weights(places)
  found = bootstrap.intervals(
    examples, np.zeros(5, bool), weights, neighbourhood
  )
  assert np.isnan(found["median_km"]).all()
  assert np.isnan(found["mean_km"]).all()
