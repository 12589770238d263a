import datetime

import h5py
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from data_prep import rasters, tiles
from data_prep.sources import earth


@pytest.fixture(scope="module")
def source():
  return earth.Earth(
    overlap=17, months_per_block=2, open_sea_kept=0.1, region=(45, 5, 50, 15)
  )


@pytest.fixture(scope="module")
def june():
  source = earth.Earth(overlap=17, months_per_block=2, open_sea_kept=0.1)
  return source.open_month(None, 6)


def test_colours_are_those_of_the_image(june):
  with Image.open(rasters.JUNE_2004.path()) as image:
    image = np.asarray(image)
  rows, cols = slice(600, 692), slice(3000, 3092)
  pixels = june(rows, cols)
  assert (pixels.shape, pixels.dtype) == ((92, 92, 5), np.int16)
  np.testing.assert_array_equal(pixels[..., :3], image[rows, cols])
  # Beyond 180 degrees east the map begins anew.
  over = june(rows, slice(5325, 5417))
  np.testing.assert_array_equal(over[:, 75:, :3], image[rows, :17])
  np.testing.assert_array_equal(over[:, 75:], june(rows, slice(0, 17)))


@pytest.mark.parametrize(
  "window",
  [
    (slice(600, 692), slice(3000, 3092)),
    (slice(0, 92), slice(0, 92)),
    (slice(1350, 1442), slice(5325, 5417)),
    (slice(2625, 2700), slice(2700, 2792)),
  ],
)  # the open, the first corner, across 180, the south pole
def test_altitude_and_turbidity_are_bilinear(june, window):
  with h5py.File(rasters.ALTITUDE.path()) as file:
    code = file["Altitude"][:].astype(float)
  metres = np.where(code == 255, 0, 28 * code - 450)
  with h5py.File(rasters.TURBIDITY.path()) as file:
    turbidity = file["LinkeTurbidity"][..., 5].astype(float)
  rows, cols = np.mgrid[window]
  at = [(rows + 0.5) * 0.8 - 0.5, (cols + 0.5) * 0.8 - 0.5]
  at[0] = np.clip(at[0], 0, 2159)
  for band, grid in [(3, metres), (4, turbidity)]:
    expected = scipy.ndimage.map_coordinates(
      grid, at, order=1, mode="grid-wrap"
    )
    found = june(*window)[..., band]
    # Rounded to whole metres, and twentieths of turbidity.
    assert np.abs(found - expected).max() <= 0.501


@pytest.mark.parametrize(
  ("lat", "lon", "low", "high"),
  [
    (34.0, 88.0, 4500, 6000),  # Tibet
    (-33.0, -70.0, 2500, 6500),  # the Andes
    (52.5, 5.5, -20, 60),  # the Netherlands
    (31.5, 35.5, -450, 0),  # the Dead Sea
    (0.0, -30.0, -20, 20),  # the Atlantic
  ],
)
def test_altitudes_of_the_earth(june, lat, lon, low, high):
  row, col = int((90 - lat) * 15), int((lon + 180) * 15)
  altitude = june(slice(row, row + 1), slice(col, col + 1))[0, 0, 3]
  assert low <= altitude <= high


def test_turbidity_is_that_of_the_month(source):
  window = slice(900, 975), slice(2700, 2775)
  january, june = (source.open_month(None, m)(*window) for m in (1, 6))
  np.testing.assert_array_equal(january[..., :4], june[..., :4])
  assert np.abs(january[..., 4] - june[..., 4]).mean() > 1
  # 20 times a Linke turbidity of 1 to 10.
  assert 20 <= january[..., 4].min() <= january[..., 4].max() <= 200


