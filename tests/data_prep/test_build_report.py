"""The picture of a build: a map, and a panel for what else is known."""

import io

import numpy as np
import pytest

from data_prep import report, targets

RNG = np.random.default_rng(0)
CROP = targets.Target("crop", "class", ("corn", "rice"))
HEIGHT = targets.Target("height", "number")
BUILDINGS = {
  "name": "buildings",
  "kind": "value_map",
  "unknown": 0.25,
  "counts": {"train": 9, "test": 9},
  "mean": {"train": 0.5, "test": 0.25},
}


def columns(spread, day=True):
  return {
    split: {
      "lat": RNG.uniform(-spread, spread, n),
      "lon": 2 * RNG.uniform(-spread, spread, n),
      "day": RNG.uniform(1, 366, n) if day else np.full(n, np.nan),
      "crop": RNG.integers(-1, 2, n),
      "height": RNG.normal(size=n),
    }
    for split, n in (("train", 50), ("test", 20))
  }


def described(target, found):
  return target.describe({k: v[target.name] for k, v in found.items()})


@pytest.mark.parametrize(("spread", "day"), [(80, True), (5, False)])
def test_there_is_a_panel_for_all_that_is_known(spread, day):
  found = columns(spread, day)
  listed = [described(CROP, found), described(HEIGHT, found), BUILDINGS]
  figure = report.draw_places(found, listed)
  figure.savefig(io.BytesIO())
  titles = [axes.get_title() for axes in figure.axes]
  assert len(titles) == 1 + day + 3
  assert titles[-3].startswith("crop, ")
  assert titles[-2:] == ["height, 0.0% unknown", "buildings, 25.0% unknown"]
  names = [text.get_text() for text in figure.axes[-3].get_yticklabels()]
  assert names == ["corn", "rice"]
  # Bars are shares of the split.
  widths = [bar.get_width() for bar in figure.axes[-3].patches]
  np.testing.assert_allclose([sum(widths[:2]), sum(widths[2:])], 100)
  extent = figure.axes[0].get_extent()
  assert (extent[1] - extent[0] < 50) == (spread == 5)


def test_places_may_be_unknown():
  found = columns(5)
  found["train"]["lat"][:10] = found["train"]["lon"][:10] = np.nan
  figure = report.draw_places(found)
  assert figure.axes[0].get_title() == "the place of 10 records is unknown"
  for part in found.values():
    part["lat"][:] = part["lon"][:] = np.nan
  report.draw_places(found).savefig(io.BytesIO())
