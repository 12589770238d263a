import datetime

import numpy as np
import pytest

from data_prep import climate_maps, grids, labels
from geojax import climate, encodings


@pytest.fixture(scope="module")
def small_map():
  """Ten degrees a pixel, no two neighbours alike."""
  rows, cols = np.mgrid[:18, :36]
  return climate_maps.ClimateMap(((7 * rows + cols) % 31).astype(np.uint8))


def test_a_place_has_the_zone_of_the_pixel_it_lies_in(small_map):
  zones = small_map.zones
  lat = np.array([85.0, 89.9, 80.1, 79.9, 0.1, -0.1, -89.9])
  lon = np.array([-175.0, -170.1, -169.9, 0.1, -0.1, 179.9, -179.9])
  rows = [0, 0, 0, 1, 8, 9, 17]
  cols = [0, 0, 1, 18, 17, 35, 0]
  np.testing.assert_array_equal(small_map.lookup(lat, lon), zones[rows, cols])


def test_poles_and_antimeridian_are_on_the_map(small_map):
  zones = small_map.zones
  assert small_map.lookup(90.0, 5.0) == zones[0, 18]
  assert small_map.lookup(-90.0, 5.0) == zones[17, 18]
  assert small_map.lookup(5.0, 180.0) == zones[8, 0]
  assert small_map.lookup(5.0, 185.0) == small_map.lookup(5.0, -175.0)
  assert small_map.lookup(5.0, 539.0) == small_map.lookup(5.0, 179.0)


@pytest.mark.parametrize(
  "grid",
  [
    grids.Grid(40, 50, -31.0, 44.0, 1.0, 1.0, 4326),
    # Across the antimeridian, down to the south pole, unlike pixels.
    grids.Grid(40, 50, 160.0, -62.0, 0.9, 0.7, 4326),
  ],
)
# Few patches are counted one by one, many that overlap together.
@pytest.mark.parametrize("count", [60, 6])
def test_fractions_equal_a_brute_force_count(small_map, grid, count):
  rng = np.random.default_rng(0)
  size = 12
  rows = rng.integers(0, grid.height - size + 1, count)
  cols = rng.integers(0, grid.width - size + 1, count)
  fractions = labels.climate_fractions(grid, small_map, rows, cols, size)
  assert fractions.dtype == np.float32
  np.testing.assert_allclose(fractions.sum(-1), 1, atol=1e-6)
  for row, col, found in zip(rows, cols, fractions, strict=True):
    expected = np.zeros(31)
    for y in range(row, row + size):
      for x in range(col, col + size):
        lat, lon = grid.pixel_to_latlon(y, x)
        expected[small_map.lookup(lat, lon)] += 1
    np.testing.assert_allclose(found, expected / size**2, atol=1e-6)


@pytest.mark.parametrize(
  ("epsg", "west", "north"),
  [
    (32633, 399960.0, 5500020.0),
    # South; 83 N, where meridians meet fast; across the antimeridian.
    (32733, 399960.0, 6200020.0),
    (32633, 454000.0, 9217000.0),
    (32601, 382000.0, 7700000.0),
  ],
)
def test_fractions_in_a_projection_equal_a_brute_force_count(epsg, west, north):
  # 3 km a pixel: some patches lie in one zone, some in several.
  rng = np.random.default_rng(0)
  zones = rng.integers(0, 31, (6480, 12960)).astype(np.uint8)
  climate_map = climate_maps.ClimateMap(zones)
  grid = grids.Grid(512, 768, west, north, 10.0, 10.0, epsg)
  rows, cols = (x.ravel() for x in np.mgrid[0:512:128, 0:768:128])
  fractions = labels.climate_fractions(grid, climate_map, rows, cols, 128)
  lat, lon = grid.pixel_to_latlon(np.arange(512)[:, None], np.arange(768))
  if epsg == 32601:
    assert lon.min() < -179
    assert lon.max() > 179
  exact = climate_map.lookup(lat, lon)
  for row, col, found in zip(rows, cols, fractions, strict=True):
    window = exact[row : row + 128, col : col + 128]
    expected = np.bincount(window.ravel(), minlength=31) / 128**2
    # A pixel that a border cuts in halves may fall to either side.
    np.testing.assert_allclose(found, expected, atol=3 / 128**2)
  assert (fractions.max(-1) < 1).any()
  if north < 7e6:
    # Farther north a patch spans several of the map's pixels.
    assert (fractions.max(-1) == 1).any()


def test_no_patch_has_no_fractions(small_map):
  grid = grids.Grid(8, 8, 0.0, 0.0, 1.0, 1.0, 4326)
  none = np.zeros(0, int)
  found = labels.climate_fractions(grid, small_map, none, none, 4)
  assert found.shape == (0, 31)


def test_a_label_holds_climate_place_and_date():
  fractions = np.eye(31, dtype=np.float32)[[0, 12, 30]]
  lat, lon = np.array([-88.0, 0.0, 61.5]), np.array([-180.0, 10.0, 179.9])
  day = labels.day_of_year(datetime.datetime(2004, 12, 15, 12))
  found = labels.geo_labels(fractions, lat, lon, day)
  assert {name: (v.shape, v.dtype) for name, v in found.items()} == {
    name: ((3, width), np.float32)
    for name, width in (("climate", 31), ("coords", 3), ("date", 2))
  }
  # 2004 is a leap year: 15 December is its day 350.
  label = encodings.encode_label(fractions, lat, lon, np.full(3, 350))
  for name, values in encodings.split_label(np.float32(label)).items():
    np.testing.assert_array_equal(found[name], values)
  found_lat, found_lon = encodings.decode_coordinates(found["coords"])
  np.testing.assert_allclose(found_lat, lat, atol=1e-4)
  np.testing.assert_allclose((found_lon - lon + 180) % 360, 180, atol=1e-4)
  day = encodings.decode_day_of_year(found["date"])
  np.testing.assert_allclose(day, 350, atol=1e-3)


@pytest.mark.parametrize(
  ("lat", "lon", "zone"),
  [
    (-3.1, -65.0, "Af"),  # the Amazon
    (12.0, 18.0, "BSh"),  # the Sahel
    (23.0, 10.0, "BWh"),  # the Sahara
    (48.5, 2.0, "Cfb"),  # Paris basin
    (37.4, -6.0, "Csa"),  # Seville
    (62.5, 134.0, "Dfd"),  # Yakutia
    (72.0, -40.0, "EF"),  # Greenland's ice
    (-80.0, 60.0, "EF"),  # Antarctica's
    (30.0, -40.0, "sea"),  # the Atlantic
    (-12.0, 45.0, "sea"),  # north of Madagascar
  ],
)
def test_the_map_knows_the_climates_of_the_earth(lat, lon, zone):
  found = climate_maps.load().lookup(lat, lon)
  assert climate.ZONES[found] == zone


def test_the_map_has_every_zone_but_no_other():
  zones = climate_maps.load().zones
  assert zones.shape == (6480, 12960)
  assert np.unique(zones[::6, ::6]).tolist() == list(range(31))
  assert zones.max() == 30
  # Two thirds of the Earth are sea, by area.
  weight = np.cos(np.deg2rad(90 - (np.arange(6480) + 0.5) / 36))
  sea = ((zones == 0).mean(1) * weight).sum() / weight.sum()
  assert 0.68 < sea < 0.74


def test_what_is_unknown_is_nan():
  unknown = np.full(1, np.nan)
  found = labels.geo_labels(
    np.full((1, 31), np.nan), unknown, unknown, labels.day_of_year(None)
  )
  assert all(np.isnan(values).all() for values in found.values())
