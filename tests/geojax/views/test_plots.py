"""Panels, places, shares and errors of the overviews."""

import numpy as np

from geojax import sphere
from geojax.views import plots


def _arrays(count=30):
  rng = np.random.default_rng(0)
  lat, lon = rng.uniform(-60, 80, count), rng.uniform(-180, 180, count)
  day = rng.uniform(1, 365, count)
  return {
    "place_true": sphere.latlon_to_unit(lat, lon),
    "place_predicted": sphere.latlon_to_unit(lat * 0.9, lon),
    "zones": np.diag(np.full(31, 3)) + np.ones((31, 31), int),
    "classes": np.diag([10, 9, 8, 7, 6, 0]) + np.tri(6, dtype=int),
    "day_true": day,
    "day_predicted": (day + 20) % 365,
    "climate_map": rng.integers(0, 31, (90, 180)),
  }


def _num_lines(world):
  (lines,) = [c for c in world.collections if hasattr(c, "get_segments")]
  return len(lines.get_paths())


def test_the_overview_draws_where_which_and_when():
  arrays = _arrays()
  figure = plots.prediction_overview(**arrays)
  world, classes, days = [ax for ax in figure.axes if ax.get_title()]
  # Each place a dot and a line.
  dots = [c for c in world.collections if len(c.get_offsets()) == 30]
  assert len(dots) == 1
  assert _num_lines(world) == 30
  assert "30 places" in world.get_title()
  distance = sphere.great_circle_km(
    arrays["place_true"], arrays["place_predicted"]
  )
  assert f"{np.median(distance):,.0f} km" in world.get_title()
  # As counted: 46 of 61 classes, and 4 of each zone's 34.
  shares = classes.images[0].get_array()
  np.testing.assert_allclose(shares[1], [1 / 11, 10 / 11, 0, 0, 0, 0])
  assert (
    "75 % of the 6 classes and 12 % of the 31 zones correct"
    in classes.get_title()
  )
  assert classes.get_yticklabels()[1].get_text() == "tropical (11)"
  assert "mean error 20 days" in days.get_title()
  assert "days" in days.get_ylabel()


def test_a_place_seen_at_many_dates_is_drawn_once():
  arrays = _arrays()
  repeated = {
    name: np.concatenate([values] * 3) if len(values) == 30 else values
    for name, values in arrays.items()
  }
  world = plots.prediction_overview(**repeated).axes[0]
  assert _num_lines(world) == 30


def test_no_more_places_than_asked_for():
  world = plots.prediction_overview(**_arrays(), max_lines=10).axes[0]
  assert _num_lines(world) == 10


def test_centers_are_compared_by_size_layout_and_training():
  curves = {
    1000: {("land", "frozen"): [(64, -1.0, 900.0)]},
    100: {
      ("land", "frozen"): [(512, -2.0, 700.0), (64, -1.5, 800.0)],
      ("kmeans", "frozen"): [(64, 1.0, 1000.0)],
      ("land", "learned"): [(64, np.nan, 1500.0)],
    },
  }
  figure = plots.centers_comparison(curves, {100: 2000.0})
  few, many, few_km, many_km = figure.axes
  assert few.get_title() == "100 train patches"
  assert many.get_title() == "1,000 train patches"
  # In the order of their number of centers.
  land = few.lines[0]
  np.testing.assert_array_equal(land.get_xydata(), [[64, -1.5], [512, -2.0]])
  np.testing.assert_array_equal(few_km.lines[0].get_ydata(), [800, 700])
  # One colour a layout and one style a training, in every panel.
  assert land.get_color() == many_km.lines[0].get_color()
  assert land.get_color() != few.lines[1].get_color()
  assert land.get_linestyle() == few.lines[1].get_linestyle()
  assert land.get_linestyle() != few.lines[2].get_linestyle()
  # The regression, where there is one.
  assert few_km.lines[-1].get_ydata()[0] == 2000
  assert len(many_km.lines) == 1
  (legend,) = figure.legends
  labels = [text.get_text() for text in legend.get_texts()]
  assert len(plots.centers_comparison({}, {100: 2000.0}).axes) == 2
  assert labels == ["land", "kmeans", "frozen", "learned", "regression"]


def test_the_curves_are_those_of_the_log():
  lines = [
    {"step": 2, "split": "train", "loss": 3.0, "coords": 1.0},
    {"step": 4, "split": "train", "loss": 2.0, "coords": 0.5},
    {"step": 4, "split": "validation", "median_km": 900.0, "nll_nats": -1.0},
  ]
  panels = [
    ("train", ("loss", "coords", "date"), "loss, train"),
    ("validation", ("median_km",), "coords, km"),
    ("validation", ("climate_accuracy",), "climate"),
  ]
  figure = plots.training_curves(lines, panels)
  losses, distance, climate = figure.axes
  drawn = {line.get_label(): line.get_xydata() for line in losses.lines}
  np.testing.assert_array_equal(drawn["loss"], [[2, 3.0], [4, 2.0]])
  assert set(drawn) == {"loss", "coords"}
  np.testing.assert_array_equal(distance.lines[0].get_xydata(), [[4, 900.0]])
  assert not climate.lines
  assert distance.get_title() == "coords, km"
