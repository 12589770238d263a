"""What metrics.json and predictions.parquet hold, and how they are written."""

import json

import numpy as np
import pytest
from pyarrow import parquet

from experiments import figures, reporting
from geojax import climate, encodings, sphere, tasks
from geojax.evaluation import metrics
from geojax.tasks import coords
from geojax.training import config as config_lib


@pytest.fixture
def task_list():
  return tasks.create_tasks(config_lib.default_config())


@pytest.fixture
def table(task_list):
  """A table of 60 patches, some of them sea, with two decoders."""
  rng = np.random.default_rng(0)
  label = encodings.encode_label(
    np.eye(31)[rng.integers(0, 31, 60)],
    rng.uniform(-60, 60, 60),
    rng.uniform(-180, 180, 60),
    rng.integers(1, 366, 60),
  ).astype(np.float32)
  place = rng.normal(size=(2, 60, 3))
  place /= np.linalg.norm(place, axis=-1, keepdims=True)
  answers = {
    "place": place[0],
    "place_mode": place[0],
    "place_largest": place[1],
    "climate_probs": rng.dirichlet(np.ones(31), 60),
    "day": rng.uniform(1, 365, 60),
    "log_prob": rng.normal(size=60),
  }
  return tasks.compare(task_list, encodings.split_label(label), answers) | {
    "credible_level": rng.random(60),
    "area_km2": rng.uniform(1, 1e6, (60, 3)),
    "raw_credible_level": np.full(60, 0.9),
    "raw_area_km2": np.tile([4.0, 5.0, 6.0], (60, 1)),
    "fitted_nll_nats": np.full(60, -2.0),
    "fitted_credible_level": np.full(60, 0.6),
    "fitted_area_km2": np.tile([1.0, 2.0, 3.0], (60, 1)),
  }


FITTED = {
  "coords": {
    "temperature": np.float32(1.5),
    "nll_nats": np.zeros(len(coords.TEMPERATURES)),
    "level_knots": np.linspace(0, 1, 257),
    "num_blocks": np.int32(31),
  }
}


def test_figures_of_decoders_calibration_and_confusion(table, task_list):
  found = figures.compute(
    table, task_list, FITTED, np.full(60, 300.0), temperature=1.2
  )
  land = table["is_land"]
  assert 0 < land.sum() < 60
  assert found["decoders"]["mode"]["median_km"] == pytest.approx(
    found["median_km"]
  )
  away = sphere.great_circle_km(
    table["place_largest"][land], table["place_true"][land]
  )
  largest = found["decoders"]["largest"]
  assert largest["mean_km"] == pytest.approx(away.mean(), rel=1e-5)
  assert largest["acc@2500km"] == pytest.approx(np.mean(away <= 2500))
  assert found["calibration"]["temperature"] == 1.2
  assert found["calibration"]["fitted_temperature"] == 1.5
  assert found["count_with_sea"] == 60
  assert "count_with_sea" not in found["intervals"]
  configured = found["calibration"]["as_configured"]
  assert configured["nll_nats"] == pytest.approx(found["nll_nats"])
  assert [configured[f"coverage@{p}%"] for p in (50, 80, 95)] == [0, 0, 1]
  assert configured["area@95%_km2"] == 6
  calibrated = found["calibration"]["calibrated"]
  for name in ("coverage@50%", "area@80%_km2"):
    assert calibrated[name] == pytest.approx(found[name])
  assert found["calibration"]["num_blocks"] == 31
  fitted = found["calibration"]["fitted"]
  assert fitted["nll_nats"] == -2
  assert [fitted[f"coverage@{p}%"] for p in (50, 80, 95)] == [0, 1, 1]
  assert [fitted[f"area@{p}%_km2"] for p in (50, 80, 95)] == [1, 2, 3]
  # All at level 0.6: off by the mass below it, by what is left above.
  masses = np.linspace(0, 1, 21)
  gaps = np.where(masses < 0.6 - 1e-9, masses, 1 - masses)
  assert fitted["coverage_error"] == pytest.approx(gaps.mean(), abs=0.03)
  zones = found["confusion"]["zones"]
  assert zones.sum() == land.sum()
  true, predicted = table["zone_true"][land][0], table["zone"][land][0]
  assert zones[true, predicted] > 0
  assert np.trace(found["confusion"]["classes"]) == pytest.approx(
    found["climate_class_accuracy"] * land.sum()
  )


def test_the_closing_table_stars_the_best_of_each_row(task_list):
  columns = {
    "this run": {"median_km": 5.0, "geoscore": 7.0, "nll_nats": -1.0},
    "other": {"median_km": 6.0, "geoscore": 8.0, "climate_top3": 1.0},
  }
  lines = reporting.closing_table(task_list, columns).splitlines()
  assert [line.split() for line in lines[1:]] == [
    ["median", "distance,", "km", "5.000*", "6.000"],
    ["GeoScore,", "0", "to", "5000", "7.000", "8.000*"],
    ["nll,", "nats;", "0", "is", "uniform", "-1.000*", "-"],
  ]


def test_curves_are_losses_and_headlines_of_each_task(task_list):
  train, where, which, when = reporting.curve_panels(task_list)
  assert train[1] == ("loss", "coords", "climate", "date")
  assert where == (
    "validation",
    ("median_km", "mean_km"),
    "coords, km, validation",
  )
  assert which[1][:2] == ("climate_accuracy", "climate_class_accuracy")
  assert when[1] == ("date_mae_days",)


def test_json_knows_no_nan(tmp_path):
  path = tmp_path / "metrics.json"
  found = {"a": float("nan"), "b": {"c": np.array([1.0, np.nan])}, "d": (1, 2)}
  figures.write_json(found, path)

  def refuse(constant):
    raise AssertionError(constant)

  assert json.loads(path.read_text(), parse_constant=refuse) == {
    "a": None,
    "b": {"c": [1.0, None]},
    "d": [1, 2],
  }


def test_a_row_a_patch_in_the_order_of_the_split(table, tmp_path):
  path = tmp_path / "predictions.parquet"
  written = table
  figures.write_predictions(written, np.arange(60.0), path)
  table = parquet.read_table(path).to_pydict()
  assert table["record"] == list(range(60))
  assert table["train_km"] == list(range(60))
  np.testing.assert_allclose(table["distance_km"], written["distance_km"])
  true = sphere.latlon_to_unit(
    np.array(table["lat_true"]), np.array(table["lon_true"])
  )
  predicted = sphere.latlon_to_unit(
    np.array(table["lat_predicted"]), np.array(table["lon_predicted"])
  )
  np.testing.assert_allclose(
    sphere.great_circle_km(true, predicted), table["distance_km"], atol=2
  )
  i = 7
  assert table["zone_true"][i] == climate.ZONES[written["zone_true"][i]]
  probs = table["zone_probabilities"][i]
  np.testing.assert_allclose(probs, written["climate_probs"][i], rtol=1e-5)
  assert max(probs) == pytest.approx(table["zone_probability"][i], rel=1e-5)
  assert {"lat_mode", "lon_largest", "area_95_km2", "nll_nats"} <= set(table)


def test_predictions_are_read_as_metrics_know_them(table, task_list, tmp_path):
  path = tmp_path / "predictions.parquet"
  figures.write_predictions(table, np.full(60, 300.0), path)
  found = figures.read_predictions(path)
  for name in ("area_km2", "raw_area_km2"):
    np.testing.assert_array_equal(found[name], table[name])
  listed = tasks.all_metrics(task_list)
  assert metrics.summarize(found, listed) == pytest.approx(
    metrics.summarize(table, listed), nan_ok=True
  )
