import numpy as np
import pytest
from scipy import stats

from geojax import baselines, encodings, metrics, sphere


def labels_at(x, zones, day):
  lat, lon = sphere.unit_to_latlon(x)
  return encodings.encode_label(np.eye(31)[zones], lat, lon, day)


def cluster(center, kappa, num, seed):
  return stats.vonmises_fisher(center, kappa).rvs(num, random_state=seed)


def make_labels(num, seed):
  """Two thirds near one place in zone 8, the rest near another in zone 3."""
  rng = np.random.default_rng(seed)
  many, few = num - num // 3, num // 3
  x = np.concatenate(
    [
      cluster([1.0, 0, 0], 400, many, seed),
      cluster([0, 0.6, 0.8], 400, few, seed + 1),
    ]
  )
  zones = np.repeat([8, 3], [many, few])
  return labels_at(x, zones, rng.integers(360, 372, num))


def test_uniform_is_what_uniform_guesses_reach():
  rng = np.random.default_rng(0)
  num = 200_000
  zones = rng.choice(31, num, p=rng.dirichlet(np.ones(31)))
  truth = np.broadcast_to(sphere.latlon_to_unit(48.0, 2.0), (num, 3))
  labels = labels_at(truth, zones, np.full(num, 77))
  guesses = rng.normal(size=(num, 3))
  guesses /= np.linalg.norm(guesses, axis=1, keepdims=True)
  examples = metrics.per_example(
    labels,
    place=guesses,
    climate_probs=(1 + 1e-3 * rng.random((num, 31))) / 31,
    day=rng.uniform(1, 366, num),
    log_prob=np.full(num, -np.log(4 * np.pi)),
  )
  examples["climate_class"] = rng.integers(0, 6, num)
  expected = metrics.summarize(examples)
  found = baselines.uniform(labels)
  for name, value in found.items():
    # Three standard errors of the shares; the F1 and the means have less.
    assert value == pytest.approx(expected[name], rel=0.02, abs=1e-5) or (
      name.startswith(("acc@", "climate_ece"))
      and abs(value - expected[name]) < 1e-3
    ), name
  assert found["median_km"] == pytest.approx(10007.5, abs=0.1)
  assert found["date_mae_days"] == 91.25


def test_best_constant_beats_any_other():
  train, validation = make_labels(900, 0), make_labels(300, 10)
  test = make_labels(300, 20)
  found = baselines.best_constant(train, validation, test)
  other = {"rel": 1e-2, "abs": 1e-9}
  x = encodings.coordinates_to_unit(test[:, encodings.COORDS])
  constants = np.concatenate(
    [np.random.default_rng(0).normal(size=(50, 3)), [[1, 0, 0], [0, 0.6, 0.8]]]
  )
  constants /= np.linalg.norm(constants, axis=1, keepdims=True)
  for constant in constants:
    distance = sphere.great_circle_km(np.broadcast_to(constant, x.shape), x)
    assert found["mean_km"] <= distance.mean() * 1.02
    assert found["median_km"] <= np.median(distance) * 1.06
    assert found["acc@750km"] >= np.mean(distance <= 750) - 0.03
    assert found["geoscore"] >= metrics.geoscore(distance).mean() * 0.98
  assert found["climate_accuracy"] == pytest.approx(2 / 3, **other)
  assert found["climate_class_accuracy"] == pytest.approx(2 / 3, **other)
  # Days 360 to 371 wrap around New Year; their middle is day 365 or 366.
  assert found["date_mae_days"] == pytest.approx(3, abs=0.3)
  assert found["count"] == 300


def test_groups_are_what_each_is_by_itself():
  train, validation = make_labels(900, 0), make_labels(300, 10)
  test = make_labels(300, 20)
  test[:9, encodings.CLIMATE] = np.eye(31)[0]  # sea, and no land in "none"
  rows = np.arange(300)
  named = {"first": rows < 120, "rest": rows >= 120, "none": rows < 9}
  features = [
    np.random.default_rng(i).normal(size=(len(x), 4))
    for i, x in enumerate((train, validation, test))
  ]
  nearest = [*zip(features, (train, validation), strict=False)]
  ways = {
    "uniform": lambda keep, *masks: baselines.uniform(test[keep], *masks),
    "constant": lambda keep, *masks: baselines.best_constant(
      train, validation, test[keep], *masks
    ),
    "nearest": lambda keep, *masks: baselines.nearest_patch(
      *nearest, (features[2][keep], test[keep]), *masks
    ),
  }
  for way in ways.values():
    found = way(rows >= 0, {"kind": named})
    over_all = way(rows >= 0)
    assert {k: v for k, v in found.items() if k != "groups"} == over_all
    assert list(found["groups"]["kind"]) == ["first", "rest"]
    for name, group in found["groups"]["kind"].items():
      alone = way(named[name]).items()
      alone = {k: v for k, v in alone if not k.endswith("_with_sea")}
      assert group == pytest.approx(alone, rel=1e-9), name


