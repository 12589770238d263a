import concurrent.futures
import datetime
import io
import pickle
import shutil
import sys
import zipfile

import imagecodecs
import numpy as np
import pytest
import scipy.ndimage
import tifffile

from data_prep import sentinel2, tiles

PRODUCT = "S2A_MSIL2A_20220105T101411_N0301_R022_T33UXP_20220105T130211"
SOUTH = "S2B_MSIL2A_20230826T143731_N0509_R096_T20HMK_20230826T204202"
PATCH = "S2A_MSIL2A_20170613T101031_87_48"
SIDE = 120
CLASSES = (0, 4, 9, 11)

MTD_TL = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD">
  <n1:Geometric_Info>
    <Tile_Geocoding metadataLevel="Brief">
      <HORIZONTAL_CS_NAME>WGS84 / UTM zone</HORIZONTAL_CS_NAME>
      <HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>
      <Size resolution="20"><NROWS>60</NROWS><NCOLS>60</NCOLS></Size>
      <Size resolution="10"><NROWS>120</NROWS><NCOLS>120</NCOLS></Size>
      <Geoposition resolution="20">
        <ULX>1</ULX><ULY>1</ULY><XDIM>20</XDIM><YDIM>-20</YDIM>
      </Geoposition>
      <Geoposition resolution="10">
        <ULX>600000</ULX><ULY>{north}</ULY><XDIM>10</XDIM><YDIM>-10</YDIM>
      </Geoposition>
    </Tile_Geocoding>
  </n1:Geometric_Info>
