"""Tiles of which no record was made, and codes in colours."""

import datetime
import json

import numpy as np
import pytest
import sentinel2_samples
import tifffile

from data_prep import (
  grids,
  products,
  sources,
  tile_patches,
  tile_writer,
  tiles,
  unseen,
)

CONFIGS = {name: sources.find(name) for name in sources.names()}


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"arrays", "phileo"}))
def test_settings_come_back_whole(name):
  kept = json.loads(json.dumps(CONFIGS[name].settings()))
  found = unseen.whole_tile_config(f"geo_tiles/{name}", kept)
  rule = found.patches
  assert rule.stride == rule.size
  assert (rule.train_kept, rule.max_sea, rule.sea_kept) == (1, 1, 1)
  # All else is as it was, to the type.
  assert found.source == CONFIGS[name].source
  for part in ("bands", "scale", "dtype"):
    assert getattr(found, part) == getattr(CONFIGS[name], part)


def test_what_a_user_changed_comes_back():
  kept = CONFIGS["sentinel2"].settings()
  kept["source"]["default_baseline"] = "04.00"
  kept["climate_map"] = "map.tif"
  found = unseen.whole_tile_config("geo_tiles/sentinel2", kept, stride=64)
  assert found.source.default_baseline == "04.00"
  assert found.climate_map == "map.tif"
  assert found.patches.stride == 64


def test_no_patch_is_left_out_by_place(tmp_path):
  # A tile over open sea, across blocks of 1 degree.
  pixels = np.full((300, 300, 3), 90, np.int16)
  path = tmp_path / "tile.tif"
  tile_writer.write_tile(
    path,
    pixels,
    bands=CONFIGS["blue_marble"].bands,
    west=-30.0,
    north=1.0,
    pixel_size=1 / 15,
    date=datetime.datetime(2004, 6, 15),
  )
  config = unseen.whole_tile_config(
    "geo_tiles/blue_marble", CONFIGS["blue_marble"].settings()
  )
  patches = tile_patches.open_tile(path, config)
  assert len(patches.chosen.rows) == 81
  assert not any(patches.left_out.values())


def test_a_safe_product_becomes_a_tile(tmp_path):
  bands = sentinel2_samples.make_bands(256)
  safe = sentinel2_samples.make_safe(tmp_path, bands=bands)
  (metadata,) = safe.rglob("MTD_TL.xml")
  metadata.write_text(metadata.read_text().replace(">120<", ">256<"))
  config = unseen.whole_tile_config(
    "geo_tiles/sentinel2", CONFIGS["sentinel2"].settings()
  )
  (path,) = unseen.make_tiles(safe, config, tmp_path / "tiles")
  assert path.parent == tmp_path / "tiles"
  patches = tile_patches.open_tile(path, config)
  assert len(patches.chosen.rows) == 4
  assert patches.scene.bands == products.BANDS_11


def test_inputs_that_make_no_tile_are_told(tmp_path):
  config = CONFIGS["sentinel2"]
  with pytest.raises(tiles.TileError, match="no such file"):
    unseen.make_tiles(tmp_path / "x.SAFE", config, tmp_path / "tiles")
  with pytest.raises(
    tiles.TileError, match="not the name of a Sentinel-2 product"
  ):
    unseen.make_tiles(tmp_path, config, tmp_path / "tiles")


def test_codes_are_written_with_their_colours(tmp_path):
  codes = np.array([[0, 1, 255], [2, 1, 0]], np.uint8)
  grid = grids.Grid(2, 3, 500000.0, 4000000.0, 1280.0, 1280.0, 32633)
  colors = np.array([[1, 2, 3], [255, 0, 128], [9, 9, 9]], np.uint8)
  path = tmp_path / "codes.tif"
  tile_writer.write_codes(
    path, codes, band="zone", grid=grid, date=None, colors=colors, no_data=255
  )
  tile = tiles.open_tile(path, "uint8")
  assert (tile.grid, tile.bands) == (grid, ("zone",))
  np.testing.assert_array_equal(tile.read(["zone"])[..., 0], codes)
  with tifffile.TiffFile(path) as tif:
    page = tif.pages.first
    assert page.photometric.name == "PALETTE"
    np.testing.assert_array_equal(page.colormap[:, :3].T // 257, colors)
    assert page.tags[42113].value == "255"
  with pytest.raises(ValueError, match="codes on"):
    tile_writer.write_codes(
      path,
      codes[:1],
      band="zone",
      grid=grid,
      date=None,
      colors=colors,
      no_data=255,
    )
