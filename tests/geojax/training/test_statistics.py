"""Samples of a split: what they hold, and when they are read again."""

import contextlib
import errno
import os
import shutil

import numpy as np
import pytest

from geojax import files
from geojax.training import dataset as dataset_lib
from geojax.training import statistics


@pytest.fixture
def dataset(smoke, tmp_path):
  """A copy of the smoke data set, without a sample."""
  shutil.copytree(
    smoke / "geo_tiles",
    tmp_path / "geo_tiles",
    ignore=shutil.ignore_patterns("*.npz"),
  )
  return dataset_lib.open_dataset(str(tmp_path), "geo_tiles/earth_smoke")


@pytest.fixture
def num_read(monkeypatch):
  """The number of records that each reading call returned."""
  numbers, read = [], dataset_lib.Records.read

  def counted(self, indices):
    numbers.append(len(indices))
    return read(self, indices)

  monkeypatch.setattr(dataset_lib.Records, "read", counted)
  return numbers


def assert_is_sample_of(found, dataset, positions):
  expected = dataset.source("train").read(positions)
  images = expected.pop("image")
  expected["bands"] = statistics.band_statistics(images)
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    assert found[name].dtype == values.dtype == np.float32
    np.testing.assert_array_equal(found[name], values)


def test_a_sample_is_spread_evenly_and_read_in_batches(
  dataset, num_read, monkeypatch
):
  monkeypatch.setattr(statistics, "_BATCH_SIZE", 32)
  found = statistics.sample(dataset, "train", at_most=100)
  count = len(dataset.source("train"))
  assert 50 < len(found["date"]) <= 100 < count
  assert set(num_read) == {32}
  assert_is_sample_of(found, dataset, range(0, count, -(-count // 100)))


def test_a_small_split_is_its_own_sample(dataset):
  count = len(dataset.source("train"))
  found = statistics.sample(dataset, "train")
  assert_is_sample_of(found, dataset, range(count))


def test_a_sample_is_read_once(dataset, num_read):
  first = statistics.sample(dataset, "train", at_most=100)
  assert num_read
  num_read.clear()
  again = dataset_lib.open_dataset(
    str(dataset.builder.data_path.parents[2]), "geo_tiles/earth_smoke"
  )
  second = statistics.sample(again, "train", at_most=100)
  assert not num_read
  assert first.keys() == second.keys()
  for name, values in first.items():
    np.testing.assert_array_equal(second[name], values)


@pytest.mark.parametrize("change", ["at_most", "rebuilt", "damaged", "renamed"])
def test_a_sample_of_anything_else_is_read_anew(
  dataset, num_read, monkeypatch, change
):
  statistics.sample(dataset, "train", at_most=100)
  num_read.clear()
  at_most, kept = 100, dataset.builder.data_path / "sample_train.npz"
  if change == "at_most":
    at_most = 200
  elif change == "rebuilt":
    # Of the same size.
    (shard,) = dataset.builder.data_path.glob("*-train.array_record*")
    os.utime(shard, ns=(10**18, os.stat(shard).st_mtime_ns + 1))
  elif change == "damaged":
    kept.write_bytes(kept.read_bytes()[:-50])
  else:
    monkeypatch.setattr(dataset_lib.Dataset, "label_names", ("climate",))
  found = statistics.sample(dataset, "train", at_most=at_most)
  assert num_read
  assert set(found) >= {"climate", "bands"}
  num_read.clear()
  statistics.sample(dataset, "train", at_most=at_most)
  assert not num_read


def test_a_folder_that_cannot_be_written_is_reported(
  dataset, monkeypatch, capsys
):
  @contextlib.contextmanager
  def atomic(path):
    raise OSError(errno.EROFS, "Read-only file system")
    yield path

  monkeypatch.setattr(files, "atomic", atomic)
  found = statistics.sample(dataset, "train", at_most=100)
  count = len(dataset.source("train"))
  assert_is_sample_of(found, dataset, range(0, count, -(-count // 100)))
  (line,) = capsys.readouterr().err.splitlines()
  assert "sample_train.npz cannot be written (Read-only file system)" in line
  assert not list(dataset.builder.data_path.glob("*.npz"))


def test_band_statistics():
  images = np.random.default_rng(0).integers(0, 255, (5, 8, 6, 3), np.uint8)
  found = statistics.band_statistics(images)
  assert found.shape == (5, 6)
  for i in range(5):
    for band in range(3):
      pixels = [float(p) for p in images[i, :, :, band].ravel()]
      assert found[i, band] == pytest.approx(np.mean(pixels), rel=1e-6)
      assert found[i, 3 + band] == pytest.approx(np.std(pixels), rel=1e-5)
