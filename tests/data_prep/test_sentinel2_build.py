"""From Sentinel-2 tiles to records: what is left out, what records tell."""

import dataclasses
import datetime
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tifffile

from data_prep import build, grids, products, tile_patches, tile_writer, tiles

OLD = "S2A_MSIL2A_20200110T101411_N0213_R022_T33UXP_20200110T120000"
NEW = "S2B_MSIL2A_20220105T101411_N0301_R022_T33UXP_20220106T120000"
AFTER = "S2B_MSIL2A_20220705T101411_N0400_R022_T33UXP_20220706T120000"
GRID = grids.Grid(300, 400, 600000.0, 5500020.0, 10.0, 10.0, 32633)
# All of it in train: a tile lies in one block or two.
ALL_TRAIN = {"validation": 0.0, "test": 0.0}


def make_pixels(seed):
  rng = np.random.default_rng(seed)
  pixels = rng.integers(1, 9000, (11, 300, 400)).astype(np.uint16)
  pixels[0] = 4
  return pixels


def write(folder, name, pixels, bands=products.BANDS_11, grid=GRID):
  folder.mkdir(exist_ok=True)
  path = folder / f"{name}_s2.tif"
  tile_writer.write_planes(
    path, pixels, bands=bands, grid=grid, dtype="uint16", date=None
  )
  return path


def build_to(output, folder, **kwargs):
  return build.build("sentinel2", output, folder, split=ALL_TRAIN, **kwargs)


def records_of(output, config="sentinel2"):
  builder = tfds.builder_from_directory(output / f"geo_tiles/{config}/1.0.0")
  return list(builder.as_data_source("train"))


def test_records_hold_the_pixels_and_what_the_product_tells(tmp_path):
  pixels = make_pixels(0)
  # Clouds over a tenth of one patch, and just below of another.
  pixels[0, :128, :128].flat[: round(0.1 * 128**2) + 1] = 9
  pixels[0, :128, 128:256].flat[: round(0.1 * 128**2) - 1] = 8
  # No data, cloud and defects count together; shadow and snow don't.
  pixels[0, :128, 256:384].flat[:1700] = np.tile([3, 11], 850)
  pixels[0, 128:256, :128].flat[:1000] = 1
  pixels[0, 128:256, :128].flat[1000:1700] = 9
  pixels[:, 128:200, 128:256] = 0
  write(tmp_path / "in", AFTER, pixels)
  builder = build_to(tmp_path, tmp_path / "in")
  assert {name: count for name, count in builder.counts.items() if count} == {
    "train": 3,
    products.CLOUD: 2,
    products.NO_DATA: 1,
  }
  records = {(r["row"], r["col"]): r for r in records_of(tmp_path)}
  assert set(records) == {(0, 128), (0, 256), (128, 256)}
  for (row, col), record in records.items():
    window = pixels[1:, row : row + 128, col : col + 128]
    # The offset is taken off, and what is not 0 stays so.
    expected = np.maximum(window.astype(int) - 1000, 1)
    np.testing.assert_array_equal(record["image"], np.moveaxis(expected, 0, -1))
    lat, lon = GRID.pixel_to_latlon(row + 63.5, col + 63.5)
    np.testing.assert_allclose([record["lat"], record["lon"]], [lat, lon])
    assert record["acquired"].decode() == "2022-07-05T10:14:11"
    assert record["product"].decode() == AFTER
    assert record["mgrs"].decode() == "33UXP"
    assert record["baseline"].decode() == "04.00"
    assert record["relative_orbit"] == 22
    assert record["id"].decode() == f"{AFTER}_s2/{row}_{col}"
  np.testing.assert_allclose(records[0, 128]["cloud_fraction"], 0.1, atol=1e-4)
  assert records[0, 256]["cloud_fraction"] == 0


@pytest.mark.parametrize("name", [OLD, NEW])
def test_before_baseline_04_there_is_no_offset(tmp_path, name):
  pixels = make_pixels(1)
  write(tmp_path / "in", name, pixels)
  build_to(tmp_path, tmp_path / "in")
  (record,) = [r for r in records_of(tmp_path) if r["id"].endswith(b"/0_0")]
  np.testing.assert_array_equal(
    record["image"], np.moveaxis(pixels[1:, :128, :128], 0, -1)
  )


def test_bands_with_names_are_taken_in_any_order_and_number(tmp_path):
  """Level-1C with B10, no SCL; the offset is that of the baseline."""
  pixels = make_pixels(1)[:6]
  bands = ("B10", "B04", "B01", "B02", "B8A", "B09")
  name = AFTER.replace("L2A", "L1C")
  write(tmp_path / "in", name, pixels, bands)
  build_to(tmp_path, tmp_path / "in", bands=("B01", "B04", "B10"))
  (record,) = [r for r in records_of(tmp_path) if r["id"].endswith(b"/0_0")]
  raw = np.moveaxis(pixels[[2, 1, 0], :128, :128], 0, -1)
  np.testing.assert_array_equal(
    record["image"], products.remove_offset(raw, "04.00")
  )
  assert record["product"].decode() == name
  builder = tfds.builder_from_directory(tmp_path / "geo_tiles/sentinel2/1.0.0")
  assert builder.info.metadata["bands"] == ["B01", "B04", "B10"]
  assert builder.info.metadata["scale"] == [[2000, 2000]] * 3


