"""Arrays of patches and labels: merged, checked, and built to records."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import build, splits, tiles
from data_prep.sources import arrays as arrays_source
from geojax import encodings

CONFIG = arrays_source.CONFIG
COUNT = 300


@pytest.fixture
def label():
  rng = np.random.default_rng(0)
  climate = rng.dirichlet(np.ones(31), COUNT)
  lat, lon = rng.uniform(-60, 80, COUNT), rng.uniform(-180, 180, COUNT)
  day = rng.integers(1, 366, COUNT)
  return np.float32(encodings.encode_label(climate, lat, lon, day))


@pytest.fixture
def images():
  rng = np.random.default_rng(1)
  return rng.integers(0, 9000, (COUNT, 128, 128, 10)).astype(np.uint16)


def save(folder, images, **labels):
  path = folder / "33UXP_2020_train_s2.npy"
  np.save(path, images)
  for name, values in labels.items():
    np.save(folder / f"33UXP_2020_train_label_{name}.npy", values)
  return path


def open_arrays(path):
  with CONFIG.source.open_patches(path, CONFIG):
    pass


def test_arrays_become_records(tmp_path, images, label):
  (tmp_path / "in").mkdir()
  save(tmp_path / "in", images, geo=label)
  builder = build.build("arrays", tmp_path / "out", tmp_path / "in")
  left = COUNT - builder.counts["near another split"]
  assert sum(builder.counts[split] for split in splits.SPLITS) == left > 200
  built = tfds.builder_from_directory(tmp_path / "out/geo_tiles/arrays/1.0.0")
  rule = CONFIG.patches.split
  for index, split in enumerate(splits.SPLITS):
    for record in built.as_data_source(split):
      i = record["row"]
      assert record["id"].decode() == f"33UXP_2020_train/{i}"
      np.testing.assert_array_equal(record["image"], images[i])
      for name, values in encodings.split_label(label[i]).items():
        np.testing.assert_array_equal(record[name], values)
      lat, lon = encodings.decode_coordinates(label[i, encodings.COORDS])
      np.testing.assert_allclose([record["lat"], record["lon"]], [lat, lon])
      assert rule.block_split(*rule.block_of(lat, lon)) == index
      # No year is known; the label has the day.
      assert record["acquired"] == b""


def test_labels_in_parts_are_put_together(tmp_path, images, label):
  parts = {
    "kg": label[:, :31],
    "coords": label[:, 31:34],
    "time": label[:, 34:],
  }
  path = save(tmp_path, images[:3], **{k: v[:3] for k, v in parts.items()})
  with CONFIG.source.open_patches(path, CONFIG) as opened:
    for name, values in encodings.split_label(label[:3]).items():
      np.testing.assert_array_equal(opened.labels[name], values)
    # On disk until they are cut.
    assert isinstance(opened.images, np.memmap)


def test_a_part_of_another_length_is_refused(tmp_path, images, label):
  path = save(tmp_path, images[:3], kg=label[:3, :31], coords=label[:3, 31:34])
  with pytest.raises(tiles.TileError, match=r"neither .*label_time\.npy"):
    open_arrays(path)
  save(tmp_path, images[:3], time=label[:2, 34:])
  with pytest.raises(tiles.TileError, match="3 patches, but 2, 3 labels"):
    open_arrays(path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"geo": None}, r"no labels: neither .*label_geo.npy nor .*label_kg.npy"),
    ({"geo": lambda v: v[:2]}, r"3 patches, but 2 labels"),
    ({"geo": lambda v: v[:, :35]}, r"shape \(3, 35\), expected \[n, 36\]"),
    ({"geo": lambda v: v * np.nan}, r"3 invalid labels, the first at 0"),
    ({"geo": lambda v: v + 0.1}, r"3 invalid labels"),
    # Degrees where a code is expected.
    ({"geo": lambda v: v + 50 * np.eye(36)[31]}, r"3 invalid labels"),
    ({"s2": lambda v: v[..., :9]}, r"expected \[n, 128, 128, 10\]"),
    ({"s2": lambda v: v.astype(float)}, r"dtype float64, expected uint16"),
  ],
)
def test_what_does_not_fit_is_told(tmp_path, images, label, change, message):
  arrays = {"s2": images[:3], "geo": label[:3]}
  for name, function in change.items():
    arrays[name] = function and function(arrays[name])
  labels = {"geo": arrays["geo"]} if arrays["geo"] is not None else {}
  path = save(tmp_path, arrays["s2"], **labels)
  with pytest.raises(tiles.TileError, match=message):
    open_arrays(path)


def test_a_truncated_file_is_told(tmp_path, images, label):
  path = save(tmp_path, images[:3], geo=label[:3])
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(tiles.TileError, match=r"train_s2\.npy: "):
    open_arrays(path)


def test_no_arrays_is_an_error(tmp_path):
  source = arrays_source.Arrays()
  with pytest.raises(tiles.TileError, match=r"--source=FOLDER"):
    source.fetch(tmp_path, None)
  with pytest.raises(tiles.TileError, match=r"no \*_s2\.npy"):
    source.cut_tiles(tmp_path, tmp_path)


@pytest.mark.parametrize(
  "option", ["dem=dem.tif", "class_map=cover=map.tif", "stride=64"]
)
def test_options_that_need_a_georeference_are_refused(tmp_path, option):
  (tmp_path / "in").mkdir()
  done = subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--config=arrays"),
      *(f"--source={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"),
      f"--{option}",
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  name = option.split("=")[0]
  assert f"takes patches as they are; leave out --{name}" in done.stderr
  assert done.returncode == 1
