"""The source: what it finds in a folder, and what it leaves alone."""

import pickle
import shutil

import numpy as np
import pytest
import sentinel2_samples as samples
import tifffile

from data_prep import products, sources, task_maps, tiles
from data_prep.sources import bigearthnet, major_tom, sentinel2


@pytest.mark.shared_data
def test_real_patches_of_bigearthnet(tmp_path, shared_data):
  source = bigearthnet.BigEarthNet()
  folder = source.fetch(None, shared_data / "sentinel2" / "bigearthnet")
  paths, errors = source.cut_tiles(tmp_path, folder)
  assert not errors
  assert len(paths) == 6
  for path in paths:
    product = source.describe(path)
    assert 2017 <= product.date.year <= 2018
    assert product.baseline < "04.00"
    tile = tiles.open_tile(path, "uint16")
    found = tile.read(products.BANDS)
    for i, band in enumerate(products.BANDS):
      file = folder / product.name / f"{product.name}_{band}.tif"
      with tifffile.TiffFile(file) as tif:
        plane, tags = tif.asarray(), tif.pages.first.tags
        assert tags[33922].value[3:5] == (tile.grid.west, tile.grid.north)
        assert tif.geotiff_metadata["ProjectedCSTypeGeoKey"] == tile.grid.epsg
      np.testing.assert_array_equal(
        found[..., i], samples.expected_plane(band, plane)
      )


@pytest.mark.parametrize("folder", [None, "missing"])
def test_a_folder_is_needed(tmp_path, folder):
  folder = folder and tmp_path / folder
  with pytest.raises(tiles.TileError, match="--source=FOLDER"):
    sentinel2.Sentinel2().fetch(tmp_path, folder)
  assert sentinel2.Sentinel2().fetch(None, str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["sentinel2", "bigearthnet", "major_tom"])
def test_an_empty_folder_is_refused(tmp_path, name):
  (tmp_path / "readme.txt").touch()
  with pytest.raises(tiles.TileError, match=r"no .*\.(tif|SAFE|parquet)"):
    sources.find(name).source.cut_tiles(tmp_path / "tiles", tmp_path)


def test_settings_that_are_refused():
  with pytest.raises(ValueError, match=r"expected one such as '04\.00'"):
    sentinel2.Sentinel2(default_baseline="4")


def test_a_folder_of_products_and_tiles(tmp_path):
  folder = tmp_path / "products"
  made = samples.make_safe(folder / "deep" / "er")
  zipped = samples.make_zip(samples.make_safe(folder, samples.SOUTH, 32720))
  shutil.rmtree(folder / f"{samples.SOUTH}.SAFE")
  ready = samples.SOUTH.replace("20HMK", "20HNK")
  (folder / f"{ready}_s2.tif").write_bytes(b"used as it is")
  # A zip of what is there as a folder; a name that is none; a broken product;
  # one of unknown baseline.
  second = samples.make_zip(made)
  nameless = folder / "x_s2.tif"
  nameless.touch()
  broken = folder / f"{samples.PRODUCT.replace('33UXP', '33UXQ')}.SAFE"
  broken.mkdir()
  unknown = folder / f"{samples.PRODUCT.replace('N0301', 'N9999')}_s2.tif"
  unknown.touch()
  # Within the folder: what was made is no input the next time.
  directory = folder / "out"
  directory.mkdir()
  leftover = directory / f".{samples.PRODUCT}_s2.tif.4321.tmp"
  leftover.touch()
  source = sentinel2.Sentinel2()
  results = []
  for _ in range(2):
    paths, errors = source.cut_tiles(directory, folder)
    assert not leftover.exists()
    results.append((paths, [str(error) for error in errors]))
  assert results[0] == results[1]
  assert paths == [
    directory / f"{samples.PRODUCT}_s2.tif",
    directory / f"{samples.SOUTH}_s2.tif",
    folder / f"{ready}_s2.tif",
  ]
  assert paths[2].read_bytes() == b"used as it is"
  assert sorted(directory.iterdir()) == paths[:2]
  reasons = {error.path: error.reason for error in errors}
  assert len(reasons) == len(errors) == 4
  assert f"gives {samples.PRODUCT}_s2.tif, as {made} does" in reasons[second]
  assert "expected S2A_MSIL2A" in reasons[nameless]
  assert "0 files GRANULE/*/MTD_TL.xml" in reasons[broken]
  assert "default_baseline" in reasons[unknown]
  assert source.describe(paths[1]) == products.parse_product(zipped.name)
  source = sentinel2.Sentinel2(default_baseline="05.00")
  paths, errors = source.cut_tiles(directory, folder)
  assert len(errors) == 3
  assert source.describe(unknown).baseline == "05.00"
  assert unknown in paths


def test_processes_make_the_same_tiles(tmp_path):
  folder = tmp_path / "patches"
  for i in range(3):
    samples.make_patch(folder, f"S2A_MSIL2A_20170613T101031_87_{i}")
  bad = samples.make_patch(
    folder, "S2A_MSIL2A_20170613T101031_N9999_R022_T33UXP_1_2"
  )
  source = bigearthnet.BigEarthNet()
  with task_maps.open_map(1) as process_map:
    found, errors = source.cut_tiles(tmp_path / "a", folder, process_map)
  expected, expected_errors = source.cut_tiles(tmp_path / "b", folder)
  assert [p.name for p in found] == [p.name for p in expected]
  assert len(found) == 3
  for one, other in zip(found, expected, strict=True):
    assert one.read_bytes() == other.read_bytes()
  assert [str(e) for e in errors] == [str(e) for e in expected_errors]
  # Of version 2, whose names tell no baseline.
  assert [error.path for error in errors] == [bad]
  for default in (None, "05.00"):
    source = bigearthnet.BigEarthNet(default_baseline=default)
    assert source.describe(found[0]).baseline == "02.00"
  assert source.describe(bad).baseline == "05.00"
  assert pickle.loads(pickle.dumps(source)) == source


def test_two_files_of_the_same_cell(tmp_path, cell):
  folder = tmp_path / "images"
  folder.mkdir()
  first = samples.write_parquet(folder / "part_1.parquet", [cell])
  second = samples.write_parquet(folder / "part_2.parquet", [cell])
  (folder / "metadata.parquet").write_bytes(b"lists the cells, not read")
  source = major_tom.MajorTom()
  paths, errors = source.cut_tiles(tmp_path / "tiles", folder)
  assert [path.name for path in paths] == [f"{samples.SOUTH}_48U_704L_s2.tif"]
  assert source.describe(paths[0]).baseline == "05.09"
  assert [error.path for error in errors] == [second]
  assert f"as {first} does" in errors[0].reason


def test_collections_have_names_of_products():
  for source in (bigearthnet.BigEarthNet, major_tom.MajorTom):
    with pytest.raises(ValueError, match="leave out --date_from"):
      source(date_from=r"_(\d{8})")
