import dataclasses

import numpy as np
import pyproj
import pytest
import tifffile
from geotiff_samples import write_band
from scipy import ndimage

from data_prep import grids, map_files, terrain, tiles

SIZE = 24


def write_dem(path, z, grid, no_data=None, **layout):
  """Writes a file as GDAL does: no band names, no date."""
  return tiles.open_tile(write_band(path, z, grid, no_data, **layout))


def make_grid(epsg, lat, lon, pixel, side, unlike=1.0):
  """A grid whose middle lies at a place; pixels `unlike` times as wide."""
  x, y = lon, lat
  if epsg != 4326:
    to_map = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = to_map.transform(lon, lat)
  wide = pixel * unlike
  return grids.Grid(
    side, side, x - side * wide / 2, y + side * pixel / 2, wide, pixel, epsg
  )


def local_metres(grid, lat, lon):
  """East and north of a place, in metres on the ground, of all pixels.

  PROJ's own azimuthal equidistant projection of the ellipsoid.
  """
  aeqd = pyproj.CRS.from_proj4(
    f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84"
  )
  to_local = pyproj.Transformer.from_crs(grid.epsg, aeqd, always_xy=True)
  rows, cols = np.mgrid[: grid.height, : grid.width]
  return to_local.transform(
    grid.west + (cols + 0.5) * grid.pixel_width,
    grid.north - (rows + 0.5) * grid.pixel_height,
  )


# DEMs of about 30 m: (EPSG, pixel, lat, lon, width of a pixel / height).
DEMS = {
  "degrees at 60 N": (4326, 1 / 3600, 60.0, 10.0, 2.0),
  "degrees at 83 N": (4326, 1 / 3600, 83.0, -40.0, 4.0),
  "degrees at 45 S": (4326, 1 / 3600, -45.0, 170.0, 1.0),
  "degrees across 180": (4326, 1 / 3600, -17.0, 180.0, 1.0),
  "degrees across -180": (4326, 1 / 3600, -17.0, -180.0, 1.0),
  # Far from the central meridian: north is 2.7 degrees off the grid's.
  "UTM": (32633, 30.0, 60.0, 18.1, 1.0),
  "UTM south": (32733, 30.0, -60.0, 12.1, 1.3),
  # A metre on the map is half a metre on the ground.
  "Web Mercator": (3857, 60.0, 60.0, 10.0, 1.0),
}


@pytest.fixture(params=DEMS)
def place(request):
  epsg, pixel, lat, lon, unlike = DEMS[request.param]
  zone = int((lon + 180) % 360 // 6) + 1
  image = make_grid(
    (32600 if lat > 0 else 32700) + zone, lat, lon, 10.0, 2 * SIZE
  )
  return make_grid(epsg, lat, lon, pixel, 48, unlike), image, lat, lon


@pytest.mark.parametrize(
  ("slope_deg", "aspect_deg"),
  [(10, 0), (30, 90), (3, 180), (45, 270), (60, 33), (20, 216)],
)
def test_an_inclined_plane_has_its_slope_and_aspect(
  tmp_path, place, slope_deg, aspect_deg
):
  grid, image, lat, lon = place
  east, north = local_metres(grid, lat, lon)
  aspect = np.radians(aspect_deg)
  downhill = east * np.sin(aspect) + north * np.cos(aspect)
  z = 2000 - np.tan(np.radians(slope_deg)) * downhill
  dem = write_dem(tmp_path / "dem.tif", z.astype(np.float32), grid)
  rows, cols = [0, 0, SIZE, SIZE], [0, SIZE, 0, SIZE]
  found = terrain.read_terrain(dem, image, rows, cols, SIZE)
  assert found.shape == (4, SIZE, SIZE, 4)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found[..., 0], np.sin(aspect), atol=1e-3)
  np.testing.assert_allclose(found[..., 1], np.cos(aspect), atol=1e-3)
  np.testing.assert_allclose(found[..., 2] * 90, slope_deg, atol=0.02)
  for patch, row, col in zip(found, rows, cols, strict=True):
    east, north = local_metres(image, lat, lon)
    downhill = east * np.sin(aspect) + north * np.cos(aspect)
    z = 2000 - np.tan(np.radians(slope_deg)) * downhill
    np.testing.assert_allclose(
      patch[..., 3] * 8849,
      z[row : row + SIZE, col : col + SIZE],
      atol=0.02,
    )


