import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import climate, encodings, metrics, sphere


def make_split(num, seed=0):
  """Random labels, a third of them sea, and random predictions of them."""
  rng = np.random.default_rng(seed)
  fractions = rng.dirichlet(np.full(31, 0.2), num)
  fractions[rng.random(num) < 1 / 3] = np.eye(31)[0]
  labels = encodings.encode_label(
    fractions,
    np.degrees(np.arcsin(rng.uniform(-1, 1, num))),
    rng.uniform(-180, 180, num),
    rng.integers(1, 366, num),
  )
  true = encodings.coordinates_to_unit(labels[:, encodings.COORDS])
  # Misses of 1 m to 20,000 km.
  step = np.logspace(-7, 1, num)[:, None] * rng.normal(size=(num, 3))
  place = true + step
  place /= np.linalg.norm(place, axis=1, keepdims=True)
  predictions = {
    "place": place,
    "climate_probs": rng.dirichlet(np.full(31, 0.2), num) + 0.3 * fractions,
    "day": rng.uniform(1, 366, num),
    "log_prob": rng.normal(size=num),
  }
  return labels, predictions


def test_per_example_one_by_one():
  labels, predictions = make_split(50)
  found = metrics.per_example(labels, **predictions)
  for i in range(50):
    fractions = labels[i, :31]
    lat = 90 - 180 * labels[i, 31]
    lon = math.atan2(2 * labels[i, 32] - 1, 2 * labels[i, 33] - 1)
    phi = math.radians(lat)
    true = [math.cos(phi) * math.cos(lon), math.cos(phi) * math.sin(lon)]
    cross = np.cross([*true, math.sin(phi)], predictions["place"][i])
    dot = np.dot([*true, math.sin(phi)], predictions["place"][i])
    distance = 6371.0088 * math.atan2(np.linalg.norm(cross), dot)
    assert found["distance_km"][i] == pytest.approx(distance, abs=1e-6)
    turn = math.atan2(2 * labels[i, 34] - 1, 2 * labels[i, 35] - 1)
    apart = predictions["day"][i] * 2 * math.pi / 365 - turn
    error = abs(math.atan2(math.sin(apart), math.cos(apart)))
    assert found["date_days"][i] == pytest.approx(error * 365 / 2 / math.pi)
    assert found["is_land"][i] == (fractions[0] < 0.95)
    probs = predictions["climate_probs"][i]
    assert found["zone"][i] == np.argmax(probs)
    assert found["zone_true"][i] == np.argmax(fractions)
    for name, zones in [("climate_class", probs), ("class_true", fractions)]:
      sums = np.zeros(6)
      np.add.at(sums, climate.ZONE_TO_CLASS, zones)
      assert found[name][i] == np.argmax(sums)
    nll = -predictions["log_prob"][i] - math.log(4 * math.pi)
    assert found["nll_nats"][i] == pytest.approx(nll)


def test_per_example_traces():
  labels, predictions = make_split(200)
  found = jax.jit(metrics.per_example)(labels, **predictions)
  expected = metrics.per_example(labels, **predictions)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=5e-3)


def test_a_class_is_the_sum_of_its_zones():
  probs = np.zeros((1, 31))
  probs[0, climate.ZONES.index("Af")] = 0.4
  probs[0, climate.CLASS_SLICES[3]] = 0.6 / 9
  labels = encodings.encode_label(probs, [0.0], [0.0], [1.0])
  example = metrics.per_example(
    labels, place=np.eye(3)[:1], climate_probs=probs, day=np.ones(1)
  )
  assert climate.ZONES[example["zone"][0]] == "Af"
  assert climate.CLASSES[example["climate_class"][0]] == "temperate"
  assert climate.CLASSES[example["class_true"][0]] == "temperate"
  assert "nll_nats" not in example


def f1_oracle(true, predicted):
  scores = []
  for zone in set(true) | set(predicted):
    hits = sum(t == p == zone for t, p in zip(true, predicted, strict=True))
    precision = hits / max(1, sum(p == zone for p in predicted))
    recall = hits / max(1, sum(t == zone for t in true))
    both = precision + recall
    scores.append(2 * precision * recall / both if both else 0.0)
  return sum(scores) / len(scores)


