"""From a table of images to records, through the command's own function."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from geotiff_samples import write_band
from PIL import Image

from data_prep import build, configs, grids, sources, splits, tiles
from geojax import encodings, sphere

RNG = np.random.default_rng(0)
SIZE = 16
COUNT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """PNGs of 16 x 16 RGB in two folders, one of them zipped, and a table."""
  folder = tmp_path_factory.mktemp("images")
  rows = []
  with zipfile.ZipFile(folder / "more.zip", "w") as archive:
    for i in range(COUNT):
      pixels = RNG.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
      name = f"{'field' if i % 2 else 'wood'}/{i:02d}.png"
      path = folder / name
      path.parent.mkdir(exist_ok=True)
      Image.fromarray(pixels).save(path)
      if i >= COUNT // 2:
        archive.write(path, name)
        path.unlink()
      rows.append(
        {
          "file": name,
          "lat": f"{RNG.uniform(-60, 70):.6f}",
          "lon": f"{RNG.uniform(-180, 180):.6f}",
          "date": f"2020-{1 + i % 12:02d}-{1 + i % 28:02d}",
          "split": splits.SPLITS[i % 3],
          "cover": name.split("/")[0],
          "height": f"{i / 4}",
        }
      )
  write_table(folder / "table.csv", rows)
  return folder


def write_table(path, rows):
  with open(path, "w", newline="") as file:
    out = csv.DictWriter(file, rows[0].keys())
    out.writeheader()
    out.writerows(rows)
  return path


def read_table(folder):
  with open(folder / "table.csv", newline="") as file:
    return list(csv.DictReader(file))


def build_images(folder, output, rows=None, *, source=None, **kwargs):
  """Builds the images of some rows, those of the table by default."""
  rows = read_table(folder) if rows is None else rows
  table = write_table(output / "table.csv", rows)
  return build.build(
    "images",
    output,
    folder,
    source={"table": str(table), **(source or {})},
    **kwargs,
  )


def records_of(builder):
  """Records by id, with their split."""
  read = tfds.builder_from_directory(builder.data_path)
  return {
    record["id"].decode(): {**record, "split": split}
    for split in read.info.splits
    for record in read.as_data_source(split)
  }


def without(rows, *columns):
  return [
    {name: text for name, text in row.items() if name not in columns}
    for row in rows
  ]


def pixels_of(folder, name):
  if (folder / name).exists():
    return np.asarray(Image.open(folder / name))
  with zipfile.ZipFile(folder / "more.zip").open(name) as file:
    return np.asarray(Image.open(file))


def test_records_hold_images_and_what_the_table_says(folder, tmp_path):
  builder = build_images(
    folder, tmp_path, source={"targets": ("cover", "height")}
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
  assert reasons["00.png"] == "bands , expected red, green, blue as in most"
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


def test_longitude_gives_each_split_its_share_from_west_to_east(
  folder, tmp_path
):
  rows = without(read_table(folder), "split")
  builder = build_images(
    folder, tmp_path, rows, source={"split_by": "longitude:50,25,25"}
  )
  found = records_of(builder)
  assert len(found) == COUNT
  west = [
    [float(r["lon"]) for r in found.values() if r["split"] == split]
    for split in splits.SPLITS
  ]
  assert list(map(len, west)) == [20, 10, 10]
  assert max(west[0]) < min(west[1]) < max(west[1]) < min(west[2])
  assert "nearest_km" in builder.info.metadata["leaks"]["test"]
  # What the data set keeps restores the rule.
  settings = builder.info.metadata["settings"]
  restored = configs.restore(sources.find("images"), settings)
  assert restored.patches == builder.builder_config.patches


def test_longitude_splits_patches_of_one_image(tmp_path):
  (tmp_path / "in").mkdir()
  grid = grids.Grid(32, 160, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  write_band(tmp_path / "in/a.tif", np.ones((32, 160), np.uint8), grid)
  builder = build_images(
    tmp_path / "in",
    tmp_path,
    [{"file": "a.tif"}],
    source={"split_by": "longitude:60,20,20"},
    patches={"size": 16},
    bands=("x",),
  )
  counts = [builder.counts[split] for split in splits.SPLITS]
  assert counts == [12, 4, 4]
  assert builder.info.metadata["leaks"]["validation"]["touching"] == 2
  other = tmp_path / "other"
  other.mkdir()
  np.save(other / "b.npy", np.ones((16, 16, 1), np.uint8))
  with pytest.raises(tiles.TileError, match="no longitude is known"):
    build_images(
      other,
      other,
      [{"file": "b.npy"}],
      source={"split_by": "longitude:60,20,20"},
      bands=("x",),
    )


def test_another_build_takes_the_splits_of_a_file(folder, tmp_path):
  first = build_images(folder, tmp_path)
  listed = first.data_path / "splits.csv"
  with open(listed, newline="") as file:
    lines = list(csv.DictReader(file))
  assert {line["id"]: line["split"] for line in lines} == {
    name: record["split"] for name, record in records_of(first).items()
  }
  # Without those of the table, and one patch less.
  listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
  other = tmp_path / "other"
  other.mkdir()
  rows = without(read_table(folder), "split")
  second = build_images(folder, other, rows, splits=str(listed))
  assert {name: r["split"] for name, r in records_of(second).items()} == {
    line["id"]: line["split"] for line in lines[:-1]
  }
  assert second.counts["not in the splits file"] == 1
  assert (
    first.info.metadata["splits_sha256"]
    != second.info.metadata["splits_sha256"]
  )


def test_the_same_command_does_it_once_and_notices_another_table(
  folder, tmp_path
):
  build_images(folder, tmp_path, name="mine")
  again = build_images(folder, tmp_path, name="mine")
  assert not again.counts
  assert again.info.metadata["bands"] == ["red", "green", "blue"]
  assert again.data_path == tmp_path / "geo_tiles/mine/1.0.0"
  rows = read_table(folder)
  rows[0]["lat"] = "1.5"
  with pytest.raises(build.BuildError, match=r"source\.table_sha256 was"):
    build_images(folder, tmp_path, rows, name="mine")


def test_workers_and_any_order_of_rows_give_the_same_records(folder, tmp_path):
  def contents(name, rows, num_workers):
    output = tmp_path / name
    output.mkdir()
    return records_of(
      build_images(folder, output, rows, num_workers=num_workers)
    )

  rows = read_table(folder)
  one = contents("one", rows, 0)
  two = contents("two", rows[::-1], 2)
  assert list(one) == list(two)
  for name, record in one.items():
    for key, value in record.items():
      np.testing.assert_array_equal(two[name][key], value)


def test_the_command_names_what_it_left_out_and_ends_with_3(folder, tmp_path):
  rows = read_table(folder)
  rows[3]["lat"] = "91"
  table = write_table(tmp_path / "table.csv", rows)
  done = subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--config=images"),
      f"--source={folder}",
      f"--table={table}",
      "--target=cover",
      f"--output={tmp_path}",
      "--name=mine",
      "--num_workers=0",
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 3
  assert "row 4: lat '91', expected degrees in [-90, 90]" in done.stderr
  assert "warning: split test: its 13 patches lie" in done.stderr
  assert "target cover: 2 classes, 0.0% unknown" in done.stdout
  assert "scale (mean,deviation of train): red" in done.stdout
  report = json.loads((tmp_path / "report.json").read_text())
  assert report["targets"][0]["classes"] == ["field", "wood"]
  assert report["figures"]["tiles read"] == COUNT - 1


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"source": {"split_by": "longitude:60"}}, "longitude:60,20,20"),
    ({"source": {"split_by": "latitude:6,2,2"}}, "expected place, or longit"),
    ({"source": {"date_from": "("}}, "date_from '('"),
    ({"source": {"date_from": "x"}}, "expected one group"),
    ({"source": {"targets": ("lat",)}}, "every record has a feature lat"),
    ({"scale": "1"}, "expected OFFSET,DIVISOR with DIVISOR > 0"),
    ({"scale": "1,0"}, "expected OFFSET,DIVISOR with DIVISOR > 0"),
    ({"scale": "1,2,3,4"}, "2 pairs of --scale for 3 bands"),
  ],
)
def test_settings_that_cannot_be_are_named(folder, tmp_path, kwargs, message):
  with pytest.raises(build.BuildError) as caught:
    build_images(folder, tmp_path, **kwargs)
  assert message in str(caught.value)


def test_a_table_must_be_given(folder, tmp_path):
  with pytest.raises(build.BuildError, match="needs --table=FILE"):
    build.build("images", tmp_path, folder)
  with pytest.raises(tiles.TileError, match="no table: No such file"):
    build.build("images", tmp_path, folder, source={"table": "none.csv"})


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


def test_maps_become_targets_of_each_pixel(tmp_path):
  """Of georeferenced images and of others, by the command's own flags."""
  (tmp_path / "in").mkdir()
  grid = grids.Grid(16, 16, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  far = dataclasses.replace(grid, north=6500020.0)
  for name, where in (("here", grid), ("far", far)):
    write_band(tmp_path / f"in/{name}.tif", np.ones((16, 16), np.uint8), where)
  np.save(tmp_path / "in/nowhere.npy", np.ones((16, 16, 1), np.uint8))
  codes = RNG.choice([10, 20], (24, 24)).astype(np.uint8)
  around = dataclasses.replace(grid, height=24, width=24)
  write_band(tmp_path / "codes.tif", codes, around)
  heights = RNG.normal(size=(24, 24)).astype(np.float32)
  write_band(tmp_path / "heights.tif", heights, around)
  (tmp_path / "legend.json").write_text('{"10": "trees", "20": "crops"}')
  files = ("here.tif", "far.tif", "nowhere.npy")
  table = write_table(
    tmp_path / "table.csv",
    [{"file": name, "split": "train"} for name in files],
  )
  done = subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--config=images"),
      f"--source={tmp_path / 'in'}",
      f"--table={table}",
      "--bands=x",
      f"--class_map=cover={tmp_path}/codes.tif,{tmp_path}/legend.json",
      f"--value_map=height={tmp_path}/heights.tif",
      f"--output={tmp_path}",
      "--num_workers=0",
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 3
  assert "far.tif: lies outside of the map cover" in done.stderr
  builder = tfds.builder_from_directory(tmp_path / "geo_tiles/images/1.0.0")
  found = {r["id"].decode(): r for r in builder.as_data_source("train")}
  assert set(found) == {"here/0_0", "nowhere/0_0"}
  here, nowhere = found["here/0_0"], found["nowhere/0_0"]
  np.testing.assert_array_equal(here["cover"], codes[:16, :16] == 20)
  np.testing.assert_allclose(here["height"], heights[:16, :16], atol=2e-3)
  assert (nowhere["cover"] == 255).all()
  assert np.isnan(nowhere["height"]).all()
  cover, height = builder.info.metadata["targets"]
  assert cover["classes"] == ["trees", "crops"]
  assert cover["counts"]["train"]["crops"] == np.sum(codes[:16, :16] == 20)
  assert cover["unknown"] == height["unknown"] == 0.5
  assert height["mean"]["train"] == pytest.approx(
    heights[:16, :16].mean(), abs=1e-3
  )


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
    source={"targets": ("class",)},
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


def test_a_config_of_ones_own_sets_what_flags_do(folder):
  config = sources.find("images")
  own = dataclasses.replace(
    config, source=dataclasses.replace(config.source, table="table.csv")
  )
  assert own.source.with_inputs(folder).table_sha256
