"""`data_prep.build --publish`: whole data sets in a bucket, or none."""

import os
import shutil
import signal

import build_runs
import pytest

from data_prep import build, geo_tiles, publish, sources
from experiments.benchmarks import bucket_server
from geojax import files
from geojax.training import dataset as dataset_lib
from geojax.training.errors import DatasetError

NAME = "geo_tiles/earth_smoke"
LAST = "dataset_info.json"


@pytest.fixture(scope="module")
def built(smoke, tmp_path_factory):
  """A data set of a dozen shards."""
  output = tmp_path_factory.mktemp("built")
  shutil.copytree(smoke / "tiles", output / "tiles")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(geo_tiles, "SHARD_BYTES", 900_000)
    build.build("earth_smoke", output)
  return output


@pytest.fixture
def folder(built):
  return built / NAME / "1.0.0"


def start(output, target):
  return build_runs.start(*build_runs.smoke_to(output), f"--publish={target}")


def run(output, target):
  """Exit code and lines of output and errors of the command."""
  process = start(output, target)
  stdout, stderr = process.communicate(timeout=120)
  return process.returncode, stdout.splitlines(), stderr.splitlines()


def publish_here(built, target):
  """Publishes in this process, which saves the start of another."""
  builder = geo_tiles.GeoTiles(
    config=sources.find("earth_smoke"), data_dir=built
  )
  return publish.publish(builder, files.path(target))


def num_uploads(bucket):
  return bucket.count().get("POST", 0)


def num_listings(bucket):
  """Listings of the data set's folder."""
  return sum(f"{NAME}/1.0.0/&" in path for _, path in bucket.requests)


def published(target):
  """Names, sizes and checksums of what a bucket holds of the data set."""
  found = files.path(f"{target}/{NAME}/1.0.0")
  return files.sizes_and_checksums(found)


def is_seen(target):
  try:
    dataset_lib.open_dataset(target, NAME)
  except DatasetError:
    return False
  return True


