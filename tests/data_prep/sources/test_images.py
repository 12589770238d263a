"""From a table of images to records: pixels, places, dates and targets."""

import shutil
import zipfile

import numpy as np
import pytest
from geotiff_samples import write_band
from image_samples import (
  COUNT,
  SIZE,
  build_images,
  pixels_of,
  read_table,
  records_of,
  without,
)
from PIL import Image

from data_prep import grids, splits
from geojax import encodings, sphere

RNG = np.random.default_rng(0)


def test_records_hold_images_and_what_the_table_says(folder, tmp_path):
  builder = build_images(
    folder, tmp_path, source={"target": ("cover", "height")}
  )
  found = records_of(builder)
  rows = read_table(folder)
  assert len(found) == len(rows)
  for row in rows:
    record = found[row["file"].removesuffix(".png") + "/0_0"]
    np.testing.assert_array_equal(
      record["image"], pixels_of(folder, row["file"])
    )
    lat, lon = float(row["lat"]), float(row["lon"])
    np.testing.assert_allclose(
      [record["lat"], record["lon"]], [lat, lon], rtol=1e-6
    )
    np.testing.assert_allclose(
      record["coords"], encodings.encode_coordinates(lat, lon), atol=1e-6
    )
    assert record["climate"].sum() == 1
    assert record["acquired"].decode() == f"{row['date']}T00:00:00"
    assert record["split"] == row["split"]
    assert record["cover"] == ("field", "wood").index(row["cover"])
    assert record["height"] == float(row["height"])
  metadata = builder.info.metadata
  assert metadata["bands"] == ["red", "green", "blue"]
  cover, height = metadata["targets"]
  assert cover["classes"] == ["field", "wood"]
  assert sum(cover["counts"]["train"].values()) == 14
  assert height["counts"] == {"train": 14, "validation": 13, "test": 13}
  assert height["unknown"] == cover["unknown"] == 0


def test_the_scale_is_that_of_the_train_split(folder, tmp_path):
  builder = build_images(folder, tmp_path)
  train = np.concatenate(
    [
      record["image"].reshape(-1, 3)
      for record in records_of(builder).values()
      if record["split"] == "train"
    ]
  ).astype(float)
  np.testing.assert_allclose(
    builder.info.metadata["scale"],
    np.stack([train.mean(0), train.std(0)], axis=-1),
  )


def test_an_image_that_is_not_like_the_others_is_an_error(folder, tmp_path):
  mine = tmp_path / "mine"
  shutil.copytree(folder, mine)
  gray = np.zeros((SIZE, SIZE), np.uint8)
  Image.fromarray(gray).save(mine / "wood/00.png")
  np.save(mine / "deep.npy", np.ones((SIZE, SIZE, 3), np.uint16))
  Image.fromarray(gray[:9, :9]).convert("RGB").save(mine / "field/01.png")
  (mine / "wood/02.png").write_bytes((mine / "wood/04.png").read_bytes()[:400])
  rows = read_table(folder)
  rows.append({**rows[0], "file": "deep.npy"})
  builder = build_images(mine, tmp_path, rows)
  reasons = {error.path.name: error.reason for error in builder.errors}
  assert (
    reasons["00.png"]
    == "bands without names, expected red, green, blue as in most"
  )
  assert reasons["deep.npy"] == "dtype uint16, expected uint8 as in most"
  assert reasons["01.png"] == "9 x 9 pixels, less than a patch of 16"
  # Its header is whole: this is found when it is cut.
  assert "cannot be read" in reasons["02.png"]
  found = records_of(builder)
  assert len(found) == COUNT - 3
  assert not {"wood/00/0_0", "field/01/0_0", "wood/02/0_0"} & set(found)


def test_what_is_unknown_is_missing_and_nothing_made_up(folder, tmp_path):
  rows = without(read_table(folder), "split")
  for row in rows[::2]:
    row["date"] = ""
  for row in rows[::4]:
    row["lat"] = row["lon"] = ""
  builder = build_images(folder, tmp_path, rows, split={"block_deg": 10.0})
  found = records_of(builder)
  for row in rows:
    record = found.get(row["file"].removesuffix(".png") + "/0_0")
    if record is None:
      # Near another split, which takes a place.
      assert row["lat"]
      continue
    assert np.isnan(record["date"]).all() == (not row["date"])
    assert (record["acquired"] == b"") == (not row["date"])
    for name in ("coords", "climate", "lat", "lon"):
      assert np.isnan(record[name]).all() == (not row["lat"]), name
  # Those without a place go by the hash of the file.
  hashed = [found[r["file"].removesuffix(".png") + "/0_0"] for r in rows[::4]]
  rule = builder.builder_config.patches.split
  names = [record["id"].decode().removesuffix("/0_0") for record in hashed]
  assert [splits.SPLITS[i] for i in rule.name_split(names)] == [
    record["split"] for record in hashed
  ]


def test_labels_that_no_record_has_are_no_features(folder, tmp_path):
  rows = without(read_table(folder), "date")
  features = build_images(folder, tmp_path, rows).info.features
  assert "date" not in features
  assert {"coords", "climate"} <= set(features)
  other = tmp_path / "other"
  other.mkdir()
  rows = without(read_table(folder), "lat", "lon", "date")
  features = build_images(folder, other, rows).info.features
  assert not {"date", "coords", "climate"} & set(features)