def test_a_hemisphere_descends_all_around(tmp_path, place):
  grid, image, lat, lon = place
  radius = 1500
  east, north = local_metres(grid, lat, lon)
  z = np.sqrt(np.maximum(0, radius**2 - east**2 - north**2))
  dem = write_dem(tmp_path / "dem.tif", z.astype(np.float32), grid)
  (found,) = terrain.read_terrain(dem, image, [0], [0], 2 * SIZE)
  east, north = local_metres(image, lat, lon)
  distance = np.hypot(east, north)
  # Not on top, where aspects meet within one pixel of the DEM.
  slope = distance > 100
  assert slope.mean() > 0.8
  sin, cos = east / distance, north / distance
  np.testing.assert_allclose(found[slope, 0], sin[slope], atol=0.01)
  np.testing.assert_allclose(found[slope, 1], cos[slope], atol=0.01)
  np.testing.assert_allclose(
    found[..., 2] * 90, np.degrees(np.arcsin(distance / radius)), atol=0.3
  )
  np.testing.assert_allclose(
    np.hypot(found[slope, 0], found[slope, 1]), 1, atol=1e-6
  )


@pytest.mark.parametrize("dtype", ["float32", "int16", "float64"])
@pytest.mark.parametrize(
  "layout",
  [{}, {"compression": "zlib", "rowsperstrip": 5}, {"tile": (16, 32)}],
)
def test_elevations_are_bilinear_at_their_places(tmp_path, dtype, layout):
  # Rough ground: a pixel off is hundreds of metres off.
  z = np.random.default_rng(0).uniform(-400, 8849, (60, 60)).astype(dtype)
  grid = make_grid(4326, 60.0, 12.0, 1 / 3600, 60, 2.0)
  image = make_grid(32633, 60.0, 12.0, 10.0, 100)
  dem = write_dem(tmp_path / "dem.tif", z, grid, **layout)
  rows, cols = np.array([3, 50, 71]), np.array([76, 31, 5])
  found = terrain.read_terrain(dem, image, rows, cols, SIZE)
  for patch, row, col in zip(found, rows, cols, strict=True):
    y, x = np.mgrid[row : row + SIZE, col : col + SIZE]
    lat, lon = image.pixel_to_latlon(y, x)
    at = (
      (grid.north - lat) / grid.pixel_height - 0.5,
      (lon - grid.west) / grid.pixel_width - 0.5,
    )
    expected = ndimage.map_coordinates(z.astype(float), at, order=1)
    np.testing.assert_allclose(patch[..., 3] * 8849, expected, atol=0.1)


def test_a_dem_is_used_to_its_last_pixel(tmp_path):
  z = np.random.default_rng(0).uniform(0, 4000, (60, 60)).astype(np.float32)
  grid = grids.Grid(60, 60, 10.0, 50.0, 0.25, 0.25, 4326)
  dem = write_dem(tmp_path / "dem.tif", z, grid)
  # From 1.5 to 57.5 of the DEM; and to 57.0, where rounding must not count.
  for size, shift in ((57, 1.5), (57, 1.0), (56, 1.0)):
    origin = (10 + shift / 4, 50 - shift / 4)
    image = grids.Grid(60, 60, *origin, 0.25, 0.25, 4326)
    (found,) = terrain.read_terrain(dem, image, [0], [0], size)
    at = shift + np.mgrid[:size, :size]
    np.testing.assert_allclose(
      found[..., 3] * 8849,
      ndimage.map_coordinates(z.astype(float), at, order=1),
      atol=1e-2,
    )


def test_patches_do_not_depend_on_each_other(tmp_path):
  z = np.random.default_rng(0).uniform(0, 4000, (60, 60)).astype(np.float32)
  dem = write_dem(
    tmp_path / "dem.tif", z, make_grid(32633, 60.0, 12.0, 30.0, 60)
  )
  image = make_grid(32633, 60.0, 12.0, 10.0, 100)
  rows, cols = [0, 5, 76, 30], [0, 76, 10, 31]
  together = terrain.read_terrain(dem, image, rows, cols, SIZE)
  for i in range(4):
    alone = terrain.read_terrain(dem, image, [rows[i]], [cols[i]], SIZE)
    np.testing.assert_array_equal(alone[0], together[i])
  assert terrain.read_terrain(dem, image, [], [], SIZE).shape == (
    (0, SIZE, SIZE, 4)
  )
  (one,) = terrain.read_terrain(dem, image, [5], [76], 1)
  np.testing.assert_array_equal(one[0, 0], together[1, 0, 0])