def test_summary_against_loops():
  labels, predictions = make_split(300)
  examples = metrics.per_example(labels, **predictions)
  padding = np.arange(300) % 7 != 0
  rng = np.random.default_rng(1)
  examples["credible_level"] = rng.random(300)
  examples["area_km2"] = rng.uniform(1, 1e6, (300, 3))
  names = "distance_km nll_nats date_days confidence credible_level area_km2"
  for name in names.split():
    examples[name][~padding] = np.nan
  found = metrics.summarize(examples, padding)

  rows = [i for i in range(300) if padding[i]]
  land = [i for i in rows if examples["is_land"][i]]
  distance = [float(examples["distance_km"][i]) for i in land]
  expected = {
    "median_km": float(np.median(distance)),
    "mean_km": sum(distance) / len(land),
    "geoscore": sum(5000 * math.exp(-d / 1492.7) for d in distance) / len(land),
    "nll_nats": sum(examples["nll_nats"][i] for i in land) / len(land),
    "date_mae_days": sum(examples["date_days"][i] for i in land) / len(land),
    "date_median_days": np.median([examples["date_days"][i] for i in land]),
  }
  for i, percent in enumerate((50, 80, 95)):
    hits = sum(examples["credible_level"][j] <= percent / 100 for j in land)
    expected[f"coverage@{percent}%"] = hits / len(land)
    areas = [examples["area_km2"][j, i] for j in land]
    expected[f"area@{percent}%_km2"] = np.median(areas)
  for radius in (1, 25, 50, 100, 200, 500, 750, 2500):
    hits = sum(d <= radius for d in distance)
    expected[f"acc@{radius}km"] = hits / len(land)
  for suffix, chosen in [("", land), ("_with_sea", rows)]:
    true = [int(examples["zone_true"][i]) for i in chosen]
    predicted = [int(examples["zone"][i]) for i in chosen]
    hits = sum(t == p for t, p in zip(true, predicted, strict=True))
    expected["climate_accuracy" + suffix] = hits / len(chosen)
    hits = sum(
      examples["climate_class"][i] == examples["class_true"][i] for i in chosen
    )
    expected["climate_class_accuracy" + suffix] = hits / len(chosen)
    expected["climate_macro_f1" + suffix] = f1_oracle(true, predicted)
    ranks = [
      sorted(-predictions["climate_probs"][i]).index(
        -predictions["climate_probs"][i][zone]
      )
      for i, zone in zip(chosen, true, strict=True)
    ]
    expected["climate_top3" + suffix] = sum(r < 3 for r in ranks) / len(chosen)
    bins = {}
    for i, t, p in zip(chosen, true, predicted, strict=True):
      confidence = max(predictions["climate_probs"][i])
      gap = (t == p) - confidence
      bins.setdefault(min(int(confidence * 15), 14), []).append(gap)
    ece = sum(abs(sum(gaps)) for gaps in bins.values()) / len(chosen)
    expected["climate_ece" + suffix] = ece
    expected["count" + suffix] = len(chosen)
  assert found.keys() == expected.keys()
  assert 0 < found["acc@25km"] < found["acc@2500km"] < 1
  assert found["climate_accuracy"] != found["climate_accuracy_with_sea"]
  for name, value in expected.items():
    assert type(found[name]) is float
    assert found[name] == pytest.approx(value), name


def test_an_answer_of_one_zone_has_no_second():
  labels, predictions = make_split(30)
  probs = np.eye(31)[labels[:, :31].argmax(axis=1)]
  predictions["climate_probs"] = probs
  assert metrics.per_example(labels, **predictions)["in_top3"].all()
  predictions["climate_probs"] = np.roll(probs, 1, axis=1)
  assert not metrics.per_example(labels, **predictions)["in_top3"].any()


