"""Patches of BigEarthNet and of Major TOM become tiles."""

import datetime

import numpy as np
import pytest
import sentinel2_samples as samples
from pyarrow import parquet

from data_prep import grids, products, tiles
from data_prep.sources import bigearthnet, major_tom


def spoil_column(path, group, name):
  """Breaks a column of one row group; the others can be read."""
  metadata = parquet.read_metadata(path).row_group(group)
  columns = [metadata.column(i) for i in range(metadata.num_columns)]
  column = next(c for c in columns if c.path_in_schema == name)
  start = column.dictionary_page_offset or column.data_page_offset
  data = bytearray(path.read_bytes())
  data[start : start + 30] = b"\xff" * 30
  path.write_bytes(data)


def test_a_patch_of_bigearthnet_becomes_a_tile(tmp_path):
  patch = samples.make_patch(tmp_path)
  path = bigearthnet.BigEarthNet().make_tile(patch, tmp_path)
  assert path == tmp_path / f"{samples.PATCH}_s2.tif"
  grid = grids.Grid(120, 120, 404400, 5342400, 10, 10, 32633)
  tile = samples.assert_tile(
    path, samples.make_bands(bands=products.BANDS), grid
  )
  assert tile.date == datetime.datetime(2017, 6, 13, 10, 10, 31)


@pytest.mark.parametrize(
  ("band", "data", "reason"),
  [
    ("B05", b"", "B05.tif: "),
    (
      "B04",
      samples.geotiff(
        np.ones((120, 120), np.uint16), 404410.0, 5342400.0, 10.0
      ),
      "B04.tif: .*404410.0.*expected .*404400.0",
    ),
    (
      "B12",
      samples.geotiff(
        np.ones((60, 60), np.uint16), 404400.0, 5342400.0, 20.0, 32634
      ),
      "B12.tif: .*32634.*expected .*32633",
    ),
    (
      "B11",
      samples.geotiff(
        np.ones((120, 120), np.uint16), 404400.0, 5342400.0, 10.0
      ),
      "B11.tif: .*height=120.*expected .*height=60",
    ),
    (
      "B02",
      samples.geotiff(
        np.ones((100, 120), np.uint16), 404400.0, 5342400.0, 10.0
      ),
      "B02.tif: .*height=100.*expected .*height=120",
    ),
    (
      "B03",
      samples.geotiff(np.ones((120, 120), np.int16), 404400.0, 5342400.0, 10.0),
      "B03.tif: dtype int16, expected uint16",
    ),
  ],
)
def test_patches_that_are_refused(tmp_path, band, data, reason):
  patch = samples.make_patch(tmp_path, **{band: data})
  with pytest.raises(tiles.TileError, match=reason):
    bigearthnet.BigEarthNet().make_tile(patch, tmp_path)
  assert list(tmp_path.iterdir()) == [patch]


def test_a_patch_without_a_band_is_refused(tmp_path):
  patch = samples.make_patch(tmp_path)
  (patch / f"{samples.PATCH}_B08.tif").unlink()
  with pytest.raises(tiles.TileError, match=r"B08\.tif: no such file"):
    bigearthnet.BigEarthNet().make_tile(patch, tmp_path)


@pytest.mark.parametrize("row_group_size", [1, 8])
def test_cells_of_major_tom_become_tiles(tmp_path, cell, row_group_size):
  rows = [
    cell,
    {**cell, "grid_cell": "48U_705L", "B8A": None},
    {**cell, "grid_cell": "48U_706L", "B11": cell["B11"][:5000]},
    {**cell, "grid_cell": "48U_707L", "B03": cell["B05"]},
    {**cell, "grid_cell": "../x"},
    {**cell, "grid_cell": None},
    {**cell, "product_id": samples.SOUTH.replace("N0509", "N9999")},
    cell,
    {**cell, "grid_cell": "48D_704R"},
  ]
  path = samples.write_parquet(tmp_path / "part.parquet", rows, row_group_size)
  (tmp_path / "tiles").mkdir()
  paths, errors = major_tom.MajorTom().convert(path, tmp_path / "tiles")
  assert [path.name for path in paths] == [
    f"{samples.SOUTH}_48U_704L_s2.tif",
    f"{samples.SOUTH}_48D_704R_s2.tif",
  ]
  grid = grids.Grid(
    1068, 1068, 454436.35555845656, 486897.8391013466, 10, 10, 32620
  )
  tile = samples.assert_tile(paths[0], samples.CELL_BANDS, grid)
  assert tile.date == datetime.datetime(2023, 8, 26, 14, 37, 31)
  reasons = [error.reason for error in errors]
  assert {error.path for error in errors} == {path}
  for reason, part in zip(
    reasons,
    [
      "48U_705L: band B8A missing",
      "48U_706L: band B11: ",
      "48U_707L: band B03: 1 x Grid(height=534",
      "grid_cell '../x', expected as 48U_704L",
      "grid_cell None",
      "default_baseline",
      f"gives {samples.SOUTH}_48U_704L_s2.tif, as a row before it does",
    ],
    strict=True,
  ):
    assert part in reason
  group = 1 if row_group_size == 1 else 0
  assert reasons[0].startswith(f"row {1 - group} of row group {group}: ")


def test_cells_that_are_there_are_not_read_again(tmp_path, cell):
  path = samples.write_parquet(tmp_path / "part.parquet", [cell])
  spoil_column(path, 0, "B02")
  _, errors = major_tom.MajorTom().convert(path, tmp_path)
  assert len(errors) == 1
  (tmp_path / f"{samples.SOUTH}_48U_704L_s2.tif").write_bytes(b"kept")
  paths, errors = major_tom.MajorTom().convert(path, tmp_path)
  assert not errors
  assert [path.read_bytes() for path in paths] == [b"kept"]


def test_parquet_files_that_are_refused(tmp_path, cell):
  columns = [column for column in cell if column != "B06"]
  path = tmp_path / "part.parquet"
  samples.write_parquet(path, [{column: cell[column] for column in columns}])
  paths, errors = major_tom.MajorTom().convert(path, tmp_path)
  assert not paths
  assert [str(error) for error in errors] == [
    f"{path}: column B06 missing, it has {', '.join(columns)}"
  ]
  path.write_bytes(b"no parquet")
  _, errors = major_tom.MajorTom().convert(path, tmp_path)
  assert [error.path for error in errors] == [path]


def test_a_broken_row_group_does_not_stop_the_others(tmp_path, cell):
  rows = [{**cell, "grid_cell": f"{i}U_1L"} for i in range(3)]
  path = samples.write_parquet(tmp_path / "part.parquet", rows)
  spoil_column(path, 1, "grid_cell")
  paths, errors = major_tom.MajorTom().convert(path, tmp_path)
  assert [path.name for path in paths] == [
    f"{samples.SOUTH}_0U_1L_s2.tif",
    f"{samples.SOUTH}_2U_1L_s2.tif",
  ]
  assert len(errors) == 1
  assert errors[0].reason.startswith("row group 1: ")
