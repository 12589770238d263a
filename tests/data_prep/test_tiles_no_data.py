"""No data in GeoTIFFs: NaN, a value, blocks that were never written."""

import datetime

import numpy as np
import pytest
import tifffile
from geotiff_samples import SCALE, TIEPOINT, geo_keys, write_tagged

from data_prep import tile_writer, tiles

BANDS = ("red", "green", "altitude")


@pytest.fixture
def nan_tile(tmp_path):
  """The path of a tile with one NaN, in its second band, and its pixels."""
  path = tmp_path / "tile.tif"
  pixels = np.random.default_rng(0).uniform(0, 9000, (40, 30, 3))
  pixels = pixels.astype(np.float32)
  pixels[3, 4, 1] = np.nan
  tile_writer.write_tile(
    path,
    pixels,
    bands=BANDS,
    west=10.0,
    north=50.0,
    pixel_size=0.25,
    date=datetime.datetime(2004, 2, 29, 12),
  )
  return path, pixels


def test_nan_is_an_error_only_where_it_is_read(nan_tile):
  tile = tiles.open_tile(nan_tile[0])
  with pytest.raises(tiles.TileError, match=r"tile\.tif: NaN"):
    tile.read(BANDS)
  assert np.isfinite(tile.read(["red", "altitude"])).all()


def test_nan_may_be_allowed(nan_tile):
  path, pixels = nan_tile
  tile = tiles.open_tile(path)
  np.testing.assert_array_equal(tile.read(BANDS, allow_nan=True), pixels)


@pytest.mark.parametrize(
  ("dtype", "text", "value"),
  [
    ("int16", None, None),
    ("int16", "-9999", -9999),
    ("int16", " -9999.0 \0", -9999),
    # What no pixel can be.
    ("uint16", "-9999", None),
    ("int16", "0.5", None),
    ("int16", "nan", None),
    ("uint16", "0", 0),
    ("float32", "-8000.1", float(np.float32(-8000.1))),
    ("float32", "-1.7976931348623157e+308", -np.inf),
    ("float64", "-1.7976931348623157e+308", np.finfo("f8").min),
    ("float32", "nan", np.nan),
  ],
)
def test_no_data_is_the_value_that_pixels_have(tmp_path, dtype, text, value):
  path = tmp_path / "tile.tif"
  tags = [] if text is None else [(42113, "s", 0, text, True)]
  write_tagged(
    path, np.zeros((4, 5), dtype), SCALE, TIEPOINT, geo_keys(), *tags
  )
  np.testing.assert_equal(tiles.open_tile(path).no_data, value)


def test_an_unreadable_no_data_value_is_an_error(tmp_path):
  path = tmp_path / "tile.tif"
  tag = (42113, "s", 0, "none at all", True)
  write_tagged(path, np.zeros((4, 5), "u2"), SCALE, TIEPOINT, geo_keys(), tag)
  with pytest.raises(tiles.TileError, match=r"tile\.tif: .*none at all"):
    tiles.open_tile(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
  ("dtype", "text", "value"),
  [
    ("int16", "-9999", -9999),
    ("int16", None, 0),
    ("uint16", "-9999", 0),
    ("float32", "nan", np.nan),
  ],
)
@pytest.mark.parametrize("separate", [False, True])
def test_blocks_never_written_are_no_data(
  tmp_path, separate, dtype, text, value, compression
):
  """A sparse file, as GDAL writes it by SPARSE_OK."""
  path = tmp_path / "tile.tif"
  rng = np.random.default_rng(0)
  planes = rng.integers(1, 99, (2, 40, 60)).astype(dtype)
  # Of 3 x 4 blocks of 16 x 16.
  missing = [(0, 1), (1, 2), (2, 3)]
  data = planes if separate else np.moveaxis(planes, 0, -1)[None]

  def blocks():
    for plane in data:
      for y in range(3):
        for x in range(4):
          block = plane[16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
          yield None if (y, x) in missing else np.ascontiguousarray(block)

  tags = [] if text is None else [(42113, "s", 0, text, True)]
  write_tagged(
    path, blocks(), SCALE, TIEPOINT, geo_keys(), *tags, tile=(16, 16),
    planarconfig="separate" if separate else "contig", dtype=dtype,
    shape=data.shape if separate else data.shape[1:], compression=compression,
  )  # fmt: skip
  expected = np.moveaxis(planes, 0, -1).copy()
  for y, x in missing:
    expected[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = value
  tile = tiles.open_tile(path)
  found = tile.read(None, allow_nan=True)
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(
    tile.read(None, 5, 9, 30, 48, allow_nan=True), expected[5:35, 9:57]
  )


def test_a_file_of_nothing_but_no_data(tmp_path):
  """One strip, uncompressed, that was never written."""
  path = tmp_path / "tile.tif"
  tag = (42113, "s", 0, "-7", True)
  write_tagged(path, np.ones((16, 16), "i2"), SCALE, TIEPOINT, geo_keys(), tag)
  with tifffile.TiffFile(path, mode="r+") as tif:
    for code in (273, 279):
      tif.pages.first.tags[code].overwrite(0)
  assert (tiles.open_tile(path).read(None) == -7).all()
