import numpy as np
import pytest
from scipy import stats

from geojax import encodings, sphere, tasks
from geojax.cell_regions import EARTH_AREA_KM2
from geojax.evaluation import baselines, distance, metrics
from geojax.training import config as config_lib

TASKS = tasks.create_tasks(config_lib.default_config())
METRICS = tasks.all_metrics(TASKS)


def summarize(labels, answers):
  table = tasks.compare(TASKS, labels, answers)
  return lambda mask=None: metrics.summarize(table, METRICS, mask)


def best_constant(train, validation, test, then=summarize):
  return baselines.best_constant(train, validation, test, then, METRICS)


def labels_at(x, zones, day):
  label = encodings.encode_label(
    np.eye(31)[zones], *sphere.unit_to_latlon(x), day
  )
  return encodings.split_label(label)


def make_labels(num, seed):
  """Two thirds near one place in zone 8, the rest near another in zone 3."""
  rng = np.random.default_rng(seed)
  sizes = num - num // 3, num // 3
  x = np.concatenate(
    [
      stats.vonmises_fisher(center, 400).rvs(size, random_state=seed + i)
      for i, (center, size) in enumerate(
        zip(([1.0, 0, 0], [0, 0.6, 0.8]), sizes, strict=True)
      )
    ]
  )
  return labels_at(x, np.repeat([8, 3], sizes), rng.integers(360, 372, num))


def with_unknown(labels):
  """Leaves 2 rows without place, 3 without climate, 4 no date; 3 are sea."""
  labels = {name: x.copy() for name, x in labels.items()}
  for i, name in enumerate(("coords", "climate", "date")):
    labels[name][3 * i : 4 * i + 2] = np.nan
  labels["climate"][9:12] = np.eye(31)[0]
  return labels


TRAIN, VALIDATION = make_labels(900, 0), make_labels(300, 10)
TEST = with_unknown(make_labels(300, 20))
ROWS = np.arange(300)
LOCATED = (ROWS > 1) & ((ROWS < 9) | (ROWS > 11))
LAND = ((ROWS < 3) | (ROWS > 5)) & ((ROWS < 9) | (ROWS > 11))


def test_uniform_is_what_uniform_guesses_reach():
  rng = np.random.default_rng(0)
  num = 200_000
  zones = rng.choice(31, num, p=rng.dirichlet(np.ones(31)))
  truth = np.broadcast_to(sphere.latlon_to_unit(48.0, 2.0), (num, 3))
  labels = labels_at(truth, zones, np.full(num, 77))
  guesses = rng.normal(size=(num, 3))
  answers = {
    "place": guesses / np.linalg.norm(guesses, axis=1, keepdims=True),
    "climate_probs": (1 + 1e-3 * rng.random((num, 31))) / 31,
    "day": rng.uniform(1, 366, num),
    "log_prob": np.full(num, -np.log(4 * np.pi)),
    "denser_km2": rng.permutation(num) * EARTH_AREA_KM2 / num,
  }
  table = tasks.compare(TASKS, labels, answers)
  table["climate_class"] = rng.integers(0, 6, num)
  expected = metrics.summarize(table, METRICS)
  over = baselines.uniform(labels)
  for name, value in over().items():
    # Three standard errors of the shares; the F1 and the means have less.
    assert value == pytest.approx(expected[name], rel=0.02, abs=1e-5) or (
      name.startswith(("acc@", "recall@", "climate_ece"))
      and abs(value - expected[name]) < 1e-3
    ), name
  half = np.arange(num) < num // 2
  f1 = metrics.summarize(table, METRICS, half)["climate_macro_f1"]
  assert over(half)["climate_macro_f1"] == pytest.approx(f1, rel=0.02)
  # Land of known climate alone has a zone.
  share = np.mean(TEST["climate"][LAND], axis=0)
  f1 = np.mean(2 * share / (31 * share + 1))
  found = baselines.uniform(TEST)()["climate_macro_f1"]
  assert found == pytest.approx(f1)


def test_the_best_constant_is_that_of_a_search_and_knows_what_counts():
  train = with_unknown(TRAIN)
  train["date"][:500] = np.nan
  over = best_constant(train, VALIDATION, TEST)
  x = encodings.coordinates_to_unit(TEST["coords"])
  constants = np.concatenate(
    [np.random.default_rng(0).normal(size=(50, 3)), [[1, 0, 0], [0, 0.6, 0.8]]]
  )
  constants /= np.linalg.norm(constants, axis=1, keepdims=True)
  for mask in (None, ROWS % 3 > 0):
    rows = LOCATED if mask is None else LOCATED & mask
    found = over(mask)
    km = sphere.great_circle_km(constants[:, None], x[rows])
    best = {
      "mean_km": km.mean(axis=1).min(),
      "median_km": np.median(km, axis=1).min(),
      "acc@750km": (km <= 750).mean(axis=1).max(),
      "geoscore": distance.geoscore(km).mean(axis=1).max(),
    }
    for name, value in best.items():
      assert found[name] == pytest.approx(value, rel=0.06), name
    assert found["count"] == rows.sum()
    # Days 360 to 371 wrap around New Year; their middle is day 365 or 366.
    assert found["date_mae_days"] == pytest.approx(3, abs=0.3)
    true = TEST["climate"].argmax(axis=1) == 8
    share = true[LAND if mask is None else LAND & mask].mean()
    assert found["climate_accuracy"] == pytest.approx(share)
    assert found["climate_class_accuracy"] == pytest.approx(share)


