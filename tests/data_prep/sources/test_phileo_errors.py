"""What is no array of PhilEO-Bench is reported by name."""

import numpy as np
import pytest
from phileo_samples import (
  COUNTS,
  SIZE,
  build_phileo,
  errors_of,
  make_arrays,
  of_patches,
  save,
  save_all,
)

from data_prep import (
  build,
  splits,
  tiles,
)


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
  for keys, flag in (
    ({"dem": "dem.tif"}, "dem"),
    ({"patches": {"stride": 64}}, "stride"),
    ({"split": {"block_deg": 2.0}}, "block_deg"),
    ({"climate_map": "zones.tif"}, "climate_map"),
  ):
    with pytest.raises(build.BuildError, match=f"as they are; .*--{flag}"):
      build_phileo(tmp_path / "in", tmp_path / "out", **keys)