def test_flat_ground_has_no_aspect(tmp_path, place):
  grid, image, _, _ = place
  dem = write_dem(tmp_path / "dem.tif", np.full((48, 48), 123.4, "f4"), grid)
  found = terrain.read_terrain(dem, image, [3], [4], SIZE)
  np.testing.assert_array_equal(found[..., :3], 0)
  np.testing.assert_allclose(found[..., 3], 123.4 / 8849, rtol=1e-6)


@pytest.mark.parametrize("lon", [0.0, 179.98, 180.0, -179.98])
@pytest.mark.parametrize("west", [-180.0, 0.0, 90.0])
def test_a_dem_of_all_360_degrees_has_no_edge(tmp_path, lon, west):
  # 1/4 degree; rises eastwards as a wave does around the Earth.
  grid = grids.Grid(40, 1440, west, 5.0, 0.25, 0.25, 4326)
  lon_deg = west + (np.arange(1440) + 0.5) / 4
  z = 1000 * np.sin(np.radians(lon_deg) - 0.5) * np.ones((40, 1))
  dem = write_dem(tmp_path / "dem.tif", z.astype(np.float32), grid)
  image = grids.Grid(40, 40, lon - 0.5, 0.5, 0.025, 0.025, 4326)
  (found,) = terrain.read_terrain(dem, image, [8], [8], SIZE)
  _, lon_deg = image.pixel_to_latlon(20, np.arange(8, 8 + SIZE))
  wave = np.radians(lon_deg) - 0.5
  np.testing.assert_allclose(
    found[..., 3] * 8849, np.sin(wave) * 1000 * np.ones((SIZE, 1)), atol=0.1
  )
  slope = np.arctan(1000 * np.cos(wave) / 6378137)
  np.testing.assert_allclose(
    found[12, :, 2], np.degrees(np.abs(slope)) / 90, rtol=2e-3
  )
  np.testing.assert_allclose(found[..., 0], -np.sign(slope)[0], atol=1e-3)


@pytest.mark.parametrize(
  ("dtype", "no_data", "value"),
  [
    ("int16", "-9999", -9999),
    ("int16", None, -32768),
    ("float32", "-9999", -9999),
    ("float32", "-3.4028234663852886e+38", np.finfo("f4").min),
    ("float32", "-1.7976931348623157e+308", -np.inf),
    # To be compared in single precision.
    ("float32", "-8000.1", -8000.1),
    ("float32", None, np.nan),
    ("float32", "nan", np.nan),
    ("float32", None, np.inf),
    ("float32", "0", 0),
  ],
)
def test_no_data_is_told_with_its_place(tmp_path, dtype, no_data, value):
  z = np.full((60, 60), 500, dtype)
  # (20, 40) of the DEM.
  z[20, 40] = value
  grid = make_grid(32633, 60.0, 12.0, 30.0, 60)
  image = make_grid(32633, 60.0, 12.0, 10.0, 180)
  dem = write_dem(tmp_path / "dem.tif", z, grid, no_data)
  # Its 3 x 3 pixels of the image are rows 60 to 62, columns 120 to 122.
  lat, lon = image.pixel_to_latlon(61, 121)
  with pytest.raises(
    tiles.TileError,
    match=r"dem.tif: no elevation at 60.* row 50, column 110: ",
  ) as error:
    terrain.read_terrain(dem, image, [20, 50], [20, 110], SIZE)
  found = str(error.value).split(" at ")[1].split(" E ")[0].split(" N ")
  # Its neighbours' slopes need it too: 2 pixels of the DEM away.
  assert abs(float(found[0]) - lat) < 65 / 111e3
  assert abs(float(found[1]) - lon) < 65 / 55e3
  # A patch out of its reach, though in one window with it.
  beside = ([50, 50], [110 - SIZE - 10, 110 + SIZE + 10])
  assert np.isfinite(terrain.read_terrain(dem, image, *beside, SIZE)).all()
  # Near enough for the derivatives only.
  with pytest.raises(tiles.TileError, match="no elevation"):
    terrain.read_terrain(dem, image, [50], [120 - SIZE - 2], SIZE)


