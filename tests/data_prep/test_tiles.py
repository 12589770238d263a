import dataclasses
import datetime

import numpy as np
import pytest
import tifffile
from geotiff_samples import SCALE, TIEPOINT, geo_keys, write_tagged

from data_prep import grids, tile_blocks, tile_writer, tiles

BANDS = ("red", "near <infrared> & more", "altitude")
DATE = datetime.datetime(2004, 2, 29, 12)
PLACE = {"west": 10.0, "north": 50.0, "pixel_size": 0.25, "date": DATE}


@pytest.fixture
def pixels():
  rng = np.random.default_rng(0)
  return rng.integers(-500, 9000, (40, 30, 3)).astype(np.int16)


@pytest.fixture
def tile_path(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  tile_writer.write_tile(path, pixels, bands=BANDS, **PLACE)
  return path


def test_a_written_tile_is_read_back(tile_path, pixels):
  tile = tiles.open_tile(tile_path, "int16")
  assert tile.grid == grids.Grid(40, 30, 10.0, 50.0, 0.25, 0.25, 4326)
  assert (tile.bands, tile.num_bands, tile.date) == (BANDS, 3, DATE)
  assert (tile.dtype, tile.is_area) == (np.int16, True)
  np.testing.assert_array_equal(tile.read(BANDS), pixels)
  np.testing.assert_array_equal(
    tile.read(BANDS[::-2]), pixels[..., ::-2], "the order is the caller's"
  )


def test_tags_are_those_other_programs_read(tile_path):
  with tifffile.TiffFile(tile_path) as tif:
    page = tif.pages.first
    assert page.is_geotiff
    assert page.geotiff_tags["GeographicTypeGeoKey"] == 4326
    assert page.geotiff_tags["GTRasterTypeGeoKey"] == 1
    assert page.tags["DateTime"].value == "2004:02:29 12:00:00"
    assert "near &lt;infrared&gt; &amp; more" in page.tags[42112].value


@pytest.mark.parametrize(
  "layout",
  [
    {"planarconfig": "contig"},
    {"planarconfig": "contig", "rowsperstrip": 7, "compression": "zlib"},
    {"planarconfig": "contig", "tile": (16, 32), "compression": "lzw"},
    {"planarconfig": "separate", "rowsperstrip": 7},
    {"planarconfig": "separate", "tile": (32, 16), "compression": "zlib"},
    {"planarconfig": "contig", "bigtiff": True, "predictor": 2,
     "compression": "zlib"},
  ],
)  # fmt: skip
def test_windows_equal_slices_in_every_layout(tmp_path, pixels, layout):
  path = tmp_path / "tile.tif"
  names = "".join(
    f'<Item name="DESCRIPTION" sample="{i}" role="description">b{i}</Item>'
    for i in range(3)
  )
  gdal = (42112, "s", 0, f"<GDALMetadata>{names}</GDALMetadata>", True)
  separate = layout["planarconfig"] == "separate"
  data = np.moveaxis(pixels, -1, 0) if separate else pixels
  write_tagged(path, data, SCALE, TIEPOINT, geo_keys(), gdal, **layout)
  tile = tiles.open_tile(path)
  bands = ("b0", "b1", "b2")
  np.testing.assert_array_equal(tile.read(bands), pixels)
  rng = np.random.default_rng(1)
  for _ in range(30):
    row, col = rng.integers(40), rng.integers(30)
    height, width = rng.integers(41 - row), rng.integers(31 - col)
    np.testing.assert_array_equal(
      tile.read(bands, row, col, height, width),
      pixels[row : row + height, col : col + width],
    )
  np.testing.assert_array_equal(tile.read(bands, 33, 5), pixels[33:, 5:])


def test_a_single_band_keeps_its_axis(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  gdal = (42112, "s", 0, '<GDALMetadata><Item name="DESCRIPTION" sample="0" '
          'role="description">b</Item></GDALMetadata>', True)  # fmt: skip
  write_tagged(path, pixels[..., 0], SCALE, TIEPOINT, geo_keys(), gdal)
  tile = tiles.open_tile(path)
  np.testing.assert_array_equal(tile.read(["b"]), pixels[..., :1])


def test_a_window_beyond_the_tile_is_refused(tile_path):
  tile = tiles.open_tile(tile_path)
  for window in [(-1, 0, 2, 2), (39, 0, 2, 2), (0, 29, 1, 2), (0, 0, -1, 1)]:
    with pytest.raises(ValueError, match="leaves"):
      tile.read(BANDS, *window)


def test_places_of_pixels(tile_path):
  grid = tiles.open_tile(tile_path).grid
  lat, lon = grid.pixel_to_latlon(np.array([0, 39, 1.5]), np.array([0, 29, 0]))
  np.testing.assert_allclose(lat, [49.875, 40.125, 49.5], atol=1e-12)
  np.testing.assert_allclose(lon, [10.125, 17.375, 10.125], atol=1e-12)
  south, west, north, east = grid.patch_bounds([0, 2], [0, 4], 8)
  np.testing.assert_allclose(north, [50, 49.5])
  np.testing.assert_allclose(south, [48, 47.5])
  np.testing.assert_allclose(west, [10, 11])
  np.testing.assert_allclose(east, [12, 13])


def test_a_block_too_large_to_decode_is_refused(tmp_path, monkeypatch, pixels):
  path = tmp_path / "tile.tif"
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys(), compression="zlib")
  tile = dataclasses.replace(tiles.open_tile(path), bands=BANDS)
  monkeypatch.setattr(tile_blocks, "_MAX_BLOCK_BYTES", 100)
  with pytest.raises(tiles.TileError, match=r"gdal_translate -co TILED=YES"):
    tile.read(BANDS)
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys())
  tile = dataclasses.replace(tiles.open_tile(path), bands=BANDS)
  assert tile.block_height == 1
  np.testing.assert_array_equal(tile.read(BANDS), pixels)