def test_records_in_the_bucket_are_those_on_disk(bucket, url, built, folder):
  code, stdout, stderr = run(built, url)
  assert (code, stderr) == (0, [])
  count = len(os.listdir(folder))
  assert f"{url}/{NAME}/1.0.0: {count} files copied" in stdout[-1]
  here, there = (dataset_lib.open_dataset(str(x), NAME) for x in (built, url))
  for split in dataset_lib.SPLITS:
    ours, theirs = here.source(split), there.source(split)
    assert len(ours) == len(theirs)
    for index in {0, len(ours) // 2, len(ours) - 1}:
      a, b = ours[index], theirs[index]
      assert a.keys() == b.keys()
      assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def kill_at(bucket, process, is_time):
  """Kills a process at an upload, and lets no later one through."""

  def fault(number, method, path):
    if method != "POST" or not is_time():
      return None
    process.kill()
    return "drop"

  bucket.requests.clear()
  bucket.faults = fault
  process.communicate(timeout=120)
  bucket.faults = None
  assert process.returncode == -signal.SIGKILL


def test_a_killed_publish_goes_on(bucket, url, built, folder):
  """Killed at the fifth upload, and again when only the last file lacks."""
  names = set(os.listdir(folder))
  assert sum(".array_record-" in name for name in names) >= 10
  process = start(built, url)
  kill_at(bucket, process, lambda: num_uploads(bucket) >= 5)
  first = published(url).keys()
  assert 0 < len(first) < len(names)
  assert LAST not in first
  assert not is_seen(url)

  # It lists the folder before and after it copies.
  process = start(built, url)
  kill_at(bucket, process, lambda: num_listings(bucket) == 2)
  assert published(url).keys() == names - {LAST}
  # Of files in one request each, to which the one that was dropped is added.
  assert num_uploads(bucket) <= len(names) - len(first)
  with pytest.raises(DatasetError, match=r"1\.0\.0 has no dataset_info\.json"):
    dataset_lib.open_dataset(url, NAME)

  bucket.requests.clear()
  code, stdout, _ = run(built, url)
  assert code == 0
  assert stdout[0] == f"{folder} is built already."
  assert "1 files copied" in stdout[1]
  assert num_uploads(bucket) == 1
  assert published(url) == files.sizes_and_checksums(folder)
  assert is_seen(url)

  bucket.requests.clear()
  assert "0 files copied" in publish_here(built, url)
  assert num_uploads(bucket) == 0
  # It is listed before, after the shards, and in the end.
  assert len(bucket.requests) == 3


def test_another_data_set_is_not_replaced(bucket, url, built, smoke):
  """Of other shards, of other bytes, and one of unknown origin."""
  publish_here(built, url)
  before = published(url)
  code, _, (line,) = run(smoke, url)
  assert code == 1
  assert line.startswith(
    f"data_prep.build: {url}/{NAME}/1.0.0 holds another data set"
  )
  assert published(url) == before


def change(path, target, monkeypatch):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  target.write_bytes(content)


def cut(path, target, monkeypatch):
  target.write_bytes(path.read_bytes()[:-1])


def compose(path, target, monkeypatch):
  """As uploads in parallel leave an object: the server has no such."""
  target.write_bytes(path.read_bytes())
  md5 = publish.files.buckets._md5

  def without(file):
    return None if file["name"].endswith(path.name) else md5(file)

  monkeypatch.setattr(publish.files.buckets, "_md5", without)


@pytest.mark.parametrize(
  ("harm", "reason"),
  [
    (change, "has another content"),
    (cut, "bytes instead of"),
    (compose, "has no MD5 checksum to compare"),
  ],
)
def test_a_name_alone_is_not_trusted(
  monkeypatch, bucket, url, built, folder, harm, reason
):
  (path, *_) = sorted(folder.glob("*-train.array_record-00003-*"))
  target = files.path(f"{url}/{NAME}/1.0.0") / path.name
  harm(path, target, monkeypatch)
  with pytest.raises(publish.PublishError, match=reason) as refused:
    publish_here(built, url)
  assert path.name in str(refused.value)
  assert published(url).keys() == {path.name}


def test_copies_are_compared_before_the_data_set_is_seen(
  monkeypatch, url, built, folder
):
  copy_new = files.copy_new

  def other(source, target):
    copy_new(folder / "features.json", target)

  monkeypatch.setattr(files, "copy_new", other)
  with pytest.raises(publish.PublishError, match="differs from the original"):
    publish_here(built, url)
  assert LAST not in published(url)


def test_a_shard_that_is_missing_here_is_not_published(
  bucket, url, built, tmp_path
):
  shutil.copytree(built / "geo_tiles", tmp_path / "geo_tiles")
  path = sorted((tmp_path / NAME / "1.0.0").glob("*-train.*"))[2]
  path.unlink()
  with pytest.raises(publish.PublishError, match=f"lacks {path.name}"):
    publish_here(tmp_path, url)
  assert not num_uploads(bucket)


def test_faults_of_the_network_are_survived(bucket, url, smoke, built, folder):
  """Of small uploads in one request, and of a large one in several."""
  large = smoke / NAME / "1.0.0/geo_tiles-train.array_record-00000-of-00001"
  assert large.stat().st_size > 5 * 2**20
  bucket.faults = bucket_server.random_faults(0, 0.15)
  publish_here(built, url)
  publish_here(smoke, f"{url}_large")
  bucket.faults = None
  assert published(url) == files.sizes_and_checksums(folder)
  assert published(f"{url}_large") == files.sizes_and_checksums(large.parent)


def test_a_bucket_that_is_not_there_is_one_sentence(bucket, tmp_path):
  """Before any work."""
  code, stdout, stderr = run(tmp_path, "gs://no-such-bucket/data")
  assert (code, stdout) == (1, [])
  (line,) = stderr
  assert line.startswith("data_prep.build: gs://no-such-bucket: there is no")
  assert not list(tmp_path.iterdir())


def test_a_bucket_that_does_not_answer_is_one_sentence(bucket, url, built):
  bucket.faults = lambda number, method, path: 403 if method == "POST" else None
  code, _, stderr = run(built, url)
  assert code == 1
  (line,) = stderr
  assert line.startswith(f"data_prep.build: {url}/{NAME}/1.0.0/")
  assert "Storage Object User" in line


def test_a_folder_of_this_machine_is_published_to_as_well(
  built, folder, tmp_path
):
  # What an evaluation keeps there is about that folder alone.
  target = tmp_path / NAME / "1.0.0"
  target.mkdir(parents=True)
  (target / "sample_train.npz").write_bytes(b"kept")
  publish_here(built, tmp_path)
  (target / "sample_train.npz").unlink()
  assert published(tmp_path) == files.sizes_and_checksums(folder)
  assert is_seen(str(tmp_path))
  (target / "splits.csv").write_text("other")
  with pytest.raises(publish.PublishError, match=r"splits\.csv has 5 bytes"):
    publish_here(built, tmp_path)
