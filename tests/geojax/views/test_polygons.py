"""Polygons of regions: area, membership, holes, the antimeridian, GeoJSON."""

import json

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geojax import sphere
from geojax.views import polygons

NUM_CELLS = 3000


def sphere_area(geometry):
  """Area on the unit sphere: that in longitude and the sine of latitude."""

  def project(lon_lat):
    lon, lat = np.radians(lon_lat).T
    return np.stack([lon, np.sin(lat)], axis=-1)

  return shapely.transform(geometry, project).area


def random_points(count, seed=0):
  x = np.random.default_rng(seed).normal(size=(count, 3))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cap(lat, lon, radius_deg, num_cells=NUM_CELLS):
  """Cells whose middles lie within a distance of a place."""
  cosines = sphere.equal_area_grid(num_cells) @ sphere.latlon_to_unit(lat, lon)
  return cosines > np.cos(np.radians(radius_deg))


REGIONS = {
  "cap": cap(48, 11, 20),
  "cell": np.arange(NUM_CELLS) == 1234,
  "across the antimeridian": cap(-20, 179, 15),
  "about the pole": cap(90, 0, 12),
  "ring": cap(10, 30, 30) & ~cap(10, 30, 15),
  "ring about the pole": cap(-90, 0, 40) & ~cap(-90, 0, 20),
  "two": cap(10, 30, 10) | cap(10, 90, 10),
  "random": np.random.default_rng(1).random(NUM_CELLS) < 0.5,
  "all": np.ones(NUM_CELLS, bool),
}


@pytest.mark.parametrize("name", REGIONS)
def test_area_and_membership_are_those_of_the_cells(name):
  inside = REGIONS[name]
  geometry = polygons.of_cells(inside)
  assert geometry.is_valid
  expected = inside.mean() * 4 * np.pi
  assert sphere_area(geometry) == pytest.approx(expected, rel=1e-6)
  x = random_points(3000)
  lat, lon = sphere.unit_to_latlon(x)
  found = shapely.contains_xy(geometry, lon, lat)
  np.testing.assert_array_equal(
    found, inside[sphere.equal_area_index(x, NUM_CELLS)]
  )


@given(
  num_cells=st.integers(1, 400), share=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_any_cells_give_a_valid_polygon(num_cells, share, seed):
  inside = np.random.default_rng(seed).random(num_cells) < share
  geometry = polygons.of_cells(inside)
  assert geometry.is_valid
  assert geometry.is_empty == (not inside.any())
  expected = inside.mean() * 4 * np.pi
  assert sphere_area(geometry) == pytest.approx(expected, abs=1e-6)


def test_holes_and_the_antimeridian_are_as_geojson_wants_them():
  ring = polygons.of_cells(REGIONS["ring"])
  assert len(ring.interiors) == 1
  assert ring.exterior.is_ccw
  assert not ring.interiors[0].is_ccw
  parts = polygons.of_cells(REGIONS["across the antimeridian"]).geoms
  (west, east) = sorted(parts, key=lambda part: part.bounds[0])
  assert west.bounds[0] == -180
  assert east.bounds[2] == 180
  assert west.bounds[2] < -150
  assert east.bounds[0] > 150


def test_bounds_are_those_of_the_index():
  south, west, north, east = sphere.equal_area_bounds(NUM_CELLS).T
  lat, lon = sphere.unit_to_latlon(sphere.equal_area_grid(NUM_CELLS))
  assert np.all((south < lat) & (lat < north) & (west < lon) & (lon < east))
  areas = np.radians(east - west) * (
    np.sin(np.radians(north)) - np.sin(np.radians(south))
  )
  np.testing.assert_allclose(areas, 4 * np.pi / NUM_CELLS, rtol=1e-9)


def test_geojson_is_read_by_geopandas(tmp_path):
  path = tmp_path / "regions.geojson"
  names = ["ring", "across the antimeridian", "cap"]
  path.write_text(
    polygons.to_geojson(
      [(polygons.of_cells(REGIONS[k]), {"level": k}) for k in names]
    )
  )
  found = geopandas.read_file(path)
  assert found.crs == "EPSG:4326"
  assert found.level.tolist() == names
  for name, geometry in zip(names, found.geometry, strict=True):
    assert geometry.equals(polygons.of_cells(REGIONS[name]))
  types = [
    feature["geometry"]["type"]
    for feature in json.loads(path.read_text())["features"]
  ]
  assert types == ["Polygon", "MultiPolygon", "Polygon"]
