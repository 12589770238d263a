import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score

from geojax.evaluation import distance, intervals, metrics, reductions

COUNTS = {"where": ("counts", "is_land")}


def test_the_reductions_of_a_table():
  rng = np.random.default_rng(0)
  true, predicted = rng.integers(0, 5, (2, 60))
  table = {
    "x": rng.normal(size=(60, 2)).astype(np.float32),
    "true": true,
    "predicted": predicted,
    "confidence": np.where(rng.random(60) < 0.3, 0.95, 0.05),
    "counts": rng.random(60) < 0.7,
    "is_land": rng.random(60) < 0.7,
  }
  mask = rng.random(60) < 0.7
  rows = table["counts"] & table["is_land"] & mask
  table["x"][~rows] = np.nan
  pairs = lambda *columns: np.stack(columns, axis=-1)  # noqa: E731
  first = {"columns": ("x",), "value": lambda x: x[:, 0]}
  listed = [
    metrics.Metric(name="mean", words="", **first, **COUNTS),
    metrics.Metric(
      name="median", words="", reduction=reductions.Median(), **first, **COUNTS
    ),
    metrics.Metric(
      name="count", words="", reduction=reductions.Count(), **first, **COUNTS
    ),
    metrics.Metric(
      name="f1",
      words="",
      columns=("true", "predicted"),
      value=pairs,
      reduction=reductions.MacroF1(9),
      **COUNTS,
    ),
    metrics.Metric(
      name="ece",
      words="",
      columns=("confidence", "true", "predicted"),
      value=lambda c, t, p: pairs(c, t == p),
      reduction=reductions.CalibrationError(),
      **COUNTS,
    ),
    metrics.Metric(name="absent", words="", columns=("y",), **COUNTS),
    metrics.Metric(name="nowhere", words="", columns=("x",), where=("y",)),
  ]
  x, hit = np.float64(table["x"][rows, 0]), (true == predicted)[rows]
  sure = table["confidence"][rows] > 0.5
  gaps = [
    np.abs(np.sum(hit[sure] - 0.95)),
    np.abs(np.sum(hit[~sure] - 0.05)),
  ]
  found = metrics.summarize(table, listed, mask)
  assert found == pytest.approx(
    {
      "mean": x.mean(),
      "median": np.median(x),
      "count": rows.sum(),
      "f1": f1_score(true[rows], predicted[rows], average="macro"),
      "ece": sum(gaps) / rows.sum(),
    }
  )
  assert all(type(value) is float for value in found.values())
  table["counts"] = table["counts"] & mask
  assert metrics.summarize(table, listed) == found

  nothing = metrics.summarize(table, listed, np.zeros(60, bool))
  assert nothing.pop("count") == 0
  assert np.isnan(list(nothing.values())).all()
  draws = intervals.draw(np.full((60, 3), np.nan))
  within = metrics.with_intervals(table, listed, draws)
  # An error of calibration and a count have none.
  assert list(within) == ["mean", "median", "f1"]
  for name, (low, high) in within.items():
    assert low < found[name] < high


@pytest.mark.parametrize(
  ("true", "predicted"),
  [([0, 0, 2, 2, 2], [0, 0, 2, 2, 2]), ([0, 0], [0, 1]), ([3, 3, 1], [1] * 3)],
)
def test_macro_f1_is_over_the_classes_that_occur(true, predicted):
  pairs = np.stack([true, predicted], axis=-1)
  expected = f1_score(true, predicted, average="macro")
  assert reductions.MacroF1(4)(pairs) == pytest.approx(expected)


def test_a_metric_has_a_direction_and_a_title():
  up = metrics.Metric(
    name="a",
    words="height",
    unit="m",
    columns=(),
    higher_is_better=True,
    where=(),
  )
  down = metrics.Metric(name="b", words="score", columns=(), where=())
  assert (up.title, down.title) == ("height, m", "score")
  for metric, better in ((up, 2.0), (down, 0.0)):
    assert metric.is_better(better, 1.0)
    assert not metric.is_better(1.0, better)
    assert not metric.is_better(1.0, 1.0)
    assert metric.is_better(1.0, None)
    assert not metric.is_better(math.nan, 1.0)
    assert not metric.is_better(math.nan, None)


@pytest.mark.parametrize("xp", [np, jnp])
def test_geoscore(xp):
  found = distance.geoscore(xp.asarray([0.0, 1492.7]))
  np.testing.assert_allclose(found, [5000, 5000 / math.e], rtol=1e-6)