def test_tiles_lie_where_their_pixels_lie(source, tmp_path):
  paths, _ = source.cut_tiles(tmp_path, None)
  assert len(paths) == len(set(paths)) == 4
  assert sorted(tmp_path.iterdir()) == paths
  tile = tiles.open_tile(paths[-1], "int16")
  month, grid = tile.date.month, tile.grid
  assert tile.bands == ("red", "green", "blue", "altitude", "turbidity")
  assert tile.date == datetime.datetime(2004, month, 15, 12)
  assert (grid.height, grid.width, grid.epsg) == (92, 92, 4326)
  assert paths[-1].name == (
    f"N{grid.north:02.0f}E{grid.west:03.0f}_2004{month:02d}15.tif"
  )
  top, left = round((90 - grid.north) * 15), round((grid.west + 180) * 15)
  pixels = source.open_month(None, month)(
    slice(top, top + 92), slice(left, left + 92)
  )
  np.testing.assert_array_equal(tile.read(tile.bands), pixels)


def test_whole_tiles_are_not_cut_again_but_others_are(source, tmp_path):
  paths, _ = source.cut_tiles(tmp_path, None)
  whole = {path: path.read_bytes() for path in paths}
  paths[3].unlink()
  paths[1].write_bytes(b"kept as it is")
  # What a kill in the middle of a write leaves.
  leftover = tmp_path / f".{paths[3].name}.4321.tmp"
  leftover.write_bytes(whole[paths[3]][:1000])
  assert source.cut_tiles(tmp_path, None) == (paths, [])
  assert paths[3].read_bytes() == whole[paths[3]]
  assert paths[1].read_bytes() == b"kept as it is"
  assert sorted(tmp_path.iterdir()) == paths


def test_names_of_tiles():
  assert earth.tile_name(0, 0, 1) == "N90W180_20040115.tif"
  assert earth.tile_name(8, 38, 6) == "N50E010_20040615.tif"
  assert earth.tile_name(18, 36, 12) == "N00E000_20041215.tif"
  assert earth.tile_name(35, 71, 12) == "S85E175_20041215.tif"


def test_blocks_with_land_are_cut_and_some_of_the_sea():
  every, none, some = (
    earth.Earth(overlap=17, months_per_block=1, open_sea_kept=kept).blocks()
    for kept in (1, 0, 0.25)
  )
  assert len(every) == 36 * 72
  assert set(none) < set(some) < set(every)
  kept = (len(some) - len(none)) / (len(every) - len(none))
  assert 0.2 < kept < 0.3
  assert {(8, 38), (35, 71), (34, 0)} <= set(none)  # the Alps, Antarctica
  assert not {(12, 28), (18, 8)} & set(none)  # the Atlantic, the Pacific


def test_a_region_is_a_part_of_the_whole(source):
  kwargs = {"overlap": 17, "months_per_block": 2, "open_sea_kept": 0.1}
  whole = earth.Earth(**kwargs)
  expected = [
    (row, col)
    for row, col in whole.blocks()
    if 45 < 90 - 5 * row <= 50 and 5 <= 5 * col - 180 < 15
  ]
  assert source.blocks() == expected
  assert all(source.months(*b) == whole.months(*b) for b in expected)


def test_each_block_is_seen_in_several_months():
  source = earth.Earth(overlap=17, months_per_block=4, open_sea_kept=0.1)
  months = [source.months(row, col) for row in range(36) for col in range(72)]
  assert all(m == sorted(set(m)) and len(m) == 4 for m in months)
  counts = np.bincount(np.concatenate(months), minlength=13)
  assert counts[0] == 0
  # A third of 2592 blocks in each month, give or take 4 standard deviations.
  assert (np.abs(counts[1:] - 864) < 96).all()
  fewer = earth.Earth(overlap=17, months_per_block=3, open_sea_kept=0.1)
  assert set(fewer.months(5, 7)) < set(source.months(5, 7))


def test_windows_end_at_the_south_pole():
  source = earth.Earth(overlap=17, months_per_block=1, open_sea_kept=0.1)
  assert source.window(0, 0) == (slice(0, 92), slice(0, 92))
  assert source.window(34, 71) == (slice(2550, 2642), slice(5325, 5417))
  assert source.window(35, 0) == (slice(2625, 2700), slice(0, 92))
