"""PhilEO-Bench's arrays: paired, and built to records."""

import io
import json

import numpy as np
import pytest
from phileo_samples import (
  CODES,
  COUNTS,
  build_phileo,
  described,
  errors_of,
  make_arrays,
  of_patches,
  read,
  run,
  save,
  save_all,
)

from data_prep import (
  build,
  land_cover,
  phileo_patches,
  report,
  splits,
  tiles,
)
from data_prep.sources import phileo


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
