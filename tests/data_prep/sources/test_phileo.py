"""PhilEO-Bench's arrays: paired, checked, and built to records."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import (
  build,
  land_cover,
  phileo_patches,
  report,
  splits,
  tiles,
)
from data_prep.sources import phileo

SIZE = 16
CODES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
COUNTS = {"train": 7, "val": 3, "test": 4}


def make_arrays(seed, count, size=SIZE):
  """What the files of one tile and split hold, by the end of their names."""
  rng = np.random.default_rng(seed)
  shape = (count, size, size)
  return {
    "s2": rng.integers(1, 9000, (*shape, 10)).astype(np.uint16),
    "label_roads": rng.uniform(0, 1, (*shape, 1)).astype(np.float32),
    "label_building": rng.uniform(0, 100, (*shape, 1)),
    "label_lc": rng.choice([0, *CODES], (*shape, 1)).astype(np.uint8),
  }


def save(folder, region, split, arrays):
  folder.mkdir(parents=True, exist_ok=True)
  for name, values in arrays.items():
    if values is not None:
      np.save(folder / f"{region}_{split}_{name}.npy", values)


def save_all(folder, *regions, **changes):
  """Saves all splits of some tiles; returns the arrays by stem."""
  kept = {}
  for i, region in enumerate(regions):
    for j, (split, count) in enumerate(COUNTS.items()):
      kept[f"{region}_{split}"] = arrays = make_arrays(9 * i + j, count)
      for name, function in changes.items():
        arrays[name] = function(arrays.get(name), count)
      save(folder, region, split, arrays)
  return kept


def run(folder, output, *arguments, size=SIZE):
  return subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--config=phileo"),
      *(f"--source={folder}", f"--output={output}", "--num_workers=0"),
      *(f"--size={size}", *arguments),
    ],
    capture_output=True,
    text=True,
    check=False,
  )


def build_phileo(folder, output, **kwargs):
  patches = {"size": SIZE}
  return build.build("phileo", output, folder, patches=patches, **kwargs)


def read(output, name="phileo"):
  """The builder, and its records by id with their split."""
  builder = tfds.builder_from_directory(output / f"geo_tiles/{name}/1.0.0")
  return builder, {
    record["id"].decode(): {**record, "split": split}
    for split in builder.info.splits
    for record in builder.as_data_source(split)
  }


def described(builder, name):
  return {t["name"]: t for t in builder.info.metadata["targets"]}[name]


def errors_of(builder):
  return [
    f"{error['file']}: {error['reason']}"
    for error in builder.info.metadata["errors"]
  ]


def test_the_command_builds_what_the_files_hold(tmp_path):
  """Pixels, labels, splits and regions; patches without data are counted."""
  regions = ("denmark-1_0", "isreal-2_31", "atlantis_7")
  kept = save_all(tmp_path / "in/deep", *regions)
  kept["denmark-1_0_train"]["s2"][[1, 4]] = 0
  save(tmp_path / "in/deep", "denmark-1_0", "train", kept["denmark-1_0_train"])
  done = run(tmp_path / "in", tmp_path / "out", "--name=mine")
  assert done.returncode == 0, done.stderr
  builder, records = read(tmp_path / "out", "mine")
  expected = {
    f"{stem}/{i}"
    for stem, arrays in kept.items()
    for i in range(len(arrays["s2"]))
  } - {"denmark-1_0_train/1", "denmark-1_0_train/4"}
  assert set(records) == expected
  classes = described(builder, "region")["classes"]
  assert classes == ["atlantis", "denmark-1", "isreal-2"]
  buckets = described(builder, "bucket")["classes"]
  assert buckets == ["europe", "northwest-africa"]
  for name, record in records.items():
    stem, i = name.split("/")
    arrays = {k: v[int(i)] for k, v in kept[stem].items()}
    np.testing.assert_array_equal(record["image"], arrays["s2"])
    assert record["image"].dtype == np.uint16
    for label in ("roads", "building"):
      assert record[label].dtype == np.float16
      np.testing.assert_array_equal(
        record[label], np.float16(arrays[f"label_{label}"][..., 0])
      )
    assert record["lc"].dtype == np.uint8
    codes = np.array([*CODES, *[0] * 245])[record["lc"]]
    np.testing.assert_array_equal(codes, arrays["label_lc"][..., 0])
    region, _, split = stem.split("_")
    assert classes[record["region"]] == region
    bucket = {"denmark-1": 0, "isreal-2": 1, "atlantis": -1}[region]
    assert record["bucket"] == bucket
    assert (
      dict(zip(COUNTS, splits.SPLITS, strict=True))[split] == (record["split"])
    )
    assert np.isnan([record["lat"], record["lon"]]).all()
    assert record["acquired"] == b""
    assert record["row"] == int(i)
    assert not {"climate", "coords", "date"} & record.keys()
  figures = json.loads((tmp_path / "out/report.json").read_text())["figures"]
  assert figures["left out: no data"] == 2
  assert figures["tiles read"] == 9
  lc = described(builder, "lc")
  assert lc["kind"] == "class_map"
  assert lc["classes"][0] == "Tree cover"
  assert lc["colors"][-1] == "#fae6a0"
  trees = sum(
    np.sum(arrays["label_lc"] == 10)
    for stem, arrays in kept.items()
    if stem.endswith("test")
  )
  assert lc["counts"]["test"]["Tree cover"] == trees
  assert lc["unknown"] == pytest.approx(1 / 12, abs=0.02)
  roads = described(builder, "roads")
  assert roads["kind"] == "value_map"
  assert roads["unknown"] == 0
  assert roads["mean"]["test"] == pytest.approx(0.5, abs=0.05)
  again = build_phileo(tmp_path / "in", tmp_path / "out", name="mine")
  assert not again.counts
  assert [target.name for target in again.builder_config.maps] == [
    *("roads", "building", "lc")
  ]


def test_patches_have_the_benchmark_s_size_by_default(tmp_path):
  arrays = make_arrays(0, 2, size=128)
  save(tmp_path / "in", "japan_0", "train", arrays)
  builder = build.build("phileo", tmp_path / "out", tmp_path / "in")
  assert builder.counts["train"] == 2
  config = builder.builder_config
  assert config.bands[3:5] == ("B08", "B05")
  assert config.scale[0] == (2000, 2000)
  (target,) = builder.info.metadata["targets"][:1]
  assert target["counts"] == {"train": {"japan": 2}}


def test_workers_give_the_same_records(tmp_path):
  save_all(tmp_path / "in", "europe_1", "japan_2")
  one, two = (
    read(build_phileo(tmp_path / "in", tmp_path / f"{n}", num_workers=n)
         .data_path.parents[2])[1]
    for n in (0, 2)
  )  # fmt: skip
  assert list(one) == list(two)
  for name, record in one.items():
    for key, value in record.items():
      np.testing.assert_array_equal(two[name][key], value)


def test_arrays_stay_on_disk_until_they_are_cut(tmp_path):
  save_all(tmp_path / "in", "europe_1")
  config, paths, _ = phileo.CONFIG.source.find_patches(
    build_phileo(tmp_path / "in", tmp_path / "out").builder_config,
    tmp_path / "tiles",
    tmp_path / "in",
  )
  with config.source.open_patches(paths[0], config) as patches:
    assert isinstance(patches.pixels, np.memmap)
    assert all(isinstance(x, np.memmap) for x in patches.labels.values())
    # Another label makes another shard.
    assert [path.name for path in config.source.files_beside(paths[0])] == [
      f"europe_1_test_label_{name}.npy" for name in patches.labels
    ]
    parts = list(patches.read_together(np.arange(1000)))
  assert max(map(len, parts)) == 256
  assert sum(map(len, parts)) == 1000


def test_labels_are_chosen(tmp_path):
  save_all(tmp_path / "in", "europe_1")
  build_phileo(tmp_path / "in", tmp_path / "out", source={"target": ("lc",)})
  _, records = read(tmp_path / "out")
  assert {"roads", "building"}.isdisjoint(next(iter(records.values())))
  with pytest.raises(
    build.BuildError, match="--target=trees, expected one of roads, building, l"
  ):
    build_phileo(
      tmp_path / "in", tmp_path / "more", source={"target": ("trees",)}
    )
  with pytest.raises(tiles.TileError, match=r"no \*_label_lc_classification\."):
    build_phileo(
      tmp_path / "in",
      tmp_path / "more",
      source={"target": ("lc_classification",)},
    )


def test_a_region_without_a_label_leaves_it_unknown_and_is_named(tmp_path):
  """As regions of the benchmark have no roads."""
  save_all(tmp_path / "in", "europe_1", "europe_2")
  save_all(
    tmp_path / "in", "denmark-1_0", label_roads=lambda values, count: None
  )
  builder = build_phileo(tmp_path / "in", tmp_path / "out")
  assert not errors_of(builder)
  assert (
    "target roads: unknown in denmark-1, which have no such label"
    in build.warnings(builder)
  )
  builder, records = read(tmp_path / "out")
  for name, record in records.items():
    is_denmark = name.startswith("denmark-1")
    assert np.isnan(record["roads"]).all() == is_denmark
    assert not np.isnan(record["building"]).any()
  assert described(builder, "roads")["without"] == ["denmark-1"]
  assert described(builder, "roads")["unknown"] == pytest.approx(1 / 3)
  # Nothing is left of it where roads alone are asked for.
  builder = build_phileo(
    tmp_path / "in", tmp_path / "roads", source={"target": ("roads",)}
  )
  (error,) = errors_of(builder)
  assert (
    "denmark-1_0_test_s2.npy: one of 3 files of denmark-1, none of which has a"
    " label roads; all are left out" in error
  )
  builder, records = read(tmp_path / "roads")
  assert len(records) == 2 * sum(COUNTS.values())
  assert described(builder, "region")["classes"] == ["europe"]


def test_files_that_are_not_used_are_named(tmp_path):
  """Whatever is wrong with a name or a pair; the others are used."""
  folder = tmp_path / "in"
  save_all(folder, "europe_1", "europe_2")
  arrays = make_arrays(99, 2)
  # No such split, a label misspelt, a label without patches.
  np.save(folder / "japan_1_dev_s2.npy", arrays["s2"])
  np.save(folder / "europe_1_train_labels_lc.npy", arrays["label_lc"])
  np.save(folder / "uganda-1_5_train_label_lc.npy", arrays["label_lc"])
  np.save(folder / "europe_1_train_label_kg.npy", arrays["label_lc"])
  # One label missing, one of another length.
  save(folder, "europe_3", "train", {**arrays, "label_lc": None})
  save(
    folder, "europe_4", "val", {**arrays, "label_lc": arrays["label_lc"][:1]}
  )
  # The same name twice, another type of pixels, another size.
  save(folder / "more", "europe_1", "train", arrays)
  save(folder, "europe_5", "train", {**arrays, "s2": arrays["s2"].astype("u1")})
  save(folder, "europe_6", "train", {**arrays, "s2": arrays["s2"][:, 1:]})
  # Labels of other shapes and types, and a file that was cut off.
  wide = np.concatenate([arrays["label_roads"]] * 2, axis=-1)
  save(folder, "europe_7", "train", {**arrays, "label_roads": wide})
  text = np.full((2, SIZE, SIZE, 1), "road")
  save(folder, "europe_8", "train", {**arrays, "label_roads": text})
  save(folder, "europe_9", "train", arrays)
  cut_off = folder / "europe_9_train_s2.npy"
  cut_off.write_bytes(cut_off.read_bytes()[:-9])
  (folder / "._europe_1_train_s2.npy").write_bytes(b"")
  builder = build_phileo(folder, tmp_path / "out")
  assert {builder.counts[split] for split in splits.SPLITS} == {
    2 * count for count in COUNTS.values()
  }
  found = errors_of(builder)
  for expected in (
    "japan_1_dev_s2.npy: expected a name <region>_<tile>_<split>_s2.npy or",
    "europe_1_train_labels_lc.npy: expected a name",
    "uganda-1_5_train_label_lc.npy: there is no uganda-1_5_train_s2.npy next",
    "europe_1_train_label_kg.npy: one of 1 files of the label kg, which becom",
    "europe_3_train_s2.npy: there is no europe_3_train_label_lc.npy next to it",
    "europe_4_val_s2.npy: 2 patches, but 1 labels in europe_4_val_label_lc.npy",
    f"more/europe_1_train_s2.npy: has the name of {folder}/europe_1_train_s2",
    "europe_5_train_s2.npy: dtype uint8, expected uint16 as in most",
    "europe_6_train_s2.npy: shape (2, 15, 16, 10), expected [n, 16, 16, 10]",
    "europe_7_train_label_roads.npy: shape (2, 16, 16, 2), expected [n, 16, 1",
    "europe_8_train_label_roads.npy: dtype <U4, expected numbers",
    "europe_9_train_s2.npy: ",
  ):
    assert sum(expected in error for error in found) == 1, (expected, found)
  assert len(found) == 12


@pytest.mark.parametrize(
  ("name", "value", "reason"),
  [
    ("label_lc", 15, "15 at row 2, column 3 of patch 1, expected a code of W"),
    ("label_lc", 255, "255 at row 2"),
    (
      "label_roads",
      -1,
      "-1 at row 2, column 3 of patch 1, expected 0 to 65504",
    ),
    ("label_roads", np.inf, "inf at row 2"),
    ("label_building", 7e4, "70000 at row 2"),
  ],
)
def test_a_label_that_can_not_be_one_is_an_error(tmp_path, name, value, reason):
  save_all(tmp_path / "in", "europe_1")
  arrays = make_arrays(99, 2)
  arrays[name][1, 2, 3] = value
  save(tmp_path / "in", "europe_2", "test", arrays)
  builder = build_phileo(tmp_path / "in", tmp_path / "out")
  (error,) = errors_of(builder)
  assert f"europe_2_test_{name}.npy: {reason}" in error
  assert builder.counts["test"] == COUNTS["test"]


def test_a_split_without_data_is_left_out(tmp_path):
  kept = save_all(tmp_path / "in", "europe_1")
  kept["europe_1_val"]["s2"][:] = 0
  save(tmp_path / "in", "europe_1", "val", kept["europe_1_val"])
  builder = build_phileo(tmp_path / "in", tmp_path / "out")
  assert builder.counts[phileo_patches.NO_DATA] == COUNTS["val"]
  assert builder.counts["validation"] == 0
  assert not list((tmp_path / "out").rglob("*validation*"))
  listed = builder.info.metadata["targets"]
  report.draw_places(builder.columns, listed).savefig(io.BytesIO())
  _, records = read(tmp_path / "out")
  assert len(records) == COUNTS["train"] + COUNTS["test"]


def test_a_file_may_be_empty(tmp_path):
  save_all(tmp_path / "in", "europe_1")
  save(tmp_path / "in", "japan_1", "val", make_arrays(0, 0))
  builder = build_phileo(tmp_path / "in", tmp_path / "out")
  assert not errors_of(builder)
  assert builder.counts["validation"] == COUNTS["val"]


def test_reflectance_needs_a_scale_and_nan_is_no_data(tmp_path):
  def reflect(values, count):
    del count
    return (values / 10000).astype(np.float32)

  kept = save_all(tmp_path / "in", "europe_1", s2=reflect)
  pixels = kept["europe_1_train"]["s2"]
  pixels[0] = np.nan
  pixels[2, 3, 4, 5] = np.nan
  pixels[3, 0, 0, 0] = 0
  save(tmp_path / "in", "europe_1", "train", kept["europe_1_train"])
  with pytest.raises(
    tiles.TileError, match=r"float32 pixels up to 0\.\d+, whi"
  ):
    build_phileo(tmp_path / "in", tmp_path / "out")
  builder = build_phileo(tmp_path / "in", tmp_path / "out", scale="auto")
  assert builder.counts[phileo_patches.NO_DATA] == 1
  assert builder.counts[phileo_patches.HAS_NAN] == 1
  _, records = read(tmp_path / "out")
  assert {"europe_1_train/0", "europe_1_train/2"}.isdisjoint(records)
  np.testing.assert_array_equal(records["europe_1_train/3"]["image"], pixels[3])
  ((offset, _), *_) = builder.info.metadata["scale"]
  assert offset == pytest.approx(0.45, abs=0.02)


def of_patches(width):
  def make(values, count):
    del values
    return np.eye(width)[np.arange(count) % width]

  return make


def test_labels_of_patches_are_one_class_or_several(tmp_path):
  rng = np.random.default_rng(0)

  def several(values, count):
    del values
    return rng.random((count, 11)) < 0.5

  def shares(values, count):
    del values
    return rng.dirichlet([1, 1], count).astype(np.float32)

  changes = {
    "label_building_classification": of_patches(5),
    "label_lc_classification": several,
    "label_roads_classification": shares,
  }
  kept = save_all(tmp_path / "in", "europe_1", **changes)
  # Rows of 0 and 1 that add up to 1 by chance do not make it a class.
  save_all(tmp_path / "in", "japan_1", **changes | {
    "label_lc_classification": of_patches(11)
  })  # fmt: skip
  save_all(tmp_path / "in", "senegal_1")
  builder = build_phileo(tmp_path / "in", tmp_path / "out")
  _, records = read(tmp_path / "out")
  kinds = {t["name"]: t["kind"] for t in builder.info.metadata["targets"]}
  assert kinds["building_classification"] == "class"
  assert kinds["roads_classification"] == "class"
  assert kinds["lc_classification"] == "classes"
  names = described(builder, "lc_classification")["classes"]
  assert names == [name for name, _ in land_cover.WORLD_COVER.values()]
  for stem, arrays in kept.items():
    for i in range(len(arrays["s2"])):
      record = records[f"{stem}/{i}"]
      np.testing.assert_array_equal(
        record["lc_classification"],
        arrays["label_lc_classification"][i].astype(np.uint8),
      )
      assert record["building_classification"] == i % 5
      larger = arrays["label_roads_classification"][i, 1] > 0.5
      assert record["roads_classification"] == larger
  unknown = records["senegal_1_test/0"]
  assert unknown["building_classification"] == -1
  assert (unknown["lc_classification"] == 255).all()
  assert described(builder, "lc_classification")["unknown"] == (
    pytest.approx(1 / 3)
  )


def test_labels_of_patches_that_are_neither_are_named(tmp_path):
  save_all(tmp_path / "in", "europe_1", label_lc_classification=of_patches(11))
  rows = np.eye(11)[:2]
  rows[1, 3] = 0.5
  arrays = {**make_arrays(0, 2), "label_lc_classification": rows}
  save(tmp_path / "in", "europe_2", "train", arrays)
  with pytest.raises(
    tiles.TileError,
    match=r"europe_2_train_label_lc_classification\.npy: label 1 is not of 0",
  ):
    build_phileo(tmp_path / "in", tmp_path / "out")


def test_a_folder_without_the_files_is_an_error(tmp_path):
  (tmp_path / "in").mkdir()
  with pytest.raises(tiles.TileError, match=r"no \*_s2\.npy of these splits"):
    build_phileo(tmp_path / "in", tmp_path / "out")
  arrays = make_arrays(0, 2)
  save(tmp_path / "in", "europe_1", "train", {"s2": arrays["s2"]})
  with pytest.raises(tiles.TileError, match="no label in it or below, none of"):
    build_phileo(tmp_path / "in", tmp_path / "out")
  save(tmp_path / "in", "europe_1", "train", {"label_lc": arrays["label_lc"]})
  with pytest.raises(tiles.TileError, match=r"no file can be used: .*shape"):
    build.build("phileo", tmp_path / "out", tmp_path / "in")


def test_what_the_names_decide_is_no_option(tmp_path):
  save_all(tmp_path / "in", "europe_1")
  with pytest.raises(build.BuildError, match="leave out --test"):
    build_phileo(tmp_path / "in", tmp_path / "out", split={"test": 0.3})
  with pytest.raises(build.BuildError, match="phileo has no split"):
    build_phileo(tmp_path / "in", tmp_path / "out", source={"split": "place"})
  with pytest.raises(build.BuildError, match="without a georeference"):
    build_phileo(tmp_path / "in", tmp_path / "out", dem="dem.tif")


def test_a_splits_file_chooses_patches(tmp_path):
  save_all(tmp_path / "in", "europe_1")
  listed = tmp_path / "splits.csv"
  listed.write_text("id,split\neurope_1_train/3,train\neurope_1_train/1,test\n")
  build_phileo(tmp_path / "in", tmp_path / "out", splits=str(listed))
  _, records = read(tmp_path / "out")
  assert {name: r["split"] for name, r in records.items()} == {
    "europe_1_train/3": "train",
    "europe_1_train/1": "test",
  }