def test_perfect_and_antipodal():
  labels, _ = make_split(40)
  place = encodings.coordinates_to_unit(labels[:, encodings.COORDS])
  day = encodings.decode_day_of_year(labels[:, encodings.DATE])
  probs = labels[:, encodings.CLIMATE]
  best = metrics.summarize(
    metrics.per_example(labels, place=place, climate_probs=probs, day=day)
  )
  assert best["median_km"] == best["mean_km"] == best["date_mae_days"] == 0
  assert best["geoscore"] == 5000
  for name in ("acc@1km", "climate_accuracy", "climate_macro_f1"):
    assert best[name] == 1
  half_year = day + 182.5 + 365  # any turn
  worst = metrics.summarize(
    metrics.per_example(
      labels, place=-place, climate_probs=probs, day=half_year
    )
  )
  assert worst["median_km"] == pytest.approx(math.pi * 6371.0088)
  assert worst["date_mae_days"] == pytest.approx(182.5)


def test_nothing_to_count_is_nan():
  labels, predictions = make_split(3)
  labels[:, :31] = np.eye(31)[0]
  found = metrics.summarize(metrics.per_example(labels, **predictions))
  assert found["count"] == 0
  assert found["count_with_sea"] == 3
  for name in ("median_km", "acc@1km", "climate_accuracy", "climate_macro_f1"):
    assert math.isnan(found[name])
  assert not math.isnan(found["climate_accuracy_with_sea"])


@pytest.mark.parametrize("xp", [np, jnp])
def test_sums_of_batches_are_sums_of_all(xp):
  rng = np.random.default_rng(0)
  values = {
    "loss": rng.normal(size=40).astype(np.float32),
    "hit": rng.random(40) < 0.3,
  }
  where = rng.random(40) < 0.6
  values["loss"][~where] = np.nan
  add = jax.jit(metrics.add) if xp is jnp else metrics.add
  totals, parts = {}, []
  for rows in np.split(np.arange(40), 5):
    batch = {name: xp.asarray(x[rows]) for name, x in values.items()}
    totals = add(totals, batch, xp.asarray(where[rows]))
    parts.append(add({}, batch, xp.asarray(where[rows])))
  merged = metrics.merge(
    metrics.merge(parts[0], parts[1]),
    metrics.merge(parts[2], metrics.merge(parts[3], parts[4])),
  )
  for sums in (totals, merged):
    found = metrics.compute(sums)
    for name, x in values.items():
      assert found[name] == pytest.approx(x[where].mean(), rel=1e-6)
  assert metrics.merge({}, totals) == totals
  assert metrics.merge(totals, {"new": (3.0, 2.0)})["new"] == (3, 2)


def test_confusion_matrices_add_up():
  rng = np.random.default_rng(0)
  true, predicted = rng.integers(0, 5, (2, 60))
  where = rng.random(60) < 0.7
  expected = np.zeros((5, 5))
  np.add.at(expected, (true[where], predicted[where]), 1)
  found = sum(
    jax.jit(metrics.confusion_matrix, static_argnums=3)(
      jnp.asarray(true[rows]),
      jnp.asarray(predicted[rows]),
      jnp.asarray(where[rows]),
      5,
    )
    for rows in np.split(np.arange(60), 3)
  )
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(
    metrics.confusion_matrix(true, predicted, where, 5), expected
  )
  assert metrics.macro_f1(found) == pytest.approx(
    f1_oracle(true[where].tolist(), predicted[where].tolist())
  )
  # A class that is neither true nor predicted does not count, one that is
  # predicted but never true scores 0.
  assert metrics.macro_f1(np.diag([2, 0, 3])) == 1
  assert metrics.macro_f1([[2, 0], [0, 0]]) == 1
  assert metrics.macro_f1([[1, 1], [0, 0]]) == pytest.approx((2 / 3 + 0) / 2)


def test_geoscore():
  assert metrics.geoscore(0) == 5000
  assert metrics.geoscore(1492.7) == pytest.approx(5000 / math.e)


def test_bad_input():
  labels, predictions = make_split(4)
  for name, bad in [
    ("place", np.ones((4, 2))),
    ("climate_probs", np.ones((4, 6))),
    ("day", np.ones((4, 1))),
    ("log_prob", np.ones(3)),
  ]:
    with pytest.raises(ValueError, match=f"{name} must have shape"):
      metrics.per_example(labels, **predictions | {name: bad})
  with pytest.raises(ValueError, match="where must have shape"):
    metrics.add({}, {"x": np.ones((4, 1))}, np.ones(4, bool))
  with pytest.raises(ValueError, match=r"b must have shape|a must have shape"):
    sphere.great_circle_km(np.ones(4), np.ones(4))