def test_large_images_are_cut_and_their_patches_lie_where_they_are(tmp_path):
  """Georeferenced ones of three projections, each patch with its own place."""
  (tmp_path / "in").mkdir()
  made = {
    "utm.tif": grids.Grid(40, 50, 600000.0, 5500020.0, 10.0, 10.0, 32633),
    "degrees.tif": grids.Grid(40, 50, 12.0, 48.0, 1e-4, 1e-4, 4326),
    "laea.tif": grids.Grid(40, 50, 4.3e6, 3.2e6, 10.0, 10.0, 3035),
  }
  pixels = {name: RNG.integers(0, 9000, (40, 50), np.uint16) for name in made}
  for name, grid in made.items():
    write_band(tmp_path / "in" / name, pixels[name], grid)
  rows = [{"file": name, "split": "train"} for name in made]
  builder = build_images(
    tmp_path / "in",
    tmp_path,
    rows,
    patches={"size": 16, "stride": 8},
    bands=("nir",),
  )
  found = records_of(builder)
  assert len(found) == 3 * 4 * 5
  assert builder.num_cropped == 3
  for name, grid in made.items():
    for row in range(0, 25, 8):
      for col in range(0, 33, 8):
        record = found[f"{name.removesuffix('.tif')}/{row}_{col}"]
        np.testing.assert_array_equal(
          record["image"][..., 0],
          pixels[name][row : row + 16, col : col + 16],
        )
        place = grid.pixel_to_latlon(row + 7.5, col + 7.5)
        np.testing.assert_allclose(
          [record["lat"], record["lon"]], np.float32(place), rtol=1e-6
        )


def test_a_place_that_contradicts_the_file_is_an_error(tmp_path):
  (tmp_path / "in").mkdir()
  grid = grids.Grid(16, 16, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  lat, lon = grid.pixel_to_latlon(7.5, 7.5)
  for name in "ab":
    write_band(tmp_path / f"in/{name}.tif", np.ones((16, 16), np.uint8), grid)
  # 99 and 101 m to the north.
  metres = 360 / (2e3 * np.pi * sphere.EARTH_RADIUS_KM)
  rows = [
    {"file": "a.tif", "lat": lat + 99 * metres, "lon": lon, "split": "train"},
    {"file": "b.tif", "lat": lat + 101 * metres, "lon": lon, "split": "train"},
  ]
  builder = build_images(tmp_path / "in", tmp_path, rows, bands=("x",))
  (error,) = builder.errors
  assert error.path.name == "b.tif"
  assert "0.1 km away; correct the table" in error.reason
  # The file's own place is the more exact one.
  (record,) = records_of(builder).values()
  np.testing.assert_allclose(record["lat"], np.float32(lat), rtol=1e-7)


def test_pixel_size_gives_patches_an_extent_and_places_of_their_own(tmp_path):
  (tmp_path / "in").mkdir()
  pixels = RNG.integers(0, 255, (32, 32, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / "in/a.png")
  rows = [{"file": "a.png", "lat": 60.0, "lon": 10.0, "split": "train"}]
  builder = build_images(
    tmp_path / "in",
    tmp_path,
    rows,
    source={"pixel_m": 10.0},
    patches={"size": 16, "stride": 16},
  )
  found = records_of(builder)
  upper, lower = (
    sphere.latlon_to_unit(float(r["lat"]), float(r["lon"]))
    for r in (found["a/0_0"], found["a/16_0"])
  )
  right = found["a/0_16"]
  right = sphere.latlon_to_unit(float(right["lat"]), float(right["lon"]))
  for other in (lower, right):
    np.testing.assert_allclose(
      sphere.great_circle_km(upper, other), 0.16, rtol=5e-3
    )


def test_dates_are_read_off_names(tmp_path):
  (tmp_path / "in").mkdir()
  for name in ("a_20200131.npy", "b_20191224.npy", "c.npy"):
    np.save(tmp_path / "in" / name, np.ones((SIZE, SIZE, 3), np.uint8))
  rows = [
    {"file": path.name, "split": "train"}
    for path in sorted((tmp_path / "in").iterdir())
  ]
  builder = build_images(
    tmp_path / "in", tmp_path, rows, source={"date_from": r"_(\d{8})\.npy"}
  )
  assert [r["acquired"] for r in records_of(builder).values()] == [
    b"2020-01-31T00:00:00",
    b"2019-12-24T00:00:00",
  ]
  assert "row 3: no date in c.npy" in str(builder.errors[0])


@pytest.mark.shared_data
def test_multispectral_eurosat_lies_where_rasterio_says(shared_data, tmp_path):
  rasterio = pytest.importorskip("rasterio", reason="the oracle")
  from rasterio import warp

  archive = shared_data / "eurosat/ms.zip"
  names = [n for n in zipfile.ZipFile(archive).namelist() if n.endswith(".tif")]
  rows = [{"file": name, "class": name.split("/")[0]} for name in names]
  bands = (*(f"B{i:02d}" for i in range(1, 13)), "B8A")
  builder = build_images(
    shared_data / "eurosat",
    tmp_path,
    rows,
    source={"target": ("class",)},
    split={"validation": 0.0, "test": 0.0},
    bands=bands,
  )
  found = records_of(builder)
  assert len(found) == 270
  for name in names:
    record = found[name.removesuffix(".tif") + "/0_0"]
    with rasterio.open(f"zip://{archive}!{name}") as file:
      np.testing.assert_array_equal(
        np.moveaxis(record["image"], -1, 0), file.read()
      )
      x, y = file.xy(31.5, 31.5)
      (lon,), (lat,) = warp.transform(file.crs, "EPSG:4326", [x], [y])
    apart = sphere.great_circle_km(
      sphere.latlon_to_unit(float(record["lat"]), float(record["lon"])),
      sphere.latlon_to_unit(lat, lon),
    )
    assert apart < 0.01
