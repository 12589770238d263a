"""Maps at the pixels of patches, against rasterio, SciPy and plain loops."""

import dataclasses

import numpy as np
import pyproj
import pytest
import rasterio
from geotiff_samples import write_band
from hypothesis import given, settings
from hypothesis import strategies as st
from map_samples import (
  COLS,
  IMAGE,
  ROWS,
  SIZE,
  around,
  class_map,
  first_patch,
  transform_of,
  value_map,
)
from rasterio import warp

from data_prep import climate_maps, grids, maps

# Of rasterio's own use of affine.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")

RNG = np.random.default_rng(0)


def warped(pixels, grid, resampling):
  """GDAL's warp of a map to the image's grid."""
  found = np.full((IMAGE.height, IMAGE.width), np.nan)
  warp.reproject(
    pixels.astype(float),
    found,
    src_transform=transform_of(grid),
    src_crs=f"EPSG:{grid.epsg}",
    dst_transform=transform_of(IMAGE),
    dst_crs=f"EPSG:{IMAGE.epsg}",
    src_nodata=np.nan,
    dst_nodata=np.nan,
    resampling=resampling,
    tolerance=0,
  )
  return found


def patches_of(whole):
  return np.stack(
    [whole[r : r + SIZE, c : c + SIZE] for r, c in zip(ROWS, COLS, strict=True)]
  )


@pytest.mark.parametrize(
  ("epsg", "pixel"),
  [(4326, 2e-4), (4326, 3e-5), (3035, 25.0), (32632, 10.0), (32633, 10.0)],
)
def test_classes_are_those_of_the_pixel_each_center_lies_in(
  tmp_path, epsg, pixel
):
  grid = around(IMAGE, epsg, pixel)
  codes = RNG.integers(0, 9, (grid.height, grid.width), np.uint8)
  path = write_band(tmp_path / "map.tif", codes, grid)
  found = class_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  assert found.dtype == np.uint8
  to_map = pyproj.Transformer.from_crs(IMAGE.epsg, epsg, always_xy=True)
  row, col = np.mgrid[:64, :64] + 0.5
  x, y = to_map.transform(IMAGE.west + 10 * col, IMAGE.north - 10 * row)
  row, col = (
    np.floor(v / pixel).astype(int) for v in (grid.north - y, x - grid.west)
  )
  np.testing.assert_array_equal(found, patches_of(codes[row, col]))
  # GDAL's places are less exact.
  by_gdal = patches_of(warped(codes, grid, warp.Resampling.nearest))
  assert np.mean(found != by_gdal) < 5e-3


@pytest.mark.parametrize(
  ("epsg", "pixel"), [(4326, 1e-3), (3035, 40.0), (32633, 20.0)]
)
def test_values_of_a_coarse_map_are_bilinear(tmp_path, epsg, pixel):
  grid = around(IMAGE, epsg, pixel)
  values = RNG.normal(size=(grid.height, grid.width)).astype(np.float32)
  path = write_band(tmp_path / "map.tif", values, grid)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  assert found.dtype == np.float16
  expected = patches_of(warped(values, grid, warp.Resampling.bilinear))
  np.testing.assert_allclose(found, expected, atol=4e-3)


@pytest.mark.parametrize("factor", [2, 5])
def test_values_of_a_fine_map_are_area_means(tmp_path, factor):
  """On pixels that nest, exactly; otherwise cut pixels count by their part."""
  fine = dataclasses.replace(
    IMAGE,
    height=64 * factor,
    width=64 * factor,
    pixel_width=10 / factor,
    pixel_height=10 / factor,
  )
  values = RNG.normal(size=(fine.height, fine.width)).astype(np.float32)
  path = write_band(tmp_path / "map.tif", values, fine)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  means = values.astype(float).reshape(64, factor, 64, factor).mean((1, 3))
  np.testing.assert_allclose(found, patches_of(means), atol=1e-3)


def test_cut_pixels_count_by_their_part(tmp_path):
  """Pixels of 4 m under those of 10 m: of each second one a half counts."""
  fine = dataclasses.replace(
    IMAGE, height=160, width=160, pixel_width=4.0, pixel_height=4.0
  )
  values = RNG.normal(size=(160, 160)).astype(np.float32)
  path = write_band(tmp_path / "map.tif", values, fine)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  # In steps of 2 m both grids have whole pixels.
  steps = np.kron(values.astype(float), np.ones((2, 2)))
  means = steps.reshape(64, 5, 64, 5).mean((1, 3))
  np.testing.assert_allclose(found, patches_of(means), atol=1e-3)


def test_area_means_in_another_projection_are_near_gdals(tmp_path):
  grid = around(IMAGE, 4326, 2e-5)
  smooth = np.add.outer(
    np.sin(np.arange(grid.height) / 40), np.cos(np.arange(grid.width) / 50)
  ).astype(np.float32)
  path = write_band(tmp_path / "map.tif", smooth, grid)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  expected = patches_of(warped(smooth, grid, warp.Resampling.average))
  np.testing.assert_allclose(found, expected, atol=5e-3)


