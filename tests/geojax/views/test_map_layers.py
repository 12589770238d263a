"""Land, great circles and credible regions on maps and globes."""

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
import pytest

from geojax import sphere
from geojax.views import map_layers, scales

_PLAIN = ccrs.PlateCarree()


@pytest.mark.parametrize(
  "projection", [ccrs.Robinson(), ccrs.Orthographic(30, -20)]
)
def test_land_lies_where_the_climate_map_has_it(projection):
  rng = np.random.default_rng(0)
  zones = np.zeros((18, 36), int)
  zones[rng.random(zones.shape) < 0.5] = 7
  axes = matplotlib.figure.Figure().add_subplot(projection=projection)
  axes.set_global()
  map_layers.draw_world(axes, zones)
  (image,) = axes.images
  left, right, bottom, top = image.get_extent()
  drawn = image.get_array()
  height, width = drawn.shape
  num_seen = 0
  for row, col in np.ndindex(zones.shape):
    # The middle of a cell of 10 degrees.
    x, y = projection.transform_point(col * 10 - 175, 85 - row * 10, _PLAIN)
    if not np.isfinite(x):
      continue
    at = (y - bottom) / (top - bottom), (x - left) / (right - left)
    pixel = drawn[int(at[0] * height), int(at[1] * width)]
    # The middle of a pixel on the limb can lie outside of the Earth.
    if not np.ma.is_masked(pixel):
      num_seen += 1
      assert pixel == (zones[row, col] > 0)
  assert num_seen > 200
  corner = drawn[0, 0]
  assert np.ma.is_masked(corner) or type(projection) is ccrs.Robinson


def test_great_circles_join_places_the_short_way():
  start = sphere.latlon_to_unit(np.array([50.0, 0.0]), np.array([0.0, 170.0]))
  end = sphere.latlon_to_unit(np.array([50.0, 0.0]), np.array([90.0, -170.0]))
  axes = map_layers.add_error_map(
    matplotlib.figure.Figure(),
    111,
    np.ones((18, 36), int),
    start,
    end,
    lines=[1, 0],
  )
  dots, lines = axes.collections
  # In the colours of the dots, the largest error last.
  np.testing.assert_allclose(
    lines.get_colors()[:, :3], dots.to_rgba(dots.get_array())[:, :3]
  )
  to_map = lines.get_transform() - axes.transData
  over_date_line, over_north = (
    to_map.transform_path_non_affine(path) for path in lines.get_paths()
  )
  x, y = over_north.vertices.T
  _, top = axes.projection.transform_point(
    45, np.rad2deg(np.arctan(np.tan(np.deg2rad(50)) * np.sqrt(2))), _PLAIN
  )
  assert y.max() == pytest.approx(top, rel=1e-3)
  # Cut where it leaves the map: both ends are at the map's edges.
  x = np.abs(over_date_line.vertices[:, 0])
  assert x.min() > 170 / 180 * axes.projection.x_limits[1] * 0.999


def test_a_region_contains_the_cells_below_its_level():
  levels = [0, 0.49, 0.5, 0.79, 0.8, 0.95, 1]
  np.testing.assert_array_equal(scales.region_of(levels), [0, 0, 1, 1, 2, 3, 3])


def test_regions_are_drawn_by_their_level():
  cells = sphere.equal_area_grid(5000)
  place = cells[2000]
  angle = np.arccos(np.clip(cells @ place, -1, 1))
  levels = np.clip(angle, 0, 1)  # the level of a place is its angle
  figure = matplotlib.figure.Figure()
  axes, handles = map_layers.add_globe(
    figure,
    111,
    np.ones((18, 36), int),
    cell_levels=levels,
    place=place,
    place_true=place,
  )
  region = axes.images[1].get_array()
  assert region.shape[0] == region.shape[1]
  side = (np.arange(len(region)) + 0.5) / len(region) * 2 - 1
  away = np.arcsin(np.minimum(np.hypot(*np.meshgrid(side, side)), 1))
  for i, (inner, outer) in enumerate(((0, 0.5), (0.5, 0.8), (0.8, 0.95))):
    # A cell is 0.05 wide.
    ring = (away > inner + 0.04) & (away < outer - 0.04)
    assert ring.any()
    assert (region[ring] == i).all()
    assert not region.mask[ring].any()
  assert region.mask[away > 1].all()
  assert [h.get_label() for h in handles] == [
    "50 %",
    "80 %",
    "95 %",
    "predicted place",
    "true place",
  ]


def test_views_are_zoomed_in_on_small_regions_alone():
  place = sphere.latlon_to_unit(10.0, 20.0)
  near, far = (sphere.latlon_to_unit(lat, 20.0) for lat in (15.0, -80.0))
  levels = np.ones(5000)
  levels[sphere.equal_area_index(place, 5000)] = 0

  def view(cell_levels, place_true):
    center, radius = map_layers._view(cell_levels, place, place_true)
    return sphere.unit_to_latlon(center)[0], radius

  lat, radius = view(levels, near)
  assert lat == pytest.approx(12.5, abs=1)
  assert radius == map_layers._MIN_VIEW_RAD
  assert view(levels, far)[1] == np.pi / 2
  # Antipodes have no middle.
  assert view(levels, -place)[0] == pytest.approx(10, abs=2)
  assert view(None, None)[1] == np.pi / 2
