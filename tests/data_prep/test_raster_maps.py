"""Maps at the pixels of patches, against rasterio, SciPy and plain loops."""

import dataclasses
import json

import numpy as np
import pyproj
import pytest
import rasterio
from geotiff_samples import write_band
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import warp

from data_prep import climate_maps, grids, map_files, map_targets, maps, tiles

# Of rasterio's own use of affine.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")

RNG = np.random.default_rng(0)
# 10 m in UTM, and coarser and finer maps around its patches.
IMAGE = grids.Grid(64, 64, 600000.0, 5500020.0, 10.0, 10.0, 32633)
SIZE = 16
ROWS, COLS = (x.ravel() for x in np.mgrid[0:48:16, 0:48:16])


def around(grid, epsg, pixel, margin=5):
  """A grid of square pixels of another projection that covers a grid."""
  corners = np.array([[0, 0, 1, 1], [0, 1, 0, 1]]) * [
    [grid.height],
    [grid.width],
  ]
  lat, lon = grid.pixel_to_latlon(*(corners - 0.5))
  x, y = lon, lat
  if epsg != 4326:
    to_map = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = to_map.transform(lon, lat)
  west = np.floor(x.min() / pixel) * pixel - margin * pixel
  north = np.ceil(y.max() / pixel) * pixel + margin * pixel
  return grids.Grid(
    int(np.ceil((north - y.min()) / pixel)) + margin,
    int(np.ceil((x.max() - west) / pixel)) + margin,
    float(west),
    float(north),
    pixel,
    pixel,
    epsg,
  )


def transform_of(grid):
  return rasterio.transform.from_origin(
    grid.west, grid.north, grid.pixel_width, grid.pixel_height
  )


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


def first_patch(pixels, grid):
  """The part of a map on the image's own pixels under its first patch."""
  row, col = (
    round(x / 10) for x in (grid.north - IMAGE.north, IMAGE.west - grid.west)
  )
  return pixels[row : row + SIZE, col : col + SIZE]


def class_map(path, legend=""):
  return map_targets.MapTarget("cover", "class_map", str(path), str(legend))


def value_map(path):
  return map_targets.MapTarget("height", "value_map", str(path))


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


@pytest.mark.parametrize("kind", ["class_map", "value_map"])
def test_a_folder_of_tiles_is_one_map(tmp_path, kind, monkeypatch):
  grid = around(IMAGE, 4326, 5e-5)
  pixels = RNG.integers(0, 9, (grid.height, grid.width), np.uint8)
  write_band(tmp_path / "whole.tif", pixels, grid, no_data=200)
  (tmp_path / "parts").mkdir()
  middle = grid.height // 2, grid.width // 3
  for rows in (slice(0, middle[0]), slice(middle[0], None)):
    for cols in (slice(0, middle[1]), slice(middle[1], None)):
      part = pixels[rows, cols]
      write_band(
        tmp_path / f"parts/{rows.start}_{cols.start}.tif",
        part,
        dataclasses.replace(
          grid,
          height=part.shape[0],
          width=part.shape[1],
          west=grid.west + cols.start * grid.pixel_width,
          north=grid.north - rows.start * grid.pixel_height,
        ),
        no_data=200,
        tile=(16, 16),
      )
  one, many = (
    map_targets.MapTarget("x", kind, str(tmp_path / name))
    for name in ("whole.tif", "parts")
  )
  expected = one.sample(IMAGE, ROWS, COLS, SIZE)
  np.testing.assert_array_equal(many.sample(IMAGE, ROWS, COLS, SIZE), expected)
  # However little of it is read at once.
  monkeypatch.setattr(maps, "_WINDOW", 50)
  np.testing.assert_allclose(
    many.sample(IMAGE, ROWS, COLS, SIZE), expected, atol=1e-3
  )
  # What is missing of it is unknown.
  (tmp_path / "parts/0_0.tif").unlink()
  map_files.open_raster.cache_clear()
  found = many.sample(IMAGE, ROWS, COLS, SIZE)
  is_unknown = found == 255 if kind == "class_map" else np.isnan(found)
  assert 0 < is_unknown.mean() < 1
  # Next to it, means are of what is left.
  differs = found[~is_unknown] != expected[~is_unknown]
  assert np.mean(differs) < (0.05 if kind == "value_map" else 1e-9)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_gaps_between_files_without_a_no_data_value_are_unknown(
  tmp_path, dtype
):
  for i in (0, 2):
    grid = dataclasses.replace(
      IMAGE, height=16, width=16, west=IMAGE.west + 160.0 * i
    )
    values = np.full((16, 16), 255, dtype)
    write_band(tmp_path / f"{i}.tif", values, grid)
  found = value_map(tmp_path).sample(IMAGE, [0, 0, 0], [0, 16, 32], SIZE)
  assert np.isnan(found[1, :, 1:-1]).all()
  assert (found[[0, 2]] == 255).all()


