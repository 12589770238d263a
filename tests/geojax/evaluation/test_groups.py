import numpy as np
import pytest

from geojax import encodings, sphere
from geojax.evaluation import groups, metrics, reductions


def _labels(lat, lon, zone, day):
  label = encodings.encode_label(np.eye(31)[zone], lat, lon, day)
  return encodings.split_label(label)


def _random(num, seed=0):
  rng = np.random.default_rng(seed)
  return _labels(
    np.append(rng.uniform(-90, 90, num - 2), [-90, 90]),
    rng.uniform(-180, 180, num),
    rng.integers(0, 31, num),
    rng.integers(1, 366, num),
  )


def test_distance_to_the_nearest_train_place():
  rng = np.random.default_rng(0)
  places, train = rng.normal(size=(2, 30, 3))
  places /= np.linalg.norm(places, axis=1, keepdims=True)
  train /= np.linalg.norm(train, axis=1, keepdims=True)
  expected = sphere.great_circle_km(places[:, None], train).min(axis=1)
  found = groups.distance_to_train_km(places, train)
  np.testing.assert_allclose(found, expected, rtol=1e-9)
  places[3, 1] = np.nan
  found = groups.distance_to_train_km(places, train)
  assert np.flatnonzero(np.isnan(found)).tolist() == [3]
  assert np.isnan(groups.distance_to_train_km(places, train[:0])).all()


def test_months_by_the_calendar():
  days = [1, 31, 32, 59, 60, 365, 365.6, 0.6]
  assert groups.month_of_day(days).tolist() == [0, 0, 1, 1, 2, 11, 0, 0]
  decoded = encodings.decode_day_of_year(
    encodings.encode_day_of_year(np.arange(1.0, 366))
  )
  counts = np.bincount(groups.month_of_day(decoded))
  assert counts.tolist() == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def test_every_patch_is_in_one_group_of_each_kind_or_unknown():
  labels = _random(100)
  labels["climate"][0] = labels["coords"][1] = labels["date"][2] = np.nan
  train_km = np.append(np.random.default_rng(0).exponential(500, 99), np.nan)
  found = groups.masks(labels, train_km)
  assert list(found) == ["latitude", "climate", "train_km", "month"]
  unknown = {"climate": 0, "latitude": 1, "month": 2, "train_km": 99}
  for kind, masks in found.items():
    expected = np.arange(100) != unknown[kind]
    np.testing.assert_array_equal(sum(map(np.int64, masks.values())), expected)
  del labels["climate"], labels["coords"]
  assert list(groups.masks(labels, train_km)) == ["month"]


def test_groups_are_what_their_names_state():
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
  labels = _random(400)
  is_land = ~encodings.is_sea_patch(labels["climate"])
  table = {**labels, "is_land": is_land, "x": rng.normal(size=400)}
  common = {"columns": ("x",), "words": "", "where": ("is_land",)}
  listed = [
    metrics.Metric(name="mean", **common),
    metrics.Metric(name="median", reduction=reductions.Median(), **common),
    metrics.Metric(name="hidden", in_report=False, **common),
  ]
  over_all, by_group = groups.summarize(table, listed, np.full(400, 300.0))
  assert over_all.keys() == {"mean", "median"}
  lat, _ = encodings.decode_coordinates(labels["coords"])
  tropics = is_land & (lat >= 0) & (lat < 23.5)
  found = by_group["latitude"]["0 to 23.5N"]
  x = table["x"][tropics]
  within = found.pop("intervals")
  assert found == pytest.approx({"mean": x.mean(), "median": np.median(x)})
  for name, (low, high) in within.items():
    assert low < found[name] < high
    assert over_all[name][1] - over_all[name][0] < high - low
  # Place and date cannot be read off open sea.
  assert "sea" not in by_group["climate"]
  del table["coords"]
  over_all, by_group = groups.summarize(table, listed, np.full(400, np.nan))
  assert list(by_group) == ["climate", "month"]
  assert np.isfinite(over_all["mean"]).all()


def test_thirds_by_how_sure_the_mixture_is():
  rng = np.random.default_rng(0)
  area_km2 = rng.permutation(90) + 1.0
  counts = np.arange(90) % 3 > 0
  table = {
    "raw_area_km2": np.stack([rng.random(90), area_km2, rng.random(90)], -1),
    "coords_counts": counts,
  }
  found = groups.masks(table, np.zeros(90))["certainty"]
  assert list(found) == list(groups.CERTAINTIES)
  assert [mask.sum() for mask in found.values()] == [20, 20, 20]
  sure, middle, unsure = (area_km2[mask] for mask in found.values())
  assert sure.max() < middle.min()
  assert middle.max() < unsure.min()
  table["coords_counts"] = np.zeros(90, bool)
  assert not groups.masks(table, np.zeros(90))["certainty"]
