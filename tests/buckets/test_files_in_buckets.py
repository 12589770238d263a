"""Files in a bucket: whole or not at all, and errors that name the object."""

import numpy as np
import pytest

from experiments.benchmarks import bucket_server
from geojax import files
from geojax.files import buckets
from geojax.files.errors import StorageError


@pytest.fixture(autouse=True)
def _unchecked():
  """Each test looks at its bucket for the first time."""
  buckets._check.cache_clear()


def test_text_and_bytes_come_back(url):
  folder = files.path(url)
  files.write_text(folder / "a.txt", "sea, été")
  assert (folder / "a.txt").read_text() == "sea, été"
  with files.atomic(folder / "b.npz") as temporary, temporary.open("wb") as f:
    np.savez(f, x=np.arange(3))
  with files.local(folder / "b.npz") as local:
    assert np.load(local)["x"].tolist() == [0, 1, 2]
  assert not local.exists()
  sizes = files.sizes_and_times(folder)
  assert sorted(sizes) == ["a.txt", "b.npz"]
  assert sizes["a.txt"][0] == len("sea, été".encode())


def test_what_fails_leaves_the_object_as_it_was(url):
  path = files.path(url) / "a.txt"
  files.write_text(path, "first")

  def fail():
    with files.atomic(path) as temporary:
      temporary.write_text("half")
      raise RuntimeError

  with pytest.raises(RuntimeError):
    fail()
  assert path.read_text() == "first"


def test_another_hosts_files_are_seen_at_once(url, bucket):
  folder = files.path(url)
  files.write_text(folder / "a", "1")
  assert [path.name for path in folder.iterdir()] == ["a"]
  name = folder.as_uri().removeprefix(f"gs://{bucket_server.BUCKET}/")
  buckets.file_system().call(
    "POST",
    f"{bucket.url}/upload/storage/v1/b/{bucket_server.BUCKET}/o",
    uploadType="media",
    name=f"{name}/b",
    data=b"2",
  )
  assert [path.name for path in folder.iterdir()] == ["a", "b"]


@pytest.mark.parametrize("kind", [429, 500, 503, "drop", "cut"])
def test_a_request_that_fails_is_tried_again(url, bucket, no_waiting, kind):
  path = files.path(url) / "a"
  turns = []

  def every_second(*_):
    turns.append(1)
    return kind if len(turns) % 2 else None

  bucket.faults = every_second
  content = "x" * 300_000
  files.write_text(path, content)
  assert path.read_text() == content
  with files.local(path) as local:
    assert local.read_text() == content


@pytest.mark.parametrize("times", [1, 9])
def test_other_bytes_than_the_objects_are_noticed(url, bucket, times):
  path, flips = files.path(url) / "a", []
  files.write_text(path, "x" * 1000)

  def flip(_, method, address):
    if method != "GET" or "alt=media" not in address or len(flips) >= times:
      return None
    flips.append(address)
    return "flip"

  bucket.faults = flip
  if times == 1:
    with files.local(path) as local:
      assert local.read_text() == "x" * 1000
    assert len(flips) == 1
  else:
    with pytest.raises(StorageError, match="a: the checksum of what arrives"):
      files.local(path).__enter__()


def test_an_object_without_md5_is_read(url, bucket):
  """As those are that were uploaded in parts and composed."""
  path = files.path(url) / "a"
  files.write_text(path, "content")
  bucket.headers = {"X-Goog-Hash": "crc32c=AAAAAA=="}
  with files.local(path) as local:
    assert local.read_text() == "content"


@pytest.mark.parametrize(
  ("fault", "words"),
  [
    (503, "no answer after several attempts"),
    ("drop", "no answer after several attempts"),
    (401, "the credentials are not accepted"),
    (403, "no permission"),
  ],
)
def test_what_keeps_failing_names_object_and_way_out(
  url, bucket, no_waiting, fault, words
):
  path = files.path(url) / "folder/a"
  bucket.faults = lambda *_: fault
  name = str(path)
  for attempt in (
    path.read_text,
    path.exists,
    lambda: files.write_text(path, "x"),
    lambda: files.local(path).__enter__(),
  ):
    with pytest.raises(StorageError) as raised:
      attempt()
    assert str(raised.value).startswith(name), raised.value
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_bucket_that_is_not_there_is_named():
  with pytest.raises(StorageError, match="gs://no-such-bucket: there is no"):
    files.path("gs://no-such-bucket/runs")
  with pytest.raises(StorageError, match="names no bucket"):
    files.path("gs://")


def test_other_urls_are_refused():
  with pytest.raises(StorageError, match="s3:// is not read"):
    files.path("s3://bucket/runs")
