"""What the pictures draw: panels, places, shares and errors of the arrays."""

import numpy as np

from geojax import sphere
from geojax.views import plots


def _arrays(count=30):
  rng = np.random.default_rng(0)
  lat, lon = rng.uniform(-60, 80, count), rng.uniform(-180, 180, count)
  zone = rng.integers(0, 31, count)
  day = rng.uniform(1, 365, count)
  return {
    "place_true": sphere.latlon_to_unit(lat, lon),
    "place_predicted": sphere.latlon_to_unit(lat * 0.9, lon),
    "zone_true": zone,
    "zone_predicted": np.where(np.arange(count) < 10, zone, 0),
    "day_true": day,
    "day_predicted": (day + 20) % 365,
    "climate_map": rng.integers(0, 31, (90, 180)),
  }


def test_the_overview_draws_where_which_and_when():
  arrays = _arrays()
  figure = plots.prediction_overview(**arrays)
  world, classes, days = [ax for ax in figure.axes if ax.get_title()]
  # Each place a dot and a line.
  dots = [c for c in world.collections if len(c.get_offsets()) == 30]
  assert len(dots) == 1
  assert len(world.lines) == 30
  assert "30 held-out places" in world.get_title()
  distance = sphere.great_circle_km(
    arrays["place_true"], arrays["place_predicted"]
  )
  assert f"{np.median(distance):.0f} km" in world.get_title()
  shares = classes.images[0].get_array()
  assert np.all(np.isclose(shares.sum(axis=1), 1) | (shares.sum(axis=1) == 0))
  assert "mean error 20 days" in days.get_title()
  assert "days" in days.get_ylabel()


def test_a_place_seen_at_many_dates_is_drawn_once():
  arrays = _arrays()
  repeated = {
    name: values if name == "climate_map" else np.concatenate([values] * 3)
    for name, values in arrays.items()
  }
  world = plots.prediction_overview(**repeated).axes[0]
  assert len(world.lines) == 30


def test_no_more_places_than_asked_for():
  world = plots.prediction_overview(**_arrays(), max_lines=10).axes[0]
  assert len(world.lines) == 10
