"""The benchmark of measures of being outside: its parts, on what is known."""

import csv

import numpy as np
import pytest
import small_runs
from scipy.spatial import distance
from sklearn import metrics

from experiments.benchmarks import outside
from geojax.training import loop


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_the_area_is_that_of_scikit_learn(rng):
  # Rounded, so that some tie.
  inside, east = rng.normal(size=50).round(1), rng.normal(1, size=30).round(1)
  expected = metrics.roc_auc_score(
    np.repeat([0, 1], [50, 30]), np.concatenate([inside, east])
  )
  assert outside.auroc(inside, east) == pytest.approx(expected)


def test_distances_are_those_of_scipy(rng):
  train, x = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)), np.eye(4)
  inverse = np.linalg.inv(np.cov(train, rowvar=False))
  expected = [
    distance.mahalanobis(row, train.mean(axis=0), inverse) ** 2 for row in x
  ]
  np.testing.assert_allclose(outside.mahalanobis(x, train), expected)
  cosines = np.sort(distance.cdist(x, train, "cosine"))
  np.testing.assert_allclose(outside.nearest(x, train), cosines[:, 9])


def test_blocks_of_the_west_and_all_of_the_east_are_listed(tmp_path, rng):
  lat, lon = rng.uniform(40, 50, 4000), rng.uniform(0, 20, 4000)
  with (tmp_path / "places.csv").open("w") as file:
    writer = csv.writer(file)
    writer.writerow(["file", "lat", "lon"])
    writer.writerows(zip(range(4000), lat, lon, strict=True))
  east = outside.write_table(tmp_path, tmp_path / "used.csv")
  assert east == pytest.approx(np.quantile(lon, 0.8))
  with (tmp_path / "used.csv").open() as file:
    rows = list(csv.DictReader(file))
  split = np.array([row["split"] for row in rows])
  lon = np.array([float(row["lon"]) for row in rows])
  assert (split[lon >= east] == "test").all()
  assert (lon >= east).sum() == 800
  # The fifth between west and east is left out.
  assert lon[lon < east].max() < 12.5
  places = np.array([[float(row["lat"]), float(row["lon"])] for row in rows])
  is_train = split == "train"
  others = (split != "train") & (lon < east)
  between = distance.cdist(places[is_train], places[others], "chebyshev")
  assert between.min() >= 0.1


def test_a_run_is_measured(smoke, tmp_path):
  config = small_runs.small_config(smoke)
  config.mixture.background = 0.001
  config.num_steps = config.eval_every = config.checkpoint_every = 2
  loop.train(config, tmp_path, progress=False)
  measures, figures = outside.describe(tmp_path, 0.0).split("\n\n")
  names = [line.split(" | ")[0] for line in measures.split("\n")[2:]]
  assert len(names) == 6
  assert "| entropy of the weights" in names
  west, east = figures.split("\n")[2:]
  assert west.startswith("| west | ")
  assert east.startswith("| east | ")
