"""Land where it is, great circles, circles, regions by their mass."""

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
import pytest

from geojax import sphere
from geojax.views import map_layers


def _unit(rng, *shape):
  x = rng.normal(size=(*shape, 3))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
  "projection", [ccrs.Robinson(), ccrs.Orthographic(30, -20)]
)
def test_land_lies_where_the_climate_map_has_it(projection):
  rng = np.random.default_rng(0)
  zones = np.zeros((18, 36), int)
  zones[rng.random(zones.shape) < 0.5] = 7
  axes = matplotlib.figure.Figure().add_subplot(projection=projection)
  map_layers.draw_land(axes, zones)
  (image,) = axes.images
  left, right, bottom, top = image.get_extent()
  drawn = image.get_array()
  height, width = drawn.shape
  num_seen = 0
  for row, col in np.ndindex(zones.shape):
    # The middle of a cell of 10 degrees.
    x, y = projection.transform_point(
      col * 10 - 175, 85 - row * 10, ccrs.PlateCarree()
    )
    if not np.isfinite(x):
      continue
    at = (y - bottom) / (top - bottom), (x - left) / (right - left)
    pixel = drawn[int(at[0] * height), int(at[1] * width)]
    # The middle of a pixel on the limb can lie beside the Earth.
    if not np.ma.is_masked(pixel):
      num_seen += 1
      assert pixel == (zones[row, col] > 0)
  assert num_seen > 200
  corner = drawn[0, 0]
  assert np.ma.is_masked(corner) or type(projection) is ccrs.Robinson


def test_great_circles_are_short_and_even():
  rng = np.random.default_rng(1)
  start, end = _unit(rng, 5), _unit(rng, 5)
  paths = map_layers.great_circles(start, end, num_points=11)
  np.testing.assert_allclose(paths[:, 0], start, atol=1e-9)
  np.testing.assert_allclose(paths[:, -1], end, atol=1e-9)
  steps = sphere.great_circle_km(paths[:, :-1], paths[:, 1:])
  whole = sphere.great_circle_km(start, end)
  np.testing.assert_allclose(steps, whole[:, None] / 10 + 0 * steps, rtol=1e-6)
  same = map_layers.great_circles(start, start)
  np.testing.assert_allclose(same, start[:, None] + 0 * same, atol=1e-6)


def test_circles_keep_their_distance():
  rng = np.random.default_rng(2)
  center = np.concatenate([_unit(rng, 4), np.eye(3)])
  radius = np.linspace(10, 9000, 7)
  ring = map_layers.circles(center, radius)
  found = sphere.great_circle_km(ring, center[:, None])
  np.testing.assert_allclose(found, radius[:, None] + 0 * found, rtol=1e-6)


def test_regions_hold_their_masses():
  rng = np.random.default_rng(3)
  probability = rng.dirichlet(np.full(5000, 0.2))
  region = map_layers.region_of_cells(probability)
  largest = probability.max()
  for i, percent in enumerate((50, 80, 95)):
    mass = probability[region <= i].sum()
    assert percent / 100 <= mass <= percent / 100 + largest
  assert probability[region == 0].min() >= probability[region == 1].max()