def test_points_lie_half_a_pixel_up_and_left_of_areas(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys(raster_type=2))
  tile = tiles.open_tile(path)
  assert not tile.is_area
  # The tie point names the first pixel's centre.
  assert tile.grid.pixel_to_latlon(0, 0) == (50.0, 10.0)


def test_a_tie_point_may_lie_anywhere(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  tiepoint = (33922, "d", 6, (4.0, 8.0, 0.0, 11.0, 48.0, 0.0), True)
  write_tagged(path, pixels, SCALE, tiepoint, geo_keys())
  grid = tiles.open_tile(path).grid
  assert (grid.west, grid.north) == (10.0, 50.0)


def transformation(*matrix):
  return (34264, "d", 16, (*matrix, *[0.0] * 7, 1.0), True)


def test_an_unrotated_transformation_is_a_georeference(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  matrix = transformation(0.25, 0.0, 0.0, 10.0, 0.0, -0.25, 0.0, 50.0)
  write_tagged(path, pixels, matrix, geo_keys())
  assert tiles.open_tile(path).grid == grids.Grid(
    40, 30, 10.0, 50.0, 0.25, 0.25, 4326
  )


def test_a_tile_without_names_and_date_opens(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys())
  tile = tiles.open_tile(path)
  assert (tile.bands, tile.date, tile.num_bands) == ((), None, 3)
  with pytest.raises(tiles.TileError, match=r"tile\.tif: band red missing"):
    tile.read(["red"])


@pytest.mark.parametrize(
  ("tags", "reason"),
  [
    ([], "no georeference"),
    ([SCALE, geo_keys()], "no georeference"),
    ([SCALE, TIEPOINT], "no EPSG code"),
    (
      [SCALE, TIEPOINT, geo_keys(epsg=32767)],
      "no EPSG code",
    ),
    (
      [transformation(0.2, 0.1, 0, 10, 0.1, -0.2, 0, 50), geo_keys()],
      "rotated",
    ),
    (
      [transformation(0.2, 0, 0, 10, 0, 0.2, 0, 50), geo_keys()],
      "expected north up",
    ),
  ],
)
def test_a_place_that_cannot_be_told_is_an_error(
  tmp_path, pixels, tags, reason
):
  path = tmp_path / "tile.tif"
  write_tagged(path, pixels, *tags)
  with pytest.raises(tiles.TileError, match=rf"tile\.tif: .*{reason}"):
    tiles.open_tile(path)


def test_an_unreadable_date_is_an_error(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  date = (306, "s", 0, "29 February 2004 !!", True)
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys(), date)
  with pytest.raises(tiles.TileError, match=r"tile\.tif: .*29 February"):
    tiles.open_tile(path)


def test_other_dtypes_are_refused(tile_path):
  with pytest.raises(
    tiles.TileError, match=r"tile\.tif: dtype int16, expected uint16"
  ):
    tiles.open_tile(tile_path, "uint16")


def test_a_missing_band_is_named(tile_path):
  tile = tiles.open_tile(tile_path)
  with pytest.raises(tiles.TileError, match=r"tile\.tif: band B02 missing"):
    tile.read(["red", "B02"])


def test_all_bands_are_read_without_their_names(tmp_path, pixels):
  path = tmp_path / "tile.tif"
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys())
  tile = tiles.open_tile(path)
  assert tile.bands == ()
  np.testing.assert_array_equal(tile.read(None), pixels)
  np.testing.assert_array_equal(tile.read(None, 4, 5, 6, 7), pixels[4:10, 5:12])


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(tiles.TileError, match=r"none\.tif: no such file"):
    tiles.open_tile(tmp_path / "none.tif")


def test_garbage_is_no_tile(tmp_path):
  path = tmp_path / "tile.tif"
  for content in (b"", b"II", b"GIF89a" * 99, b"II*\0" + b"\xff" * 99):
    path.write_bytes(content)
    with pytest.raises(tiles.TileError, match=r"tile\.tif: "):
      tiles.open_tile(path)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_no_truncated_tile_is_taken_for_whole(tmp_path, pixels, compression):
  path = tmp_path / "tile.tif"
  names = "".join(
    f'<Item name="DESCRIPTION" sample="{i}" role="description">b{i}</Item>'
    for i in range(3)
  )
  gdal = (42112, "s", 0, f"<GDALMetadata>{names}</GDALMetadata>", True)
  write_tagged(path, pixels, SCALE, TIEPOINT, geo_keys(), gdal, rowsperstrip=8,
        compression=compression)  # fmt: skip
  whole = path.read_bytes()
  for size in np.linspace(0, len(whole) - 1, 25, dtype=int):
    path.write_bytes(whole[:size])
    with pytest.raises(tiles.TileError, match=r"tile\.tif: "):
      tiles.open_tile(path).read(["b0", "b1", "b2"])


def test_a_corrupt_strip_is_an_error(tile_path):
  content = bytearray(tile_path.read_bytes())
  with tifffile.TiffFile(tile_path) as tif:
    offset = tif.pages.first.dataoffsets[0]
  content[offset + 20 : offset + 60] = bytes(40)
  tile_path.write_bytes(content)
  with pytest.raises(tiles.TileError, match=r"tile\.tif: "):
    tiles.open_tile(tile_path).read(BANDS)


@pytest.mark.shared_data
def test_a_real_tile_in_degrees(shared_data):
  path = shared_data / "sentinel2/boadella/Boadella_2020-01-18.tif"
  tile = tiles.open_tile(path, "int16")
  assert (tile.grid.height, tile.grid.width, tile.num_bands) == (377, 380, 12)
  lat, lon = tile.grid.pixel_to_latlon(188, 190)
  assert abs(lat - 42.35) < 0.05
  assert abs(lon - 2.82) < 0.05