def test_a_mask_is_the_test_split_of_its_rows_alone():
  features = [
    np.random.default_rng(i).normal(size=(len(x["coords"]), 4))
    for i, x in enumerate((TRAIN, VALIDATION, TEST))
  ]
  train, validation, test = (
    {**labels, "bands": bands}
    for labels, bands in zip((TRAIN, VALIDATION, TEST), features, strict=True)
  )
  mask = ROWS < 120
  for run in (
    baselines.uniform,
    lambda test: best_constant(train, validation, test),
    lambda test: baselines.nearest_patch(train, validation, test, summarize),
  ):
    alone = run({name: x[mask] for name, x in test.items()})()
    assert run(test)(mask) == pytest.approx(alone, rel=1e-9)
    assert alone["count"] == (LOCATED & mask).sum()
    assert np.isfinite(list(alone.values())).all()
    nothing = run(test)(np.zeros(300, bool))
    assert nothing["count"] == 0


def test_best_day_around_new_year():
  for days, best in [
    ([365.7, 365.8, 2.0], 1),
    ([364.0, 365.4, 1.0], 365),
    ([100.0, 110.0, 130.0], 110),
    ([], 1),
  ]:
    assert baselines._best_day(np.array(days)) == best


def test_densities_integrate_to_one():
  grid = sphere.equal_area_grid(20_000)
  test = labels_at(grid, np.full(len(grid), 8), np.full(len(grid), 1))
  bands = {"bands": np.zeros((len(grid), 2))}

  def log_prob(labels, answers):
    return lambda mask=None: {
      "density": np.exp(answers["log_prob"]),
      "denser_km2": answers["denser_km2"],
    }

  few = {name: x[:1] for name, x in (TRAIN | bands).items()}
  some = {name: x[:300] for name, x in (VALIDATION | bands).items()}
  for over in (
    best_constant(TRAIN, VALIDATION, test, log_prob),
    baselines.nearest_patch(few, some, test | bands, log_prob),
  ):
    found = over(np.zeros(len(grid), bool))
    density, denser_km2 = found["density"], found["denser_km2"]
    assert 4 * np.pi * density.mean() == pytest.approx(1, rel=1e-3)
    counted = stats.rankdata(-density, "min") - 1
    expected = counted * EARTH_AREA_KM2 / len(grid)
    # Far off, where densities are equal but for rounding, order is chance.
    peaked = density > 1.01 * density.min()
    assert peaked.sum() > 300
    # Counted on two grids, of which this one has 500 cells in a peak.
    np.testing.assert_allclose(
      *(denser_km2[peaked], expected[peaked]),
      rtol=0.08,
      atol=3 * EARTH_AREA_KM2 / len(grid),
    )


def test_the_constant_density_is_near_the_true_one():
  test = make_labels(600, 20)
  x = encodings.coordinates_to_unit(test["coords"])
  true = 2 / 3 * stats.vonmises_fisher([1.0, 0, 0], 400).pdf(x)
  true += 1 / 3 * stats.vonmises_fisher([0, 0.6, 0.8], 400).pdf(x)
  entropy = -np.log(4 * np.pi * true).mean()
  found = best_constant(make_labels(3000, 0), make_labels(600, 10), test)()
  assert entropy - 0.05 < found["nll_nats"] < entropy + 0.15


def test_the_nearest_patch():
  rng = np.random.default_rng(0)
  train = make_labels(200, 0) | {"bands": rng.uniform(size=(200, 3))}
  train["bands"] *= [1, 1000, 1]
  order = rng.permutation(200)
  same = {name: x[order] for name, x in train.items()}
  found = baselines.nearest_patch(train, same, same, summarize)()
  assert found["median_km"] < 1e-6
  assert found["date_mae_days"] == 0
  assert found["climate_macro_f1"] == 1
  # The finest kernel of the search, nearly unmixed.
  assert found["nll_nats"] == pytest.approx(-np.log(2 * np.exp(12)), abs=0.01)

  noise = 0.01 * train["bands"].std(axis=0) * rng.normal(size=(200, 3))
  noisy = train | {"bands": train["bands"] + noise}
  # Standardised: a band's unit does not decide which patch is near.
  plain, scaled = (
    baselines.nearest_patch(
      *(x | {"bands": x["bands"] * scale} for x in (train, same, noisy)),
      summarize,
    )()
    for scale in (1, np.array([1, 1e-6, 1]))
  )
  assert scaled == pytest.approx(plain)
  assert plain["acc@1km"] > 0.8
  # A patch without a label is nobody's answer; a label that none has is.
  unknown = {name: x.copy() for name, x in train.items()}
  unknown["coords"][:100] = unknown["date"][:] = np.nan
  places = baselines.nearest_patch(
    unknown, same, train, lambda _, answers: lambda mask=None: answers
  )()
  assert np.isfinite(places["place"]).all()
  assert np.isnan(places["day"]).all()
  exact = (
    sphere.great_circle_km(
      places["place"], encodings.coordinates_to_unit(train["coords"])
    )
    < 1e-6
  )
  np.testing.assert_array_equal(exact, np.arange(200) >= 100)


def test_no_land_at_known_places_is_an_error():
  labels = make_labels(30, 0) | {"bands": np.zeros((30, 2))}
  sea = labels | {"climate": np.eye(31)[np.zeros(30, int)]}
  nowhere = labels | {"coords": np.full((30, 3), np.nan)}
  for none in (sea, nowhere):
    for call in (
      lambda: best_constant(none, labels, labels),  # noqa: B023
      lambda: best_constant(labels, none, labels),  # noqa: B023
      lambda: baselines.nearest_patch(labels, none, labels, summarize),  # noqa: B023
    ):
      with pytest.raises(ValueError, match="found none in 30 rows"):
        call()
