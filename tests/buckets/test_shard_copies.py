"""Shards of a bucket on a disk: copied once, whole, and checked."""

import collections
import concurrent.futures
import shutil

import numpy as np
import pytest
import small_runs

from geojax import files
from geojax.training import dataset as dataset_lib
from geojax.training import loop, shard_copies
from geojax.training.errors import DatasetError

_NAME = "geo_tiles/earth_smoke"


def _read(data, cache_dir=""):
  source = dataset_lib.open_dataset(str(data), _NAME, str(cache_dir)).source(
    "train"
  )
  return source.read(range(0, len(source), 7))


def _gets(bucket):
  return bucket.count().get("GET", 0)


def test_copies_hold_the_records_and_are_made_once(
  bucket, data, smoke, tmp_path
):
  expected = _read(smoke)
  before = _gets(bucket)
  copied = _read(data, tmp_path)
  again = _read(data, tmp_path)
  for name, values in expected.items():
    np.testing.assert_array_equal(copied[name], values)
    np.testing.assert_array_equal(again[name], values)
  # Far fewer requests than records.
  assert _gets(bucket) - before < len(expected["image"])
  (copy,) = tmp_path.rglob("*-of-00001")
  assert not list(tmp_path.rglob("*.tmp"))
  time = copy.stat().st_mtime_ns
  _read(data, tmp_path)
  assert copy.stat().st_mtime_ns == time


def test_a_copy_that_fails_leaves_nothing_half(
  bucket, url, data, tmp_path, no_waiting
):
  bucket.faults = lambda _, __, path: 503 if "alt=media" in path else None
  with pytest.raises(OSError, match=r"train\.array_record"):
    shard_copies.make(_shards(data), tmp_path)
  assert not list(tmp_path.rglob("*array_record-*[0-9]"))
  bucket.faults = None
  (copy,) = shard_copies.make(_shards(data), tmp_path)
  (shard,) = _shards(data)
  assert copy.read_bytes() == shard.read_bytes()


def _shards(data):
  folder = files.path(data) / _NAME / "1.0.0"
  return [x for x in folder.iterdir() if "train.array_record" in x.name]


def test_processes_share_the_work(smoke, tmp_path, monkeypatch):
  copied = collections.Counter()
  real = files.copy_to

  def count(source, target):
    copied[source.name] += 1
    real(source, target)

  monkeypatch.setattr(files, "copy_to", count)
  paths = [path for path in (smoke / _NAME / "1.0.0").glob("*.array_record*")]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda _: shard_copies.make(paths, tmp_path), "1234"))
  assert all(copies == found[0] for copies in found)
  assert set(copied.values()) == {1}


def test_a_data_set_that_was_built_anew_is_copied_anew(smoke, tmp_path):
  shutil.copytree(smoke / "geo_tiles", tmp_path / "data/geo_tiles")
  (shard,) = _shards(tmp_path / "data")
  (old,) = shard_copies.make([shard], tmp_path / "copies")
  content = shard.read_bytes()
  shard.write_bytes(content + b"x")
  (new,) = shard_copies.make([shard], tmp_path / "copies")
  assert new.read_bytes() == content + b"x"
  assert old.read_bytes() == content


def test_no_space_is_noticed_before_any_copy(data, tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
  with pytest.raises(DatasetError, match=r"cache_dir: .* has 0.0 GB free"):
    _read(data, tmp_path)
  assert not list(tmp_path.rglob("*.array_record*"))


def test_training_reads_from_copies(data, tmp_path, bucket):
  config = small_runs.small_config(data)
  config.data.cache_dir = str(tmp_path / "copies")
  config.data.batch_size = config.data.eval_batch_size = 64
  loop.train(config, tmp_path / "run", progress=False)
  config.data.read_threads = 3
  bucket.requests.clear()
  loop.train(config, tmp_path / "again", progress=False)
  # Metadata and listings, but no record.
  assert bucket.requests
  assert not [x for _, x in bucket.requests if "array_record" in x]