def test_files_of_different_grids_are_no_mosaic(tmp_path):
  grid = grids.Grid(4, 4, 0.0, 4.0, 1.0, 1.0, 4326)
  write_band(tmp_path / "a.tif", np.ones((4, 4), np.uint8), grid)
  for change in ({"west": 4.5}, {"pixel_width": 2.0}, {"epsg": 4258}):
    other = dataclasses.replace(grid, **{"west": 4.0, **change})
    write_band(tmp_path / "b.tif", np.ones((4, 4), np.uint8), other)
    map_files.open_raster.cache_clear()
    with pytest.raises(tiles.TileError, match=r"are not those of a\.tif"):
      map_files.open_raster(tmp_path)


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


def test_a_legend_names_codes_and_gives_them_colours(tmp_path):
  grid = around(IMAGE, 32633, 10.0)
  codes = RNG.choice([10, 20, 95], (grid.height, grid.width)).astype(np.uint8)
  path = write_band(tmp_path / "map.tif", codes, grid)
  legend = tmp_path / "legend.json"
  legend.write_text(
    json.dumps(
      {
        "95": {"name": "mangroves", "color": "#00cf75"},
        "10": {"name": "trees", "color": "#006400"},
        "20": {"name": "shrubs", "color": "#ffbb22"},
      }
    )
  )
  target = class_map(path, legend)
  assert target.classes() == (
    ("trees", "shrubs", "mangroves"),
    ("#006400", "#ffbb22", "#00cf75"),
  )
  found = target.sample(IMAGE, ROWS, COLS, SIZE)
  np.testing.assert_array_equal(
    np.array([10, 20, 95])[found[0]], first_patch(codes, grid)
  )
  described = target.describe({"train": target.count(found)})
  assert described["unknown"] == 0
  assert described["counts"]["train"]["trees"] == np.sum(found == 0)
  legend.write_text(json.dumps({"10": "trees", "20": "shrubs"}))
  map_targets._read_legend.cache_clear()
  with pytest.raises(
    tiles.TileError, match="does not name; add it to the lege"
  ):
    target.sample(IMAGE, ROWS, COLS, SIZE)


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    ("no", "not JSON"),
    ("[1]", "expected an object such as"),
    ('{"a": "forest"}', "code 'a', expected a number"),
    ('{"1": 2}', "class 2 of code 1, expected a name"),
  ],
)
def test_a_legend_that_is_none_is_named(tmp_path, content, reason):
  grid = around(IMAGE, 32633, 10.0)
  codes = np.ones((grid.height, grid.width), np.uint8)
  path = write_band(tmp_path / "map.tif", codes, grid)
  (tmp_path / "legend.json").write_text(content)
  with pytest.raises(ValueError, match=reason):
    class_map(path, tmp_path / "legend.json").check()


def test_a_map_that_cannot_be_one_is_named(tmp_path):
  grid = around(IMAGE, 32633, 10.0)
  values = np.full((grid.height, grid.width), 1e5, np.float32)
  path = write_band(tmp_path / "map.tif", values, grid)
  with pytest.raises(tiles.TileError, match="float32 pixels, expected codes"):
    class_map(path).check()
  with pytest.raises(tiles.TileError, match="value 100000, but records hold"):
    value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  with pytest.raises(tiles.TileError, match="no such file"):
    value_map(tmp_path / "none.tif").check()
  elsewhere = dataclasses.replace(IMAGE, north=6500000.0)
  with pytest.raises(tiles.TileError, match=r"a\.tif: lies outside of the map"):
    value_map(path).check_covers("a.tif", elsewhere)
  value_map(path).check_covers("a.tif", IMAGE)


@pytest.mark.parametrize(
  ("text", "kind"),
  [("a.tif", "class_map"), ("=a.tif", "value_map"), ("x=a,b", "value_map")],
)
def test_a_flag_of_another_form_is_named(text, kind):
  with pytest.raises(ValueError, match=f"--{kind}={text}, expected NAME=FILE"):
    map_targets.parse(text, kind)


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