@pytest.mark.parametrize("no_data", ["-9999", "nan"])
def test_a_sparse_dem_has_no_data_where_nothing_was_written(tmp_path, no_data):
  """GDAL leaves out blocks that are full of no data."""
  z = np.full((64, 64), 500, np.float32)

  def blocks():
    # The lower right quarter is missing.
    for y, x in np.ndindex(2, 2):
      block = z[32 * y : 32 * y + 32, 32 * x : 32 * x + 32]
      yield None if (y, x) == (1, 1) else np.ascontiguousarray(block)

  grid = make_grid(32633, 60.0, 12.0, 30.0, 64)
  dem = write_dem(
    tmp_path / "dem.tif", blocks(), grid, no_data, tile=(32, 32),
    compression="zlib", shape=(64, 64), dtype="float32",
  )  # fmt: skip
  image = make_grid(32633, 60.0, 12.0, 10.0, 180)
  (found,) = terrain.read_terrain(dem, image, [20], [20], SIZE)
  np.testing.assert_allclose(found[..., 3], 500 / 8849, rtol=1e-6)
  # Not the 0 m of the open sea.
  with pytest.raises(tiles.TileError, match="no elevation at 59"):
    terrain.read_terrain(dem, image, [120], [120], SIZE)


@pytest.mark.parametrize("epsg", [4326, 32633])
def test_a_patch_that_leaves_the_dem_is_told(tmp_path, epsg):
  pixel = 30.0 if epsg == 32633 else 1 / 3600
  # 60 pixels of about 30 m; the image is 200 of 10 m, wider by 10 each way.
  grid = make_grid(epsg, 60.0, 12.0, pixel, 60, 1.0 if epsg == 32633 else 2.0)
  dem = write_dem(tmp_path / "dem.tif", np.zeros((60, 60), "f4"), grid)
  image = make_grid(32633, 60.0, 12.0, 10.0, 200)
  assert not terrain.read_terrain(dem, image, [40], [40], SIZE).any()
  for row, col in [(0, 80), (80, 0), (176, 80), (80, 176)]:
    with pytest.raises(
      tiles.TileError,
      match=rf"dem.tif: 1 of 2 patches leave .* row {row}, column {col} of the"
      r" image, (59\.9|60\.0)\d+ N (11\.9|12\.0)\d+ E",
    ):
      terrain.read_terrain(dem, image, [40, row], [40, col], SIZE)
  # The other side of the Earth.
  image = make_grid(4326, 60.0, -168.0, 1e-4, 200)
  with pytest.raises(tiles.TileError, match=r"1 of 1 patches|does not reach"):
    terrain.read_terrain(dem, image, [40], [40], SIZE)


def test_only_the_window_is_read(tmp_path):
  grid = make_grid(32633, 60.0, 12.0, 30.0, 128)
  path = tmp_path / "dem.tif"
  z = np.zeros((128, 128), np.float32)
  write_dem(path, z, grid, tile=(32, 32), compression="zlib")
  with tifffile.TiffFile(path) as tif:
    offset = tif.pages.first.dataoffsets[-1]
  with open(path, "r+b") as file:
    file.seek(offset)
    file.write(b"\xff" * 8)
  dem = tiles.open_tile(path)
  image = make_grid(32633, 60.0, 12.0, 10.0, 384)
  rows, cols = [6, 6, 200], [6, 300, 80]
  assert not terrain.read_terrain(dem, image, rows, cols, SIZE).any()
  with pytest.raises(tiles.TileError, match=r"dem\.tif: "):
    terrain.read_terrain(dem, image, [340], [340], SIZE)


def test_a_dem_of_an_unknown_projection_is_told(tmp_path):
  grid = make_grid(32633, 60.0, 12.0, 30.0, 60)
  unknown = dataclasses.replace(grid, epsg=29999)
  dem = write_dem(tmp_path / "dem.tif", np.zeros((60, 60), "f4"), unknown)
  with pytest.raises(
    tiles.TileError, match=r"dem\.tif: unknown projection EPSG:29999"
  ):
    terrain.read_terrain(dem, grid, [20], [20], SIZE)


def test_a_dem_of_several_bands_is_told(tmp_path):
  grid = make_grid(32633, 60.0, 12.0, 30.0, 60)
  z = np.zeros((60, 60, 3), np.float32)
  dem = write_dem(tmp_path / "dem.tif", z, grid, planarconfig="contig")
  with pytest.raises(tiles.TileError, match="3 bands, expected one"):
    map_files.open_raster(dem.path)
