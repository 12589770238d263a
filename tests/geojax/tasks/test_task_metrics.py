"""Every metric of the three tasks: its name, unit, direction and value."""

import math

import jax
import numpy as np
import pytest
from task_samples import LAND, SEA, create, make_config, make_labels

from geojax import climate, encodings, sphere, tasks
from geojax.evaluation import metrics

# The last four rows: no date, no climate, open sea, no place.
KM = np.array([0.5, 20, 40, 80, 150, 400, 600, 2000, 9000, 1e4, 0])
DAYS = np.array([0, 1, 2, 4, 8, 16, 32, 0, 64, 150, 128])
# What gets 0.5, 0.3, 0.15 and 0.05, besides a class that has none.
TRUE_RANK = [0, 0, 1, 2, 3, 4, 0, 2, 0, 0, 1]
SURE = [0.9, 0.5, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.9, 0.5]
ZONES = [8, 8, 9, 8, 8, 8, 14, 9, LAND, SEA, 8]
ON_SEA = 9


def make_table():
  labels = make_labels(ZONES)
  place = sphere.latlon_to_unit(np.zeros(11), np.degrees(KM / 6371.0088))
  labels["coords"] = encodings.encode_coordinates(np.zeros(11), np.zeros(11))
  day = np.full(11, 360.0)
  labels["date"] = encodings.encode_day_of_year(day)
  probs = np.zeros((11, 31))
  for i, (rank, sure) in enumerate(zip(TRUE_RANK, SURE, strict=True)):
    # Zone 10 is in the class of most patches on land, the others in the next.
    order = [17, 10, 18, 19]
    order.insert(rank, ZONES[i])
    probs[i, order[:4]] = [sure, *np.array([0.6, 0.3, 0.1]) * (1 - sure)]
  labels["date"][7] = labels["climate"][8] = labels["coords"][10] = np.nan
  answers = {
    "place": place,
    "climate_probs": probs,
    "day": (day + DAYS * np.where(np.arange(11) % 2, 1, -1)) % 365,
    "log_prob": np.arange(11.0) - math.log(4 * math.pi),
    "credible_level": np.array(
      [0.1, 0.5, 0.51, 0.6, 0.8, 0.81, 0.95, 0.96, 1, 0, 0]
    ),
    "area_km2": np.arange(1, 12)[:, None] * [1.0, 10.0, 100.0],
    "denser_km2": 10 ** np.arange(3.75, 9, 0.5),
    "climate_level": np.array([0, 0.2, 0.9, 0.91, 1, 1, 1, 1, 0, 0.3, 0.89]),
    "climate_set_size": np.arange(1, 12),
    "date_level": np.array([0.1, 0.8, 0.81, 0.2, 1, 1, 1, 0, 0, 0, 0.5]),
    "date_arc_days": 10.0 * np.arange(11),
  }
  return tasks.compare(create(), labels, answers), probs


def test_every_metric():
  table, probs = make_table()
  listed = tasks.all_metrics(create())
  values = metrics.summarize(table, listed)
  found = {m.name: (m.unit, m.higher_is_better, values[m.name]) for m in listed}

  land = [0, 1, 2, 3, 4, 5, 6, 7, 10]
  hits = {}
  for suffix, rows in (("", land), ("_with_sea", sorted([*land, ON_SEA]))):
    rank = np.array(TRUE_RANK)[rows]
    zones, sure = np.array(ZONES)[rows], np.array(SURE)[rows]
    predicted = probs[rows].argmax(axis=1)
    classes = climate.class_fractions(probs[rows]).argmax(axis=1)
    gap = [
      abs(np.sum((rank == 0)[sure == c] - c)) / len(rows) for c in (0.5, 0.9)
    ]
    f1 = [
      2
      * np.sum((zones == z) & (predicted == z))
      / (np.sum(zones == z) + np.sum(predicted == z))
      for z in set(zones) | set(predicted)
    ]
    true_class = climate.ZONE_TO_CLASS[zones]
    hits |= {
      f"climate_accuracy{suffix}": ("", True, np.mean(rank == 0)),
      f"climate_top3{suffix}": ("", True, np.mean(rank < 3)),
      f"climate_class_accuracy{suffix}": (
        *("", True),
        np.mean(classes == true_class),
      ),
      f"climate_macro_f1{suffix}": ("", True, np.mean(f1)),
      f"climate_ece{suffix}": ("", False, sum(gap)),
    }
  expected = {
    "median_km": ("km", False, 150),
    "mean_km": ("km", False, 12_290.5 / 9),
    "acc@1km": ("", True, 1 / 9),
    "acc@25km": ("", True, 2 / 9),
    "acc@50km": ("", True, 3 / 9),
    "acc@100km": ("", True, 4 / 9),
    "acc@200km": ("", True, 5 / 9),
    "acc@500km": ("", True, 6 / 9),
    "acc@750km": ("", True, 7 / 9),
    "acc@2500km": ("", True, 8 / 9),
    "geoscore": ("", True, 5000 * np.exp(-KM[:9] / 1492.7).mean()),
    "count": ("", None, 9),
    "count_with_sea": ("", None, 10),
    "nll_nats": ("", False, -4),
    "coverage@50%": ("", None, 2 / 9),
    "coverage@80%": ("", None, 5 / 9),
    "coverage@95%": ("", None, 7 / 9),
    "area@50%_km2": ("km²", False, 5),
    "area@80%_km2": ("km²", False, 50),
    "area@95%_km2": ("km²", False, 500),
    **{
      f"recall@10^{4 + i / 2:g}_km2": ("", True, (i + 1) / 9) for i in range(9)
    },
    "climate_coverage@90%": ("", None, 4 / 9),
    "climate_set_size@90%": ("", False, (sum(range(1, 9)) + 11) / 9),
    "date_coverage@80%": ("", None, 5 / 9),
    "date_arc@80%_days": ("days", False, 390 / 9),
    "date_mae_days": ("days", False, 255 / 9),
    "date_median_days": ("days", False, 8),
    **hits,
  }
  assert found.keys() == expected.keys()
  for name, (unit, higher, value) in expected.items():
    assert found[name][:2] == (unit, higher), name
    assert found[name][2] == pytest.approx(value, rel=1e-6, abs=1e-12), name
  assert [m.name for m in listed if m.final] == [
    *(f"coverage@{p}%" for p in (50, 80, 95)),
    *(f"area@{p}%_km2" for p in (50, 80, 95)),
    *(f"recall@10^{4 + i / 2:g}_km2" for i in range(9)),
    *("climate_coverage@90%", "climate_set_size@90%"),
    *("date_coverage@80%", "date_arc@80%_days"),
  ]
  assert {m.name for m in listed if not m.in_report} == {
    name for name in found if name.endswith(("_with_sea", ".5_km2"))
  }
  assert " ".join(m.name for m in listed if m.headline) == (
    "median_km mean_km acc@1km acc@25km acc@200km acc@750km acc@2500km"
    " geoscore nll_nats recall@10^6_km2 climate_accuracy climate_class_accuracy"
    " climate_macro_f1 date_mae_days"
  )