def test_best_day_around_new_year():
  assert baselines._best_day(np.array([365.7, 365.8, 2.0])) == 1
  assert baselines._best_day(np.array([364.0, 365.4, 1.0])) == 365
  assert baselines._best_day(np.array([100.0, 110.0, 130.0])) == 110


def capture_examples(monkeypatch):
  """Makes the baselines return their examples beside the summary."""
  kept = []
  summarize = metrics.summarize

  def keep(examples, *mask):
    kept.append(examples)
    return summarize(examples, *mask)

  monkeypatch.setattr(metrics, "summarize", keep)
  return kept


def test_densities_integrate_to_one(monkeypatch):
  kept = capture_examples(monkeypatch)
  train, validation = make_labels(300, 0), make_labels(100, 10)
  grid = sphere.equal_area_grid(20_000)
  test = labels_at(grid, np.full(len(grid), 8), np.full(len(grid), 1))
  found = baselines.best_constant(train, validation, test)
  assert np.mean(np.exp(-kept[0]["nll_nats"])) == pytest.approx(1, rel=1e-3)
  assert found["nll_nats"] > 0  # the sphere is not where the train places are

  one = np.zeros((len(grid), 2))
  baselines.nearest_patch(
    (one[:1], train[:1]), (one[:100], validation), (one, test)
  )
  assert np.mean(np.exp(-kept[1]["nll_nats"])) == pytest.approx(1, rel=1e-3)


def test_constant_density_is_near_the_true_one():
  train, validation = make_labels(3000, 0), make_labels(600, 10)
  test = make_labels(600, 20)
  x = encodings.coordinates_to_unit(test[:, encodings.COORDS])
  true = 2 / 3 * stats.vonmises_fisher([1.0, 0, 0], 400).pdf(x)
  true += 1 / 3 * stats.vonmises_fisher([0, 0.6, 0.8], 400).pdf(x)
  entropy = -np.log(4 * np.pi * true).mean()
  found = baselines.best_constant(train, validation, test)["nll_nats"]
  assert entropy - 0.05 < found < entropy + 0.15


def test_nearest_patch_finds_itself():
  rng = np.random.default_rng(0)
  labels = make_labels(200, 0)
  images = rng.uniform(size=(200, 4, 4, 3)) * [1, 1000, 1]
  features = baselines.band_statistics(images)
  order = rng.permutation(200)
  same = features[order], labels[order]
  found = baselines.nearest_patch((features, labels), same, same)
  assert found["median_km"] < 1e-6
  assert found["date_mae_days"] == 0
  assert found["climate_macro_f1"] == 1
  # The finest kernel of the search, nearly unmixed.
  assert found["nll_nats"] == pytest.approx(-np.log(2 * np.exp(12)), abs=0.01)
  # Standardised: a band's unit does not decide who is near.
  scale = np.array([1, 1e-6, 1] * 2)
  noise = 0.01 * features.std(axis=0) * rng.normal(size=features.shape)
  noisy = features + noise
  plain = baselines.nearest_patch((features, labels), same, (noisy, labels))
  scaled = baselines.nearest_patch(
    (features * scale, labels),
    (same[0] * scale, same[1]),
    (noisy * scale, labels),
  )
  for name, value in plain.items():
    assert scaled[name] == pytest.approx(value), name
  assert plain["acc@1km"] > 0.9


def test_band_statistics():
  images = np.random.default_rng(0).integers(0, 255, (5, 8, 6, 3), np.uint8)
  found = baselines.band_statistics(images)
  assert found.shape == (5, 6)
  for i in range(5):
    for band in range(3):
      pixels = [float(p) for p in images[i, :, :, band].ravel()]
      assert found[i, band] == pytest.approx(np.mean(pixels), rel=1e-6)
      assert found[i, 3 + band] == pytest.approx(np.std(pixels), rel=1e-5)


def test_no_land_is_an_error():
  labels = make_labels(30, 0)
  sea = labels.copy()
  sea[:, :31] = np.eye(31)[0]
  features = np.zeros((30, 2))
  for call in (
    lambda: baselines.uniform(sea),
    lambda: baselines.best_constant(sea, labels, labels),
    lambda: baselines.best_constant(labels, sea, labels),
    lambda: baselines.nearest_patch(
      (features, labels), (features, sea), (features, labels)
    ),
  ):
    with pytest.raises(ValueError, match="must hold land, found none in 30"):
      call()
