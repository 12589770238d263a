"""Panels, places and days of the picture of a tile."""

import datetime

import numpy as np
import pytest

from geojax import cell_regions, sphere
from geojax.views import tile_plots

CELLS = 3000


def arrays(**changes):
  rng = np.random.default_rng(0)
  place = sphere.latlon_to_unit(10.0, 20.0)
  probabilities = np.exp(8 * sphere.equal_area_grid(CELLS) @ place)
  probabilities /= probabilities.sum()
  shares = np.zeros(31)
  shares[[3, 8]] = 0.75, 0.25
  return {
    "title": "a tile",
    "picture": rng.integers(0, 256, (40, 60, 3)).astype(np.uint8),
    "place": place,
    "place_true": sphere.latlon_to_unit(10.0, 23.0),
    "cell_levels": cell_regions.cell_levels(probabilities),
    "patch_days": np.array([360.0, 5.0, 20.0]),
    "day": 8.0,
    "day_spread": 12.0,
    "date_true": datetime.datetime(2021, 12, 28),
    "zones_mapped": rng.integers(0, 31, (20, 30)),
    "zones_predicted": np.array([[3, 8, -1], [3, 3, 3]]),
    "zones_margin": (0.1, 0.2),
    "shares_mapped": shares,
    "shares_predicted": shares[::-1],
    "climate_map": rng.integers(0, 31, (90, 180)),
    **changes,
  }


def panels(figure):
  return {axes.get_title().split(":")[0]: axes for axes in figure.axes}


def words(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_six_panels_show_the_tile_and_its_predictions():
  given = arrays()
  drawn = panels(tile_plots.tile_prediction(**given))
  assert len(drawn) == 6
  # 3 degrees of longitude at 10 north.
  assert "error 329 km" in drawn["Place"].get_title()
  assert words(drawn["Place"])[3:] == ["predicted place", "true place"]
  assert "overlap 0 %" in drawn["Climate zones"].get_title()
  zones = drawn["Climate zones, predicted"].images[0]
  assert tuple(zones.get_array()[0, 2]) == (1, 1, 1)
  # The margin of patches that overlap stays free on each side.
  np.testing.assert_allclose(zones.get_extent(), (0.2, 0.8, 0.9, 0.1))
  assert "no clear patch" in drawn["Climate zones, predicted"].get_xlabel()


def test_days_are_drawn_across_new_year():
  axes = panels(tile_plots.tile_prediction(**arrays()))["Day"]
  assert "error 11 days" in axes.get_title()
  heights = [bar.get_height() for bar in axes.patches if bar.get_width() < 10]
  assert sum(heights) == 3
  assert "tile: 8 Jan" in words(axes)
  assert "true: 28 Dec" in words(axes)
  middle = sum(axes.get_xlim()) / 2
  np.testing.assert_allclose(middle, 8)


@pytest.mark.parametrize(
  ("day", "name"),
  [(1.0, "1 Jan"), (31.9, "31 Jan"), (32.0, "1 Feb"), (365.9, "31 Dec")],
)
def test_days_have_their_names(day, name):
  axes = panels(tile_plots.tile_prediction(**arrays(day=day)))["Day"]
  assert f"tile: {name}" in words(axes)


def test_the_legend_names_a_place_on_the_far_side():
  given = arrays(place_true=sphere.latlon_to_unit(-10.0, -160.0))
  axes = panels(tile_plots.tile_prediction(**given))["Place"]
  assert words(axes)[-1] == "true place (far side)"


def test_what_is_not_known_is_not_drawn(tmp_path):
  given = arrays(place_true=None, cell_levels=None, date_true=None)
  figure = tile_plots.tile_prediction(**given)
  drawn = panels(figure)
  assert "error" not in drawn["Place"].get_title()
  assert words(drawn["Place"]) == ["predicted place"]
  figure.savefig(tmp_path / "tile.png")


def test_a_narrow_region_is_enlarged():
  narrow = np.zeros(CELLS)
  narrow[np.argmax(sphere.equal_area_grid(CELLS) @ arrays()["place"])] = 1
  near = arrays(cell_levels=cell_regions.cell_levels(narrow))
  widths = [
    np.ptp(panels(tile_plots.tile_prediction(**x))["Place"].get_xlim())
    for x in (near, arrays())
  ]
  assert widths[0] < widths[1] / 4
