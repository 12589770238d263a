"""What is written is whole, in blocks, and agrees with itself."""

import datetime

import numpy as np
import pytest

from data_prep import grids, tile_writer, tiles
from geojax import files

BANDS = ("red", "near infrared", "altitude")
DATE = datetime.datetime(2004, 2, 29, 12)
PLACE = {"west": 10.0, "north": 50.0, "pixel_size": 0.25, "date": DATE}
PIXELS = np.zeros((40, 30, 3), np.int16)


@pytest.mark.parametrize("epsg", [4326, 32733])
def test_planes_are_written_one_at_a_time(tmp_path, monkeypatch, epsg):
  monkeypatch.setattr(tile_writer, "_BLOCK", 16)
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 9000, (3, 40, 50)).astype(np.uint16)
  grid = grids.Grid(40, 50, 12.0, 34.0, 0.5, 0.25, epsg)
  path = tmp_path / "tile.tif"
  tile_writer.write_planes(
    path, iter(pixels), bands=BANDS, grid=grid, dtype="uint16", date=DATE
  )
  tile = tiles.open_tile(path, "uint16")
  assert (tile.grid, tile.bands, tile.date) == (grid, BANDS, DATE)
  assert tile.block_height == 16
  np.testing.assert_array_equal(
    tile.read(BANDS[::-1], 5, 7, 30, 21),
    np.moveaxis(pixels[::-1, 5:35, 7:28], 0, -1),
  )
  with pytest.raises(ValueError, match=r"band near.*\(4, 4\).*\(40, 50\)"):
    tile_writer.write_planes(
      tmp_path / "bad.tif",
      [pixels[0], np.zeros((4, 4), np.uint16)],
      bands=BANDS[:2],
      grid=grid,
      dtype="uint16",
      date=DATE,
    )
  assert not list(tmp_path.glob("*bad*"))


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  def fail(*args):
    raise OSError("no space left")

  monkeypatch.setattr(files.os, "replace", fail)
  with pytest.raises(OSError, match="no space"):
    tile_writer.write_tile(tmp_path / "tile.tif", PIXELS, bands=BANDS, **PLACE)
  assert not list(tmp_path.iterdir())


def test_bands_and_pixels_must_agree(tmp_path):
  with pytest.raises(ValueError, match="2 bands"):
    tile_writer.write_tile(tmp_path / "t.tif", PIXELS, bands=BANDS[:2], **PLACE)
