"""Scenes of a file a band: one grid for all, whatever their resolutions."""

import numpy as np
import pytest
import tifffile
from geotiff_samples import write_band
from scipy import ndimage

from data_prep import band_files, grids, tile_writer, tiles

RNG = np.random.default_rng(0)
GRID = grids.Grid(24, 36, 600000.0, 5500020.0, 10.0, 10.0, 32633)
BANDS = "B02", "B05", "B01", "SCL"
FACTORS = 1, 2, 6, 3


def coarser(factor, grid=GRID):
  return grids.Grid(
    grid.height // factor,
    grid.width // factor,
    grid.west,
    grid.north,
    grid.pixel_width * factor,
    grid.pixel_height * factor,
    grid.epsg,
  )


@pytest.fixture
def scene(tmp_path):
  """Paths and pixels of four bands of one scene."""
  pixels = [
    RNG.integers(1, 9000, (24 // f, 36 // f)).astype(np.uint16)
    for f in FACTORS[:-1]
  ] + [RNG.integers(0, 12, (8, 12)).astype(np.uint8)]
  paths = [
    write_band(tmp_path / f"{band}.tif", plane, coarser(factor))
    for band, plane, factor in zip(BANDS, pixels, FACTORS, strict=True)
  ]
  return paths, pixels


def bilinear(plane, factor):
  """At the centers of the finer pixels, by SciPy; halves are rounded up."""
  rows, cols = (
    (np.arange(side * factor) + 0.5) / factor - 0.5 for side in plane.shape
  )
  fine = ndimage.map_coordinates(
    plane.astype(float),
    np.meshgrid(rows, cols, indexing="ij"),
    order=1,
    mode="nearest",
  )
  return np.floor(fine + 0.5 + 1e-6)


def test_coarse_bands_are_bilinear_and_classes_the_pixel_they_lie_in(scene):
  paths, pixels = scene
  with band_files.opened(paths, BANDS, classes=("SCL",)) as tile:
    assert (tile.grid, tile.bands) == (GRID, BANDS)
    assert tile.dtype == np.uint16
    whole = tile.read(None)
    np.testing.assert_array_equal(whole[..., 0], pixels[0])
    for i in (1, 2):
      np.testing.assert_allclose(
        whole[..., i], bilinear(pixels[i], FACTORS[i]), atol=1e-6
      )
    repeated = np.kron(pixels[3], np.ones((3, 3), int))
    np.testing.assert_array_equal(whole[..., 3], repeated)
    # Windows are parts of the whole, wherever they begin.
    for row, col, height, width in (
      (0, 0, 1, 1),
      (5, 7, 8, 11),
      (23, 0, 1, 36),
    ):
      window = tile.read(None, row, col, height, width)
      np.testing.assert_array_equal(
        window, whole[row : row + height, col : col + width]
      )


def test_no_data_is_not_mixed(tmp_path):
  plane = np.array([[0, 100], [100, 100]], np.uint16)
  fine = grids.Grid(4, 4, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  paths = (
    write_band(tmp_path / "B02.tif", np.ones((4, 4), np.uint16), fine),
    write_band(tmp_path / "B05.tif", plane, coarser(2, fine), no_data=0),
  )
  with band_files.opened(paths, ("B02", "B05")) as tile:
    found = tile.read(("B05",))[..., 0]
  np.testing.assert_array_equal(found, np.kron(plane, np.ones((2, 2), int)))


@pytest.mark.parametrize(
  ("changes", "reason"),
  [
    ({"epsg": 32634}, "EPSG:32634, but B02.tif has EPSG:32633"),
    ({"west": 600001.0}, "upper left corner 600001, 5500020 and pixels of 20"),
    ({"pixel_width": 21.0}, "pixels of 21 x 20, but B02.tif has 600000"),
    ({"width": 17}, "12 x 17 pixels, but B02.tif has 24 x 36, no whole mult"),
  ],
)
def test_a_band_that_lies_elsewhere_is_named(scene, tmp_path, changes, reason):
  paths, _ = scene
  other = grids.Grid(**(vars(coarser(2)) | changes))
  pixels = np.ones((other.height, other.width), np.uint16)
  path = write_band(tmp_path / "other.tif", pixels, other)
  with (
    pytest.raises(tiles.TileError, match=reason) as caught,
    band_files.opened((paths[0], path), ("B02", "B05")),
  ):
    pass
  assert caught.value.path == path


def test_a_band_without_a_georeference_does_not_fit_one_that_has(
  scene, tmp_path
):
  paths, pixels = scene
  path = tmp_path / "plain.tif"
  tifffile.imwrite(path, pixels[1])
  with (
    pytest.raises(tiles.TileError, match=r"no georeference, but B02\.tif has"),
    band_files.opened((paths[0], path), ("B02", "B05")),
  ):
    pass


def test_the_wrong_number_of_bands_names_both(tmp_path):
  path = tmp_path / "a.npy"
  np.save(path, np.ones((4, 4, 3), np.uint8))
  with (
    pytest.raises(tiles.TileError, match="3 bands, expected 2: red, nir"),
    band_files.opened((path,), ("red", "nir")),
  ):
    pass
  np.save(path, np.ones((4, 4, 2), np.uint8))
  with (
    pytest.raises(tiles.TileError, match="2 bands, expected one: column B02"),
    band_files.opened((path, path), ("B02", "B03")),
  ):
    pass


def test_bands_that_a_file_names_are_taken_in_any_order(tmp_path):
  path = tmp_path / "a.tif"
  pixels = RNG.integers(0, 9, (4, 4, 3)).astype(np.uint8)
  tile_writer.write_tile(
    path,
    pixels,
    bands=("B04", "B03", "B02"),
    west=0.0,
    north=1.0,
    pixel_size=0.1,
    date=None,
  )
  with band_files.opened((path,), ("B02", "B04")) as tile:
    np.testing.assert_array_equal(
      tile.read(("B02", "B04")), pixels[..., [2, 0]]
    )