</n1:Level-2A_Tile_ID>"""


def make_bands(side=SIDE, bands=sentinel2.BANDS_11):
  rng = np.random.default_rng(len(bands))
  pixels = {}
  for band in bands:
    size = side if band in ("B02", "B03", "B04", "B08") else side // 2
    if band == "SCL":
      pixels[band] = rng.choice(CLASSES, (size, size)).astype(np.uint8)
    else:
      pixels[band] = rng.integers(1, 12000, (size, size), np.uint16)
      pixels[band][:7, :9] = 0
  return pixels


def jp2(plane):
  return imagecodecs.jpeg2k_encode(
    plane, level=0, reversible=True, codecformat="jp2"
  )


def jp2_path(safe, band):
  resolution = 10 if band in ("B02", "B03", "B04", "B08") else 20
  return safe.joinpath(
    *("GRANULE", "L2A_T33UXP_A034157", "IMG_DATA", f"R{resolution}m"),
    f"T33UXP_20220105T101411_{band}_{resolution}m.jp2",
  )


def make_safe(folder, name=PRODUCT, epsg=32633, north=5400000, bands=None):
  safe = folder / f"{name}.SAFE"
  for band, plane in (make_bands() if bands is None else bands).items():
    path = jp2_path(safe, band)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jp2(plane))
  # Bands of the same name at 20 m are there as well.
  other = jp2_path(safe, "B05").with_name("T33UXP_20220105T101411_B02_20m.jp2")
  other.write_bytes(b"not read")
  metadata = safe / "GRANULE" / "L2A_T33UXP_A034157" / "MTD_TL.xml"
  metadata.write_text(MTD_TL.format(epsg=epsg, north=north))
  return safe


def make_zip(safe):
  path = safe.with_name(safe.name + ".zip")
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for file in sorted(safe.rglob("*")):
      archive.write(file, file.relative_to(safe.parent))
  return path


def geotiff(plane, west, north, pixel_size, epsg=32633):
  file = io.BytesIO()
  keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)
  tifffile.imwrite(
    file,
    plane,
    photometric="minisblack",
    metadata=None,
    extratags=[
      (33550, "d", 3, (pixel_size, pixel_size, 0.0), True),
      (33922, "d", 6, (0.0, 0.0, 0.0, west, north, 0.0), True),
      (34735, "H", len(keys), keys, True),
    ],
  )
  return file.getvalue()


def make_patch(folder, name=PATCH, **replaced):
  patch = folder / name
  patch.mkdir(parents=True)
  for band, plane in make_bands(bands=sentinel2.BANDS).items():
    size = 1200 / plane.shape[0]
    data = geotiff(plane, 404400.0, 5342400.0, size)
    (patch / f"{name}_{band}.tif").write_bytes(replaced.get(band, data))
  return patch


CELL_BANDS = make_bands(1068, sentinel2.BANDS)


@pytest.fixture(scope="module")
def cell():
  """A row of Major TOM; its corner lies between pixels, as they all do."""
  pytest.importorskip("pyarrow", reason="pyarrow reads Major TOM's files")
  row = {
    "product_id": SOUTH,
    "grid_cell": "48U_704L",
    "timestamp": "20230826T143731",
    "centre_lat": 4.3566,
    "centre_lon": -63.3625,
    "cloud_mask": b"not read",
  }
  for band, plane in CELL_BANDS.items():
    size = 10680 / plane.shape[0]
    row[band] = geotiff(
      plane, 454436.35555845656, 486897.8391013466, size, 32620
    )
  return row


def write_parquet(path, rows, row_group_size=1):
  import pyarrow
  from pyarrow import parquet

  table = pyarrow.Table.from_pylist(rows)
  parquet.write_table(table, path, row_group_size=row_group_size)
  return path


def spoil_column(path, group, name):
  """Breaks a column of one row group; the others can be read."""
  from pyarrow import parquet

  metadata = parquet.read_metadata(path).row_group(group)
  columns = [metadata.column(i) for i in range(metadata.num_columns)]
  column = next(c for c in columns if c.path_in_schema == name)
  start = column.dictionary_page_offset or column.data_page_offset
  data = bytearray(path.read_bytes())
  data[start : start + 30] = b"\xff" * 30
  path.write_bytes(data)


def bilinear(plane):
  """An oracle: coordinates of centres, halves rounded up."""
  at = [(np.arange(2 * n) - 0.5) / 2 for n in plane.shape]
  grid = np.meshgrid(*at, indexing="ij")
  exact = scipy.ndimage.map_coordinates(
    plane.astype(float), grid, order=1, mode="nearest"
  )
  return np.floor(exact + 0.5 + 1e-9)


def expected_plane(band, plane):
  if band in ("B02", "B03", "B04", "B08"):
    return plane
  nearest = plane.repeat(2, axis=0).repeat(2, axis=1)
  if band == "SCL":
    return nearest
  # All that a pixel of no data reaches, along with its diagonal.
  at = [(np.arange(2 * n) - 0.5) / 2 for n in plane.shape]
  grid = np.meshgrid(*at, indexing="ij")
  touched = scipy.ndimage.map_coordinates(
    (plane == 0).astype(float), grid, order=1, mode="nearest"
  )
  return np.where(touched > 0, nearest, bilinear(plane))


def assert_tile(path, pixels, grid):
  tile = tiles.open_tile(path, "uint16")
  assert tile.bands == tuple(pixels)
  assert tile.grid == grid
  found = tile.read(tile.bands)
  for i, (band, plane) in enumerate(pixels.items()):
    np.testing.assert_array_equal(
      found[..., i], expected_plane(band, plane), band
    )
  return tile


def test_names_of_products():
  product = sentinel2.parse_product(PRODUCT)
  assert product == sentinel2.Product(
    name=PRODUCT,
    date=datetime.datetime(2022, 1, 5, 10, 14, 11),
    baseline="03.01",
    mgrs="33UXP",
    relative_orbit=22,
  )
  for suffix in (
    *(".SAFE", ".SAFE.zip", ".zip"),
    *("_s2.tif", "_s2.npy", "_train_s2.npy"),
  ):
    assert sentinel2.parse_product(PRODUCT + suffix) == product
  # What the name tells goes before the default.
  assert sentinel2.parse_product(PRODUCT, "05.00") == product
  short = PRODUCT.rpartition("_")[0].replace("S2A", "S2C")
  assert sentinel2.parse_product(short).mgrs == "33UXP"
  assert sentinel2.parse_product(short).name == short
  cell = sentinel2.parse_product(f"{SOUTH}_48U_704L_s2.tif")
  assert (cell.name, cell.mgrs) == (f"{SOUTH}_48U_704L", "20HMK")


@pytest.mark.parametrize(
  ("digits", "time"),
  [
    ("101031", (10, 10, 31)),
    ("93020", (9, 30, 20)),
    ("94161", (9, 41, 59)),  # a real one; the seconds are lost
    ("9302", (9, 30, 20)),
    ("1010", (10, 10, 0)),
    ("930", (9, 30, 0)),
    ("9", (9, 0, 0)),
  ],
)
def test_names_of_bigearthnet(digits, time):
  name = f"S2B_MSIL2A_20170924T{digits}_69_24"
  product = sentinel2.parse_product(name, "02.05")
  date = datetime.datetime(2017, 9, 24, *time)
  assert product == sentinel2.Product(name, date, "02.05", "", -1)


@pytest.mark.parametrize(
  "name",
  [
    PATCH,
    PRODUCT.replace("N0301", "N9999"),  # made by a user of Sen2Cor
    PRODUCT.replace("_N0301", ""),  # of Planetary Computer
    PRODUCT.replace("N0301", "N9999") + "_12_3",  # of BigEarthNet 2
  ],
)
def test_a_baseline_that_is_not_told_is_asked_for(name):
  with pytest.raises(ValueError, match="config key default_baseline"):
    sentinel2.parse_product(name)
  assert sentinel2.parse_product(name, "04.00").baseline == "04.00"
  with pytest.raises(ValueError, match=r"expected one such as '04\.00'"):
    sentinel2.parse_product(name, "4")


@pytest.mark.parametrize(
  "name",
  [
    "",
    "tile_s2.tif",
    PRODUCT.replace("L2A", "L1C"),
    PRODUCT.replace("20220105T", "20221305T"),
    PRODUCT.replace("T101411", "T991411"),
    PRODUCT + "_more",
    "S2A_MSIL2A_20170230T101031_87_48",
    f"../{PRODUCT}",
  ],
)
def test_names_of_nothing(name):
  with pytest.raises(ValueError, match="expected S2A_MSIL2A_<yyyymmdd>"):
    sentinel2.parse_product(name, "02.00")


def test_the_offset_goes_and_no_data_stays():
  dn = np.array([0, 1, 999, 1000, 1001, 1002, 11000, 65535], np.uint16)
  for baseline in ("02.14", "03.01"):
    np.testing.assert_array_equal(sentinel2.remove_offset(dn, baseline), dn)
  for baseline in ("04.00", "05.09", "10.00"):
    found = sentinel2.remove_offset(dn, baseline)
    assert found.dtype == np.uint16
    assert found.tolist() == [0, 1, 1, 1, 1, 2, 10000, 64535]
  assert dn[3] == 1000, "in place"
  with pytest.raises(ValueError, match="int16, expected uint16"):
    sentinel2.remove_offset(dn.astype(np.int16), "04.00")
  with pytest.raises(ValueError, match=r"'4\.0', expected"):
    sentinel2.remove_offset(dn, "4.0")


@pytest.mark.parametrize("strip", [1, 4, 256])
def test_upsampling_is_bilinear(strip, monkeypatch):
  monkeypatch.setattr(sentinel2, "_STRIP", strip)
  plane = np.random.default_rng(0).integers(1, 2**16, (13, 9), np.uint16)
  found = sentinel2.upsample(plane)
  assert (found.shape, found.dtype) == ((26, 18), np.uint16)
  np.testing.assert_array_equal(found, bilinear(plane))
  # A slope stays where it is: areas, not centres, are aligned.
  slope = np.arange(100, 1700, 16, dtype=np.uint16)[None].repeat(3, axis=0)
  np.testing.assert_array_equal(
    sentinel2.upsample(slope)[2, 1:-1], np.arange(104, 1688, 8)
  )


@pytest.mark.parametrize("strip", [1, 256])
def test_no_data_is_not_mixed(strip, monkeypatch):
  monkeypatch.setattr(sentinel2, "_STRIP", strip)
  plane = np.full((6, 6), 5000, np.uint16)
  plane[2, 3] = plane[5, 0] = 0
  plane[0, 0] = 1000
  found = sentinel2.upsample(plane)
  # The corner of 1000 reaches three rows.
  assert set(np.unique(found[3:])) == {0, 5000}
  assert set(np.unique(found[:3, :3])) == {1000, 2000, 2750, 4000, 4250, 4750}
  np.testing.assert_array_equal(
    found == 0, (plane == 0).repeat(2, axis=0).repeat(2, axis=1)
  )
  np.testing.assert_array_equal(found, expected_plane("B05", plane))


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
  ("name", "epsg", "north"),
  [(PRODUCT, 32633, 5400000), (SOUTH, 32720, 6100020)],
)
def test_a_product_becomes_a_tile(tmp_path, name, epsg, north, as_zip):
  pixels = make_bands()
  path = make_safe(tmp_path, name, epsg, north, pixels)
  if as_zip:
    safe, path = path, make_zip(path)
    shutil.rmtree(safe)
  (tmp_path / "tiles").mkdir()
  found = sentinel2.convert_safe(path, tmp_path / "tiles")
  assert found == tmp_path / "tiles" / f"{name}_s2.tif"
  assert list((tmp_path / "tiles").iterdir()) == [found]
  grid = tiles.Grid(SIDE, SIDE, 600000, north, 10, 10, epsg)
  tile = assert_tile(found, pixels, grid)
  assert tile.date == sentinel2.parse_product(name).date
  # No class that was not there; DN with their offset.
  assert set(np.unique(tile.read(["SCL"]))) == set(CLASSES)
  lat, _ = tile.grid.pixel_to_latlon(0, 0)
  assert (lat < 0) == (name == SOUTH)


def test_a_tile_that_is_there_is_kept(tmp_path):
  (tmp_path / f"{PRODUCT}_s2.tif").write_bytes(b"kept")
  (tmp_path / f"{PRODUCT}.SAFE").mkdir()
  path = sentinel2.convert_safe(tmp_path / f"{PRODUCT}.SAFE", tmp_path)
  assert path.read_bytes() == b"kept"


def edit_metadata(safe, old, new):
  path = safe / "GRANULE" / "L2A_T33UXP_A034157" / "MTD_TL.xml"
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


def cut(safe, band, size):
  path = jp2_path(safe, band)
  path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
  ("spoil", "reason"),
  [
    (lambda safe: jp2_path(safe, "B8A").unlink(), r"0 files .*_B8A_20m.jp2"),
    (lambda safe: cut(safe, "B05", 1000), "band B05: "),
    (lambda safe: cut(safe, "SCL", 0), "band SCL: "),
    (
      lambda safe: jp2_path(safe, "B11").write_bytes(
        jp2(np.ones((60, 58), np.uint16))
      ),
      r"band B11 is uint16 of \(60, 58\), expected uint16 of \(60, 60\)",
    ),
    (
      lambda safe: jp2_path(safe, "B02").write_bytes(
        jp2(np.ones((120, 120), np.uint8))
      ),
      "band B02 is uint8",
    ),
    (
      lambda safe: shutil.copy(
        jp2_path(safe, "B02"), jp2_path(safe, "B02").with_name("X_B02_10m.jp2")
      ),
      "2 files .*_B02_10m.jp2, expected 1",
    ),
    (
      lambda safe: shutil.rmtree(safe / "GRANULE"),
      "0 files GRANULE/.*/MTD_TL.xml, expected 1",
    ),
    (lambda safe: edit_metadata(safe, "<Tile_", "<"), "MTD_TL.xml is no XML"),
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
  path = make_safe(tmp_path)
  spoil(path)
  if as_zip:
    path = make_zip(path)
  (tmp_path / "tiles").mkdir()
  with pytest.raises(tiles.TileError, match=reason) as info:
    sentinel2.convert_safe(path, tmp_path / "tiles")
  assert info.value.path == path
  assert not list((tmp_path / "tiles").iterdir())


@pytest.mark.parametrize(
  "member",
  ["../evil", f"{PRODUCT}.SAFE/../../evil", "/evil", "..\\evil", "C:/x"],
)
def test_zips_that_escape_are_refused(tmp_path, member):
  path = make_zip(make_safe(tmp_path))
  with zipfile.ZipFile(path, "a") as archive:
    archive.writestr(member, b"")
  with pytest.raises(tiles.TileError, match=r"(evil|C:/x) lies outside"):
    sentinel2.convert_safe(path, tmp_path)


def test_zips_that_are_none_or_of_another_product(tmp_path):
  path = make_zip(make_safe(tmp_path))
  other = path.rename(tmp_path / f"{SOUTH}.zip")
  with pytest.raises(tiles.TileError, match=f"holds {PRODUCT}.SAFE, expected"):
    sentinel2.convert_safe(other, tmp_path)
  path.write_bytes(other.read_bytes()[:2000])
  with pytest.raises(tiles.TileError, match="not a zip file"):
    sentinel2.convert_safe(path, tmp_path)
  with pytest.raises(tiles.TileError, match="is no name of a Level-2A product"):
    sentinel2.convert_safe(path.rename(tmp_path / "download.zip"), tmp_path)


def test_a_patch_of_bigearthnet_becomes_a_tile(tmp_path):
  patch = make_patch(tmp_path)
  path = sentinel2.convert_bigearthnet(patch, tmp_path)
  assert path == tmp_path / f"{PATCH}_s2.tif"
  grid = tiles.Grid(120, 120, 404400, 5342400, 10, 10, 32633)
  tile = assert_tile(path, make_bands(bands=sentinel2.BANDS), grid)
  assert tile.date == datetime.datetime(2017, 6, 13, 10, 10, 31)


@pytest.mark.parametrize(
  ("band", "data", "reason"),
  [
    ("B05", b"", "B05.tif: "),
    (
      "B04",
      geotiff(np.ones((120, 120), np.uint16), 404410.0, 5342400.0, 10.0),
      "B04.tif: .*404410.0.*expected .*404400.0",
    ),
    (
      "B12",
      geotiff(np.ones((60, 60), np.uint16), 404400.0, 5342400.0, 20.0, 32634),
      "B12.tif: .*32634.*expected .*32633",
    ),
    (
      "B11",
      geotiff(np.ones((120, 120), np.uint16), 404400.0, 5342400.0, 10.0),
      "B11.tif: .*height=120.*expected .*height=60",
    ),
    (
      "B02",
      geotiff(np.ones((100, 120), np.uint16), 404400.0, 5342400.0, 10.0),
      "B02.tif: .*height=100.*expected .*height=120",
    ),
    (
      "B03",
      geotiff(np.ones((120, 120), np.int16), 404400.0, 5342400.0, 10.0),
      "B03.tif: dtype int16, expected uint16",
    ),
  ],
)
def test_patches_that_are_refused(tmp_path, band, data, reason):
  patch = make_patch(tmp_path, **{band: data})
  with pytest.raises(tiles.TileError, match=reason):
    sentinel2.convert_bigearthnet(patch, tmp_path)
  assert list(tmp_path.iterdir()) == [patch]


def test_a_patch_without_a_band_is_refused(tmp_path):
  patch = make_patch(tmp_path)
  (patch / f"{PATCH}_B08.tif").unlink()
  with pytest.raises(tiles.TileError, match=r"B08\.tif: no such file"):
    sentinel2.convert_bigearthnet(patch, tmp_path)


@pytest.mark.shared_data
def test_real_patches_of_bigearthnet(tmp_path, shared_data):
  source = sentinel2.Sentinel2(kind="bigearthnet")
  folder = source.fetch(None, shared_data / "sentinel2" / "bigearthnet")
  paths, errors = source.cut_tiles(tmp_path, folder)
  assert not errors
  assert len(paths) == 6
  for path in paths:
    product = source.describe(path)
    assert 2017 <= product.date.year <= 2018
    assert product.baseline < "04.00"
    tile = tiles.open_tile(path, "uint16")
    found = tile.read(sentinel2.BANDS)
    for i, band in enumerate(sentinel2.BANDS):
      file = folder / product.name / f"{product.name}_{band}.tif"
      with tifffile.TiffFile(file) as tif:
        plane, tags = tif.asarray(), tif.pages.first.tags
        assert tags[33922].value[3:5] == (tile.grid.west, tile.grid.north)
        assert tif.geotiff_metadata["ProjectedCSTypeGeoKey"] == tile.grid.epsg
      np.testing.assert_array_equal(found[..., i], expected_plane(band, plane))


@pytest.mark.parametrize("row_group_size", [1, 8])
def test_cells_of_major_tom_become_tiles(tmp_path, cell, row_group_size):
  rows = [
    cell,
    {**cell, "grid_cell": "48U_705L", "B8A": None},
    {**cell, "grid_cell": "48U_706L", "B11": cell["B11"][:5000]},
    {**cell, "grid_cell": "48U_707L", "B03": cell["B05"]},
    {**cell, "grid_cell": "../x"},
    {**cell, "grid_cell": None},
    {**cell, "product_id": SOUTH.replace("N0509", "N9999")},
    cell,
    {**cell, "grid_cell": "48D_704R"},
  ]
  path = write_parquet(tmp_path / "part.parquet", rows, row_group_size)
  (tmp_path / "tiles").mkdir()
  paths, errors = sentinel2.convert_major_tom(path, tmp_path / "tiles")
  assert [path.name for path in paths] == [
    f"{SOUTH}_48U_704L_s2.tif",
    f"{SOUTH}_48D_704R_s2.tif",
  ]
  grid = tiles.Grid(
    1068, 1068, 454436.35555845656, 486897.8391013466, 10, 10, 32620
  )
  tile = assert_tile(paths[0], CELL_BANDS, grid)
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
      f"gives {SOUTH}_48U_704L_s2.tif, as a row before it does",
    ],
    strict=True,
  ):
    assert part in reason
  group = 1 if row_group_size == 1 else 0
  assert reasons[0].startswith(f"row {1 - group} of row group {group}: ")


def test_cells_that_are_there_are_not_read_again(tmp_path, cell):
  path = write_parquet(tmp_path / "part.parquet", [cell])
  spoil_column(path, 0, "B02")
  _, errors = sentinel2.convert_major_tom(path, tmp_path)
  assert len(errors) == 1
  (tmp_path / f"{SOUTH}_48U_704L_s2.tif").write_bytes(b"kept")
  paths, errors = sentinel2.convert_major_tom(path, tmp_path)
  assert not errors
  assert [path.read_bytes() for path in paths] == [b"kept"]


def test_parquet_files_that_are_refused(tmp_path, cell):
  columns = [column for column in cell if column != "B06"]
  path = tmp_path / "part.parquet"
  write_parquet(path, [{column: cell[column] for column in columns}])
  paths, errors = sentinel2.convert_major_tom(path, tmp_path)
  assert not paths
  assert [str(error) for error in errors] == [
    f"{path}: column B06 missing, it has {', '.join(columns)}"
  ]
  path.write_bytes(b"no parquet")
  _, errors = sentinel2.convert_major_tom(path, tmp_path)
  assert [error.path for error in errors] == [path]


def test_a_broken_row_group_does_not_stop_the_others(tmp_path, cell):
  rows = [{**cell, "grid_cell": f"{i}U_1L"} for i in range(3)]
  path = write_parquet(tmp_path / "part.parquet", rows)
  spoil_column(path, 1, "grid_cell")
  paths, errors = sentinel2.convert_major_tom(path, tmp_path)
  assert [path.name for path in paths] == [
    f"{SOUTH}_0U_1L_s2.tif",
    f"{SOUTH}_2U_1L_s2.tif",
  ]
  assert len(errors) == 1
  assert errors[0].reason.startswith("row group 1: ")


@pytest.mark.parametrize("folder", [None, "missing"])
def test_a_folder_is_needed(tmp_path, folder):
  folder = folder and tmp_path / folder
  with pytest.raises(tiles.TileError, match="--source=FOLDER"):
    sentinel2.Sentinel2().fetch(tmp_path, folder)
  assert sentinel2.Sentinel2().fetch(None, str(tmp_path)) == tmp_path


def test_a_missing_package_is_told_before_any_work(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  with pytest.raises(tiles.TileError, match="pyarrow is missing"):
    sentinel2.Sentinel2("major_tom").fetch(None, tmp_path)
  assert sentinel2.Sentinel2().fetch(None, tmp_path) == tmp_path


@pytest.mark.parametrize("kind", sentinel2.KINDS)
def test_an_empty_folder_is_refused(tmp_path, kind):
  (tmp_path / "readme.txt").touch()
  with pytest.raises(tiles.TileError, match=r"no .*\.(tif|SAFE|parquet)"):
    sentinel2.Sentinel2(kind).cut_tiles(tmp_path / "tiles", tmp_path)


def test_settings_that_are_refused():
  with pytest.raises(ValueError, match="'safe', expected tiles, bigearthnet"):
    sentinel2.Sentinel2("safe")
  with pytest.raises(ValueError, match=r"expected one such as '04\.00'"):
    sentinel2.Sentinel2(default_baseline="4")


def test_a_folder_of_products_and_tiles(tmp_path):
  folder = tmp_path / "products"
  made = make_safe(folder / "deep" / "er")
  zipped = make_zip(make_safe(folder, SOUTH, 32720))
  shutil.rmtree(folder / f"{SOUTH}.SAFE")
  ready = SOUTH.replace("20HMK", "20HNK")
  (folder / f"{ready}_s2.tif").write_bytes(b"used as it is")
  # A zip of what is there as a folder; a name that is none; a broken product;
  # one of unknown baseline.
  second = make_zip(made)
  nameless = folder / "x_s2.tif"
  nameless.touch()
  broken = folder / f"{PRODUCT.replace('33UXP', '33UXQ')}.SAFE"
  broken.mkdir()
  unknown = folder / f"{PRODUCT.replace('N0301', 'N9999')}_s2.tif"
  unknown.touch()
  # Within the folder: what was made is no input the next time.
  directory = folder / "out"
  directory.mkdir()
  leftover = directory / f".{PRODUCT}_s2.tif.4321.tmp"
  leftover.touch()
  source = sentinel2.Sentinel2()
  results = []
  for _ in range(2):
    paths, errors = source.cut_tiles(directory, folder)
    assert not leftover.exists()
    results.append((paths, [str(error) for error in errors]))
  assert results[0] == results[1]
  assert paths == [
    directory / f"{PRODUCT}_s2.tif",
    directory / f"{SOUTH}_s2.tif",
    folder / f"{ready}_s2.tif",
  ]
  assert paths[2].read_bytes() == b"used as it is"
  assert sorted(directory.iterdir()) == paths[:2]
  reasons = {error.path: error.reason for error in errors}
  assert len(reasons) == len(errors) == 4
  assert f"gives {PRODUCT}_s2.tif, as {made} does" in reasons[second]
  assert "expected S2A_MSIL2A" in reasons[nameless]
  assert "0 files GRANULE/*/MTD_TL.xml" in reasons[broken]
  assert "default_baseline" in reasons[unknown]
  assert source.describe(paths[1]) == sentinel2.parse_product(zipped.name)
  source = sentinel2.Sentinel2(default_baseline="05.00")
  paths, errors = source.cut_tiles(directory, folder)
  assert len(errors) == 3
  assert source.describe(unknown).baseline == "05.00"
  assert unknown in paths


def test_processes_make_the_same_tiles(tmp_path):
  folder = tmp_path / "patches"
  for i in range(3):
    make_patch(folder, f"S2A_MSIL2A_20170613T101031_87_{i}")
  bad = make_patch(folder, "S2A_MSIL2A_20170613T101031_N9999_R022_T33UXP_1_2")
  source = sentinel2.Sentinel2("bigearthnet")
  with concurrent.futures.ProcessPoolExecutor(1) as executor:
    found, errors = source.cut_tiles(tmp_path / "a", folder, executor.map)
  expected, expected_errors = source.cut_tiles(tmp_path / "b", folder)
  assert [p.name for p in found] == [p.name for p in expected]
  assert len(found) == 3
  for one, other in zip(found, expected, strict=True):
    assert one.read_bytes() == other.read_bytes()
  assert [str(e) for e in errors] == [str(e) for e in expected_errors]
  # Of version 2, whose names tell no baseline.
  assert [error.path for error in errors] == [bad]
  for default in (None, "05.00"):
    source = sentinel2.Sentinel2("bigearthnet", default)
    assert source.describe(found[0]).baseline == "02.00"
  assert source.describe(bad).baseline == "05.00"
  assert pickle.loads(pickle.dumps(source)) == source


def test_two_files_of_the_same_cell(tmp_path, cell):
  folder = tmp_path / "images"
  folder.mkdir()
  first = write_parquet(folder / "part_1.parquet", [cell])
  second = write_parquet(folder / "part_2.parquet", [cell])
  (folder / "metadata.parquet").write_bytes(b"lists the cells, not read")
  source = sentinel2.Sentinel2("major_tom")
  paths, errors = source.cut_tiles(tmp_path / "tiles", folder)
  assert [path.name for path in paths] == [f"{SOUTH}_48U_704L_s2.tif"]
  assert source.describe(paths[0]).baseline == "05.09"
  assert [error.path for error in errors] == [second]
  assert f"as {first} does" in errors[0].reason