def test_no_data_is_unknown_and_is_not_mixed(tmp_path):
  coarse = around(IMAGE, 32633, 40.0)
  values = np.full((coarse.height, coarse.width), 7, np.int16)
  values[8:10, 8:10] = -9999
  path = write_band(tmp_path / "map.tif", values, coarse, no_data=-9999)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  assert set(np.unique(found[~np.isnan(found)])) == {7.0}
  assert 0 < np.isnan(found).mean() < 0.1
  codes = np.where(values < 0, 77, 3).astype(np.uint8)
  path = write_band(tmp_path / "codes.tif", codes, coarse, no_data=77)
  classes = class_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  np.testing.assert_array_equal(classes == maps.UNKNOWN, np.isnan(found))
  # Of a fine map, half of the area must be known.
  fine = dataclasses.replace(
    IMAGE, height=128, width=128, pixel_width=5.0, pixel_height=5.0
  )
  values = np.ones((128, 128), np.float32)
  values[0, :3] = np.nan
  values[1, 2:4] = np.nan
  path = write_band(tmp_path / "fine.tif", values, fine)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  assert np.isnan(found[0, 0]).tolist() == [False, True] + [False] * 14
  assert np.nanmin(found) == np.nanmax(found) == 1


def test_scale_and_offset_are_those_of_the_tags(tmp_path):
  path = tmp_path / "map.tif"
  grid = around(IMAGE, 32633, 10.0)
  pixels = RNG.integers(0, 99, (grid.height, grid.width)).astype(np.int16)
  with rasterio.open(
    path,
    "w",
    driver="GTiff",
    height=grid.height,
    width=grid.width,
    count=1,
    dtype="int16",
    crs="EPSG:32633",
    transform=transform_of(grid),
  ) as file:
    file.write(pixels, 1)
    file.scales, file.offsets = (0.5,), (-3.0,)
  found = value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  expected = 0.5 * first_patch(pixels, grid).astype(float) - 3.0
  np.testing.assert_allclose(found[0], expected, atol=1e-3)


@pytest.mark.parametrize("lon", [-180.0, 179.99, 180.0])
def test_a_map_of_the_whole_earth_has_no_edge_at_the_antimeridian(
  tmp_path, lon
):
  whole = grids.Grid(180, 360, -180.0, 90.0, 1.0, 1.0, 4326)
  codes = np.add.outer(np.zeros(180), np.arange(360) % 250).astype(np.uint8)
  path = write_band(tmp_path / "map.tif", codes, whole)
  image = grids.Grid(4, 8, lon - 4, 2.0, 1.0, 1.0, 4326)
  (found,) = class_map(path).sample(image, [0], [2], 4)
  lons = (image.west + 2.5 + np.arange(4) + 180) % 360 - 180
  expected = codes[0, np.floor(lons + 180).astype(int)]
  np.testing.assert_array_equal(found, np.tile(expected, (4, 1)))
  (values,) = value_map(path).sample(image, [0], [0], 2)
  assert np.isfinite(values).all()


def test_the_climate_is_one_such_map(tmp_path):
  """As a map of classes, the climate's map gives the zones of its labels."""
  climate = climate_maps.load()
  height, width = climate.zones.shape
  grid = grids.Grid(
    height, width, -180.0, 90.0, 360 / width, 180 / height, 4326
  )
  path = write_band(tmp_path / "map.tif", climate.zones, grid)
  for image in (IMAGE, around(IMAGE, 4326, 0.01)):
    found = class_map(path).sample(image, [0, 3], [0, 1], 4)
    lat, lon = image.patch_pixels(np.array([0, 3]), np.array([0, 1]), 4)
    np.testing.assert_array_equal(found, climate.lookup(lat, lon))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
  factor=st.integers(1, 6),
  shift=st.tuples(st.integers(0, 5), st.integers(0, 5)),
  seed=st.integers(0, 2**16),
)
def test_a_map_to_the_tile_and_back_keeps_its_classes(
  tmp_path_factory, factor, shift, seed
):
  """Of coarser pixels that nest, each has its own class in its middle."""
  folder = tmp_path_factory.mktemp("map")
  coarse = grids.Grid(
    16,
    16,
    IMAGE.west - 10.0 * shift[1],
    IMAGE.north + 10.0 * shift[0],
    10.0 * factor,
    10.0 * factor,
    IMAGE.epsg,
  )
  codes = np.random.default_rng(seed).integers(0, 9, (16, 16), np.uint8)
  path = write_band(folder / "map.tif", codes, coarse)
  found = class_map(path).sample(IMAGE, np.array([0]), np.array([0]), 12)[0]
  whole = np.kron(codes, np.ones((factor, factor), np.uint8))
  whole = whole[shift[0] : shift[0] + 12, shift[1] : shift[1] + 12]
  height, width = whole.shape
  np.testing.assert_array_equal(found[:height, :width], whole)
