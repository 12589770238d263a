"""What metrics.json and predictions.parquet hold, and how they are written."""

import json

import numpy as np
import pytest
from pyarrow import parquet

from experiments import figures
from geojax import climate, encodings, metrics, sphere


@pytest.fixture
def examined():
  rng = np.random.default_rng(0)
  fractions = np.eye(31)[rng.integers(0, 31, 60)]
  labels = encodings.encode_label(
    fractions,
    rng.uniform(-60, 60, 60),
    rng.uniform(-180, 180, 60),
    rng.integers(1, 366, 60),
  ).astype(np.float32)
  place = rng.normal(size=(2, 60, 3))
  place /= np.linalg.norm(place, axis=-1, keepdims=True)
  rows = {
    "place": place[0],
    "climate_probs": rng.dirichlet(np.ones(31), 60),
    "day": rng.uniform(1, 365, 60),
    "log_prob": rng.normal(size=60),
  }
  return {
    **rows,
    **metrics.per_example(labels, **rows),
    "label": labels,
    "credible_level": rng.random(60),
    "area_km2": rng.uniform(1, 1e6, (60, 3)),
    "places": {"mode": place[0], "largest": place[1]},
    "fitted": {
      "nll_nats": np.full(60, -2.0),
      "credible_level": np.full(60, 0.6),
      "area_km2": np.tile([1.0, 2.0, 3.0], (60, 1)),
    },
  }


def test_figures_of_decoders_doubt_and_confusion(examined):
  found = figures.compute(examined, np.full(60, 300.0))
  land = examined["is_land"]
  assert 0 < land.sum() < 60
  assert found["decoders"]["mode"]["median_km"] == pytest.approx(
    found["median_km"]
  )
  true = encodings.coordinates_to_unit(
    examined["label"][land][:, encodings.COORDS].astype(float)
  )
  away = sphere.great_circle_km(examined["places"]["largest"][land], true)
  largest = found["decoders"]["largest"]
  assert largest["mean_km"] == pytest.approx(away.mean())
  assert largest["acc@2500km"] == pytest.approx(np.mean(away <= 2500))
  fitted = found["doubt"]["fitted"]
  assert fitted["nll_nats"] == -2
  assert [fitted[f"coverage@{p}%"] for p in (50, 80, 95)] == [0, 1, 1]
  assert [fitted[f"area@{p}%_km2"] for p in (50, 80, 95)] == [1, 2, 3]
  # All at level 0.6: off by the mass below it, by what is left above.
  masses = np.linspace(0, 1, 21)
  gaps = np.where(masses < 0.6 - 1e-9, masses, 1 - masses)
  assert fitted["coverage_error"] == pytest.approx(gaps.mean(), abs=0.03)
  assert found["confusion"]["zones"].sum() == land.sum()
  assert np.trace(found["confusion"]["classes"]) == pytest.approx(
    found["climate_class_accuracy"] * land.sum()
  )


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


def test_a_row_a_patch_in_the_order_of_the_split(examined, tmp_path):
  path = tmp_path / "predictions.parquet"
  figures.write_predictions(examined, np.arange(60.0), path)
  table = parquet.read_table(path).to_pydict()
  assert table["record"] == list(range(60))
  assert table["train_km"] == list(range(60))
  np.testing.assert_allclose(table["distance_km"], examined["distance_km"])
  true = sphere.latlon_to_unit(
    np.array(table["lat_true"]), np.array(table["lon_true"])
  )
  said = sphere.latlon_to_unit(
    np.array(table["lat_predicted"]), np.array(table["lon_predicted"])
  )
  np.testing.assert_allclose(
    sphere.great_circle_km(true, said), table["distance_km"], atol=2
  )
  i = 7
  assert table["zone_true"][i] == climate.ZONES[examined["zone_true"][i]]
  probs = table["zone_probabilities"][i]
  np.testing.assert_allclose(probs, examined["climate_probs"][i], rtol=1e-5)
  assert max(probs) == pytest.approx(table["zone_probability"][i], rel=1e-5)
  assert {"lat_mode", "lon_largest", "area_95_km2", "nll_nats"} <= set(table)
