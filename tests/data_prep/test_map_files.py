"""A folder of files is one map."""

import dataclasses

import numpy as np
import pytest
from geotiff_samples import write_band
from map_samples import COLS, IMAGE, ROWS, SIZE, around, value_map

from data_prep import grids, map_files, map_targets, maps, tiles

RNG = np.random.default_rng(0)


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
