import numpy as np
import pytest

from geojax import encodings, groups, metrics, sphere


def _labels(lat, lon, zone, day):
  return encodings.encode_label(np.eye(31)[zone], lat, lon, day)


def test_distance_to_the_nearest_train_place():
  rng = np.random.default_rng(0)
  places, train = rng.normal(size=(2, 30, 3))
  places /= np.linalg.norm(places, axis=1, keepdims=True)
  train /= np.linalg.norm(train, axis=1, keepdims=True)
  expected = sphere.great_circle_km(places[:, None], train).min(axis=1)
  found = groups.distance_to_train_km(places, train)
  np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_months_by_the_calendar():
  days = [1, 31, 32, 59, 60, 365, 365.6, 0.6]
  assert groups.month_of_day(days).tolist() == [0, 0, 1, 1, 2, 11, 0, 0]
  decoded = encodings.decode_day_of_year(
    encodings.encode_day_of_year(np.arange(1.0, 366))
  )
  counts = np.bincount(groups.month_of_day(decoded))
  assert counts.tolist() == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def test_every_patch_is_in_one_group_of_each_kind():
  rng = np.random.default_rng(0)
  labels = _labels(
    np.append(rng.uniform(-90, 90, 98), [-90, 90]),
    rng.uniform(-180, 180, 100),
    rng.integers(0, 31, 100),
    rng.integers(1, 366, 100),
  )
  found = groups.masks(labels, rng.exponential(500, 100))
  assert list(found) == ["latitude", "climate", "train_km", "month"]
  for kind in found.values():
    np.testing.assert_array_equal(sum(m.astype(int) for m in kind.values()), 1)


def test_groups_are_what_their_names_say():
  labels = _labels(
    np.array([10.0, 50.0, -70.0]), np.zeros(3), [1, 30, 0], [15, 197, 350]
  )
  found = groups.masks(labels, np.array([3.0, 260.0, 9000.0]))
  names = {
    kind: [next(n for n, m in by.items() if m[i]) for i in range(3)]
    for kind, by in found.items()
  }
  assert names == {
    "latitude": ["0 to 23.5N", "45N to 66.5N", "90S to 66.5S"],
    "climate": ["tropical", "polar", "sea"],
    "train_km": ["0 to 5 km", "250 to 300 km", "over 2500 km"],
    "month": ["Jan", "Jul", "Dec"],
  }


def test_group_metrics_are_those_of_their_patches_alone():
  rng = np.random.default_rng(0)
  lat = rng.uniform(-60, 60, 200)
  labels = _labels(
    lat,
    rng.uniform(-180, 180, 200),
    rng.integers(0, 31, 200),
    rng.integers(1, 366, 200),
  )
  true = encodings.coordinates_to_unit(labels[:, encodings.COORDS])
  place = true + rng.normal(size=true.shape)
  predictions = {
    "place": place / np.linalg.norm(place, axis=1, keepdims=True),
    "climate_probs": rng.dirichlet(np.ones(31), 200),
    "day": rng.uniform(1, 366, 200),
  }
  examples = metrics.per_example(labels, **predictions)
  over_all, by_group = groups.summarize(examples, labels, np.full(200, 300.0))
  tropics = (lat >= 0) & (lat < 23.5)
  alone = metrics.summarize(
    metrics.per_example(
      labels[tropics], **{k: v[tropics] for k, v in predictions.items()}
    )
  )
  found = by_group["latitude"]["0 to 23.5N"]
  for name in ("median_km", "acc@2500km", "date_mae_days", "count"):
    assert found[name] == pytest.approx(alone[name])
  low, high = found["intervals"]["median_km"]
  assert low < found["median_km"] < high
  assert over_all["median_km"][1] - over_all["median_km"][0] < high - low
  # Open sea tells neither place nor date.
  assert "sea" not in by_group["climate"]