def test_an_answer_of_one_zone_has_no_second():
  labels = make_labels([3, 8, 20])
  for shift in (0, 1):
    answers = {"climate_probs": np.roll(labels["climate"], shift, axis=1)}
    found = tasks.compare(create(["climate"]), labels, answers)
    assert found["in_top3"].tolist() == [not shift] * 3


def test_a_class_is_the_sum_of_its_zones():
  probs = np.zeros((1, 31))
  probs[0, climate.ZONES.index("Af")] = 0.4
  probs[0, climate.CLASS_SLICES[3]] = 0.6 / 9
  found = tasks.compare(
    create(["climate"]), {"climate": probs}, {"climate_probs": probs}
  )
  for zone in ("zone", "zone_true"):
    assert climate.ZONES[found[zone][0]] == "Af"
  for name in ("climate_class", "class_true"):
    assert climate.CLASSES[found[name][0]] == "temperate"


def test_comparing_is_the_same_in_numpy_and_under_jit():
  table, _ = make_table()
  task_list = create()
  labels = {name: table.pop(name) for name in ("coords", "climate", "date")}
  names = ("place", "climate_probs", "day", "log_prob")
  answers = {name: table[name] for name in names}
  expected = tasks.compare(task_list, labels, answers)
  found = jax.jit(lambda *x: tasks.compare(task_list, *x))(labels, answers)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert isinstance(value, np.ndarray)
    np.testing.assert_allclose(
      found[name], value, rtol=1e-4, atol=5e-3, err_msg=name
    )
  assert np.flatnonzero(~expected["is_land"]).tolist() == [ON_SEA]
  counts = {"coords": [9, 10], "climate": [8], "date": [7, 9]}
  for name, unknown in counts.items():
    column = expected[f"{name}_counts"]
    assert np.flatnonzero(~column).tolist() == unknown
  # Without a climate every patch is taken for land.
  task_list = create(["date"])
  compare = lambda *x: tasks.compare(task_list, *x)  # noqa: E731
  for run in (compare, jax.jit(compare)):
    found = run({"date": labels["date"]}, {"day": answers["day"]})
    assert np.flatnonzero(~found["date_counts"]).tolist() == [7]
    assert np.asarray(found["is_land"]).tolist() == [True] * 11


@pytest.mark.parametrize(
  ("names", "coords", "asked", "best"),
  [
    (("date", "climate"), "mvmf", "auto", "date_mae_days"),
    (("climate", "date"), "mvmf", "auto", "climate_accuracy"),
    (("coords", "date"), "mvmf", "auto", "nll_nats"),
    (("coords", "date"), "mse", "auto", "median_km"),
    (("coords", "date"), "mse", "acc@25km", "acc@25km"),
    (("coords", "date"), "mse", "nll_nats", None),
    (("date",), "mvmf", "median_km", None),
    # Neither a high coverage nor a low one is better.
    (("coords",), "mvmf", "coverage@50%", None),
    (("coords",), "mvmf", "count", None),
  ],
)
def test_best_metric(names, coords, asked, best):
  task_list = tasks.create_tasks(make_config(names, coords=coords))
  if best is None:
    first = "date_mae_days" if names == ("date",) else "median_km"
    with pytest.raises(
      ValueError, match=f"no task has '{asked}'; one of {first}"
    ):
      tasks.best_metric(task_list, asked)
  else:
    assert tasks.best_metric(task_list, asked).name == best