def test_clouds_are_left_out_whatever_the_bands(tmp_path):
  pixels = make_pixels(0)
  pixels[0, :128, :128] = 9
  order = [3, 0, 1]
  write(
    tmp_path / "in",
    OLD,
    pixels[order],
    [products.BANDS_11[i] for i in order],
  )
  builder = build_to(tmp_path, tmp_path / "in", bands=("B02",))
  assert builder.counts[products.CLOUD] == 1
  (record,) = [r for r in records_of(tmp_path) if r["id"].endswith(b"/0_128")]
  np.testing.assert_array_equal(
    record["image"][..., 0], pixels[1, :128, 128:256]
  )


def test_dates_may_be_read_off_any_name(tmp_path):
  write(tmp_path / "in", "site7_20200110", make_pixels(0))
  source = {"date_from": r"_(\d{8})", "default_baseline": "03.00"}
  build_to(tmp_path, tmp_path / "in", source=source)
  record, *_ = records_of(tmp_path)
  assert record["acquired"] == b"2020-01-10T00:00:00"
  source.pop("default_baseline")
  with pytest.raises(tiles.TileError, match="--date_from needs --default_base"):
    build_to(tmp_path / "out", tmp_path / "in", source=source, strict=True)


def test_one_failure_is_told_and_the_others_go_on(tmp_path):
  source = tmp_path / "in"
  write(source, OLD, make_pixels(0))
  cut_short = write(source, NEW, make_pixels(1))
  cut_short.write_bytes(cut_short.read_bytes()[:200_000])
  write(source, AFTER, make_pixels(2)[:5], products.BANDS_11[:5])
  write(source, "my_own_name", make_pixels(3))
  command = [
    *(sys.executable, "-m", "data_prep.build", "--config=sentinel2"),
    *(f"--source={source}", f"--output={tmp_path}", "--num_workers=0"),
    *("--validation=0", "--test=0"),
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 3, done.stderr
  report = json.loads((tmp_path / "report.json").read_text())
  assert len(report["errors"]) == 3
  reasons = {
    e["file"].rpartition("/")[2]: e["reason"] for e in report["errors"]
  }
  assert "truncated" in reasons[f"{NEW}_s2.tif"]
  assert "band B05" in reasons[f"{AFTER}_s2.tif"]
  assert "not the name of a Sentinel-2 product" in reasons["my_own_name_s2.tif"]
  for name, reason in reasons.items():
    assert f"{name}: {reason}" in done.stderr
  assert report["figures"]["kept: train"] == 6
  assert (tmp_path / "places.png").stat().st_size > 5000
  assert len(records_of(tmp_path)) == 6
  # Nor does a data set that is there already pass for a whole one.
  again = subprocess.run(command, capture_output=True, text=True, check=False)
  assert (again.returncode, again.stderr) == (3, done.stderr)
  assert "is built already" in again.stdout
  built = tmp_path / "geo_tiles/sentinel2/1.0.0"
  assert "tiles that could not be used: 3;" in done.stderr
  assert f"delete {built} and build again" in done.stderr

  # Mended, and built again as it says.
  write(source, NEW, make_pixels(1))
  shutil.rmtree(built)
  assert len(build_to(tmp_path, source).errors) == 2
  assert len(records_of(tmp_path)) == 12
  cut_short.write_bytes(cut_short.read_bytes()[:200_000])

  strict = subprocess.run(
    [*command, "--strict", f"--output={tmp_path / 'strict'}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert strict.returncode == 1
  assert not (tmp_path / "strict/geo_tiles/sentinel2/1.0.0").exists()


def test_patches_that_are_all_clouded_leave_an_empty_shard(tmp_path):
  pixels = make_pixels(0)
  write(tmp_path / "in", OLD, pixels)
  pixels[0] = 8
  write(tmp_path / "in", NEW, pixels)
  builder = build_to(tmp_path, tmp_path / "in")
  assert builder.counts[products.CLOUD] == 6
  assert {r["product"].decode() for r in records_of(tmp_path)} == {OLD}


def test_the_layout_of_a_tile_does_not_matter(tmp_path, monkeypatch):
  pixels = make_pixels(0)
  write(tmp_path / "in", OLD, pixels)
  build_to(tmp_path / "a", tmp_path / "in")
  monkeypatch.setattr(tile_patches, "_ROWS_AT_ONCE", 1)
  monkeypatch.setattr(tile_writer, "_BLOCK", 64)
  write(tmp_path / "in", OLD, pixels)
  build_to(tmp_path / "b", tmp_path / "in")
  for a, b in zip(
    records_of(tmp_path / "a"), records_of(tmp_path / "b"), strict=True
  ):
    assert a["id"] == b["id"]
    np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.parametrize("num_bands", [11, 10])
def test_bands_without_names_are_those_agreed_upon(tmp_path, num_bands):
  pixels = make_pixels(0)[:num_bands]
  path = write(tmp_path / "in", OLD, pixels, products.BANDS_11[:num_bands])
  with tifffile.TiffFile(path, mode="r+") as tif:
    tif.pages.first.tags[42112].overwrite("<GDALMetadata></GDALMetadata>")
  if num_bands == 10:
    with pytest.raises(tiles.TileError, match="band SCL"):
      build_to(tmp_path, tmp_path / "in", strict=True)
    return
  build_to(tmp_path, tmp_path / "in")
  for record in records_of(tmp_path):
    row, col = record["row"], record["col"]
    window = pixels[1:, row : row + 128, col : col + 128]
    np.testing.assert_array_equal(record["image"], np.moveaxis(window, 0, -1))


def test_a_dem_adds_terrain(tmp_path):
  write(tmp_path / "in", OLD, make_pixels(0))
  lat, lon = GRID.pixel_to_latlon([0, 299], [0, 399])
  dem = np.full((80, 120), 884.9, np.float32)
  tile_writer.write_tile(
    tmp_path / "dem.tif",
    dem[..., None],
    bands=("elevation",),
    west=lon.min() - 0.01,
    north=lat.max() + 0.01,
    pixel_size=0.001,
    date=datetime.datetime(2020, 1, 1),
  )
  build_to(tmp_path, tmp_path / "in", dem=str(tmp_path / "dem.tif"))
  for record in records_of(tmp_path):
    assert record["terrain"].shape == (128, 128, 4)
    np.testing.assert_allclose(record["terrain"][..., 3], 0.1, rtol=1e-3)
    np.testing.assert_allclose(record["terrain"][..., :3], 0, atol=1e-3)


@pytest.mark.shared_data
def test_real_patches_of_bigearthnet(shared_data, tmp_path):
  source = shared_data / "sentinel2/bigearthnet"
  build.build("bigearthnet", tmp_path, source, split=ALL_TRAIN)
  records = records_of(tmp_path, "bigearthnet")
  assert len(records) == 6
  for record in records:
    name = record["product"].decode()
    metadata = json.loads(
      (source / name / f"{name}_labels_metadata.json").read_text()
    )
    corners = metadata["coordinates"]
    epsg = int(metadata["projection"].rpartition('"EPSG","')[2].split('"')[0])
    grid = grids.Grid(
      120, 120, corners["ulx"], corners["uly"], 10.0, 10.0, epsg
    )
    place = grid.pixel_to_latlon(59.5, 59.5)
    np.testing.assert_allclose([record["lat"], record["lon"]], place, atol=1e-5)
    date = metadata["acquisition_date"].split()[0]
    assert record["acquired"].decode().startswith(date)
    assert np.isnan(record["cloud_fraction"])
    blue = tiles.open_tile(source / name / f"{name}_B02.tif")
    pixels = dataclasses.replace(blue, bands=("B02",)).read(["B02"])
    np.testing.assert_array_equal(record["image"][..., :1], pixels)


@pytest.mark.shared_data
def test_clouds_of_a_real_scene(shared_data, tmp_path):
  """Its quarters hold 9, 30, 0 and 0 % of no data, defects and cloud."""
  folder = shared_data / "sentinel2/landcovernet/image1_36N_date-unknown"
  files = {
    "SCL": "Scene Classification Layer",
    **{"B02": "blue", "B03": "green", "B04": "red", "B08": "NIR"},
    "B05": "Vegetation Red Edge",
    "B06": "Vegetation Red Edge B06",
    "B07": "Vegetation Red Edge B07",
    **{"B8A": "Narrow NIR", "B11": "SWIR", "B12": "SWIR B12"},
  }
  assert tuple(files) == products.BANDS_11
  opened = {
    band: dataclasses.replace(
      tiles.open_tile(folder / f"{name}.tif"), bands=(band,)
    )
    for band, name in files.items()
  }
  planes = {band: t.read([band])[..., 0] for band, t in opened.items()}
  # The sample tells no product: a name of the time before the offset.
  name = OLD.replace("33UXP", "36SWD")
  grid = opened["SCL"].grid
  write(tmp_path / "in", name, list(planes.values()), grid=grid)
  builder = build_to(tmp_path, tmp_path / "in")
  assert builder.counts[products.CLOUD] + builder.counts["no data"] == 1
  records = {(r["row"], r["col"]): r for r in records_of(tmp_path)}
  assert len(records) == 3
  for (row, col), record in records.items():
    window = slice(row, row + 128), slice(col, col + 128)
    unclear = np.isin(planes["SCL"][window], (0, 1, 8, 9)).mean()
    assert unclear < 0.1
    for band, plane in enumerate(list(planes.values())[1:]):
      np.testing.assert_array_equal(record["image"][..., band], plane[window])
    # 36.14 N 33.52 E.
    assert abs(record["lat"] - 36.14) < 0.03
    assert abs(record["lon"] - 33.52) < 0.03
