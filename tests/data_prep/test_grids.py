"""Places of pixels and bounds of patches, in degrees and in projections."""

import numpy as np
import pyproj
import pytest

from data_prep import grids


def test_longitudes_wrap_at_180():
  grid = grids.Grid(8, 8, 179.0, 10.0, 0.5, 0.5, 4326)
  _, lon = grid.pixel_to_latlon(0, np.arange(4))
  np.testing.assert_allclose(lon, [179.25, 179.75, -179.75, -179.25])
  _, west, _, east = grid.patch_bounds([0], [2], 2)
  assert (west[0], east[0]) == (180.0, 181.0)


@pytest.mark.parametrize(
  ("epsg", "west", "north"),
  [
    (32633, 399960.0, 5500020.0),
    (32733, 399960.0, 6200020.0),
    (32633, 454000.0, 9217000.0),
    (32601, 239000.0, 7700000.0),
  ],
)
def test_places_and_bounds_in_a_projection(epsg, west, north):
  grid = grids.Grid(900, 900, west, north, 10.0, 10.0, epsg)
  lat, lon = grid.pixel_to_latlon([0, 899], [0, 899])
  project = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform
  x, y = project(lon, lat)
  np.testing.assert_allclose(x, west + 10 * np.array([0.5, 899.5]), atol=1e-3)
  np.testing.assert_allclose(y, north - 10 * np.array([0.5, 899.5]), atol=1e-3)
  south, west_deg, north_deg, east = grid.patch_bounds(
    [100, 400], [0, 700], 128
  )
  for i, (row, col) in enumerate([(100, 0), (400, 700)]):
    lat, lon = grid.pixel_to_latlon(
      row + np.arange(-0.5, 128)[:, None], col + np.arange(-0.5, 128)
    )
    lon = west_deg[i] + (lon - west_deg[i] + 180) % 360 - 180
    # A decimetre in degrees of latitude; of longitude at 83 N.
    np.testing.assert_allclose(
      [south[i], north_deg[i]], [lat.min(), lat.max()], atol=1e-5
    )
    np.testing.assert_allclose(
      [west_deg[i], east[i]], [lon.min(), lon.max()], atol=1e-5
    )


def test_an_unknown_projection_is_named():
  grid = grids.Grid(8, 8, 5e5, 5e6, 10, 10, 29999)
  with pytest.raises(ValueError, match=r"unknown projection EPSG:29999"):
    grid.pixel_to_latlon(0, 0)
