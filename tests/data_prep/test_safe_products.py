"""Products become tiles, whole or not at all."""

import shutil
import zipfile

import numpy as np
import pytest
import sentinel2_samples as samples

from data_prep import grids, products, safe_products, tiles


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
  ("name", "epsg", "north"),
  [(samples.PRODUCT, 32633, 5400000), (samples.SOUTH, 32720, 6100020)],
)
def test_a_product_becomes_a_tile(tmp_path, name, epsg, north, as_zip):
  pixels = samples.make_bands()
  path = samples.make_safe(tmp_path, name, epsg, north, pixels)
  if as_zip:
    safe, path = path, samples.make_zip(path)
    shutil.rmtree(safe)
  (tmp_path / "tiles").mkdir()
  found = safe_products.convert_safe(path, tmp_path / "tiles")
  assert found == tmp_path / "tiles" / f"{name}_s2.tif"
  assert list((tmp_path / "tiles").iterdir()) == [found]
  grid = grids.Grid(samples.SIDE, samples.SIDE, 600000, north, 10, 10, epsg)
  tile = samples.assert_tile(found, pixels, grid)
  assert tile.date == products.parse_product(name).date
  # No class that was not there; DN with their offset.
  assert set(np.unique(tile.read(["SCL"]))) == set(samples.CLASSES)
  lat, _ = tile.grid.pixel_to_latlon(0, 0)
  assert (lat < 0) == (name == samples.SOUTH)


def test_a_tile_that_is_there_is_kept(tmp_path):
  (tmp_path / f"{samples.PRODUCT}_s2.tif").write_bytes(b"kept")
  (tmp_path / f"{samples.PRODUCT}.SAFE").mkdir()
  path = safe_products.convert_safe(
    tmp_path / f"{samples.PRODUCT}.SAFE", tmp_path
  )
  assert path.read_bytes() == b"kept"


def edit_metadata(safe, old, new):
  path = safe / "GRANULE" / "L2A_T33UXP_A034157" / "MTD_TL.xml"
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


def cut(safe, band, size):
  path = samples.jp2_path(safe, band)
  path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
  ("spoil", "reason"),
  [
    (
      lambda safe: samples.jp2_path(safe, "B8A").unlink(),
      r"0 files .*_B8A_20m.jp2",
    ),
    (lambda safe: cut(safe, "B05", 1000), "band B05: "),
    (lambda safe: cut(safe, "SCL", 0), "band SCL: "),
    (
      lambda safe: samples.jp2_path(safe, "B11").write_bytes(
        samples.jp2(np.ones((60, 58), np.uint16))
      ),
      r"band B11 is uint16 of \(60, 58\), expected uint16 of \(60, 60\)",
    ),
    (
      lambda safe: samples.jp2_path(safe, "B02").write_bytes(
        samples.jp2(np.ones((120, 120), np.uint8))
      ),
      "band B02 is uint8",
    ),
    (
      lambda safe: shutil.copy(
        samples.jp2_path(safe, "B02"),
        samples.jp2_path(safe, "B02").with_name("X_B02_10m.jp2"),
      ),
      "2 files .*_B02_10m.jp2, expected 1",
    ),
    (
      lambda safe: shutil.rmtree(safe / "GRANULE"),
      "0 files GRANULE/.*/MTD_TL.xml, expected 1",
    ),
    (lambda safe: edit_metadata(safe, "<Tile_", "<"), "MTD_TL.xml is not XML"),
    (
      lambda safe: edit_metadata(safe, "EPSG:32633", "WGS84"),
      "HORIZONTAL_CS_CODE is 'WGS84', expected EPSG:<code>",
    ),
    (
      lambda safe: edit_metadata(safe, ">600000<", "><"),
      r"ULX is '', expected metres",
    ),
    (lambda safe: edit_metadata(safe, ">-10<", ">10<"), "YDIM is '10'"),
    (
      lambda safe: edit_metadata(safe, "<NROWS>120<", "<NROWS>121<"),
      "NROWS is '121', expected an even number",
    ),
  ],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_products_that_are_refused(tmp_path, spoil, reason, as_zip):
  path = samples.make_safe(tmp_path)
  spoil(path)
  if as_zip:
    path = samples.make_zip(path)
  (tmp_path / "tiles").mkdir()
  with pytest.raises(tiles.TileError, match=reason) as info:
    safe_products.convert_safe(path, tmp_path / "tiles")
  assert info.value.path == path
  assert not list((tmp_path / "tiles").iterdir())


@pytest.mark.parametrize(
  "member",
  [
    "../evil",
    f"{samples.PRODUCT}.SAFE/../../evil",
    "/evil",
    "..\\evil",
    "C:/x",
  ],
)
def test_zips_that_escape_are_refused(tmp_path, member):
  path = samples.make_zip(samples.make_safe(tmp_path))
  with zipfile.ZipFile(path, "a") as archive:
    archive.writestr(member, b"")
  with pytest.raises(tiles.TileError, match=r"(evil|C:/x) lies outside"):
    safe_products.convert_safe(path, tmp_path)


def test_zips_that_are_none_or_of_another_product(tmp_path):
  path = samples.make_zip(samples.make_safe(tmp_path))
  other = path.rename(tmp_path / f"{samples.SOUTH}.zip")
  with pytest.raises(
    tiles.TileError, match=f"holds {samples.PRODUCT}.SAFE, expected"
  ):
    safe_products.convert_safe(other, tmp_path)
  path.write_bytes(other.read_bytes()[:2000])
  with pytest.raises(tiles.TileError, match="not a zip file"):
    safe_products.convert_safe(path, tmp_path)
  with pytest.raises(
    tiles.TileError, match="is not the name of a Sentinel-2 product"
  ):
    safe_products.convert_safe(path.rename(tmp_path / "download.zip"), tmp_path)
