"""One process at a time holds a lock in a bucket; a dead one loses it."""

import json
import subprocess
import sys
import threading
import time

import pytest

from geojax import files
from geojax.files import buckets, leases
from geojax.files.errors import LockedError, StorageError


@pytest.fixture
def quick(monkeypatch):
  """Leases last a second."""
  monkeypatch.setattr(leases, "LEASE_S", 1.0)
  monkeypatch.setattr(leases, "RENEW_S", 0.2)
  monkeypatch.setattr(leases, "_WATCH_S", 0.1)


def _foreign(path, generation=0):
  """Writes a lock of another machine; returns its generation."""
  owner = {"host": "elsewhere", "process": 7, "machine": "x", "token": "y"}
  return buckets.replace(path, json.dumps(owner).encode(), generation)


def test_a_lock_is_held_once_and_then_free(url, quick):
  path = files.path(url) / ".lock"
  with files.lock(path):
    assert path.exists()
    with (
      pytest.raises(LockedError, match=r"process \d+ on "),
      files.lock(path),
    ):
      pass
  assert not path.exists()
  with files.lock(path):
    pass


def test_a_dead_process_of_this_machine_loses_its_lock_at_once(url, bucket):
  path = files.path(url) / ".lock"
  code = (
    "import os\nfrom geojax import files\n"
    f"with files.lock(files.path({str(path)!r})): os._exit(9)"
  )
  found = subprocess.run([sys.executable, "-c", code], check=False)
  assert found.returncode == 9
  assert path.exists()
  start = time.monotonic()
  with files.lock(path):
    assert time.monotonic() - start < leases.LEASE_S / 2


def test_a_lease_of_another_machine_runs_out(url, quick, capsys):
  path = files.path(url) / ".lock"
  _foreign(path)
  with files.lock(path):
    assert b"elsewhere" not in buckets.read_with_generation(path)[0]
  assert "names process 7 on elsewhere" in capsys.readouterr().err


def test_a_lease_that_is_renewed_is_not_taken(url, quick):
  path = files.path(url) / ".lock"
  generation, done = _foreign(path), threading.Event()

  def renew():
    nonlocal generation
    while not done.wait(0.2):
      generation = _foreign(path, generation)

  thread = threading.Thread(target=renew)
  thread.start()
  try:
    with pytest.raises(LockedError, match="7 on elsewhere"), files.lock(path):
      pass
  finally:
    done.set()
    thread.join()
  assert b"elsewhere" in buckets.read_with_generation(path)[0]


def test_a_lock_is_renewed_for_as_long_as_it_is_held(url, quick):
  path = files.path(url) / ".lock"
  with files.lock(path):
    _, first = buckets.read_with_generation(path)
    time.sleep(3 * leases.RENEW_S)
    assert buckets.read_with_generation(path)[1] != first


@pytest.mark.parametrize("how", ["removed", "taken"])
def test_who_loses_a_lock_learns_of_it(url, quick, how):
  path, lost = files.path(url) / ".lock", []
  with files.lock(path, lost.append):
    if how == "removed":
      path.unlink()
    else:
      _foreign(path, buckets.read_with_generation(path)[1])
    end = time.monotonic() + 10
    while not lost and time.monotonic() < end:
      time.sleep(0.05)
  (sentence,) = lost
  assert f"lost the lease {path}" in sentence
  # What another process holds stays.
  assert path.exists() == (how == "taken")


def test_a_lock_whose_answer_is_lost_is_held(url, bucket, no_waiting):
  path = files.path(url) / ".lock"
  posts = []

  def cut_the_first(_, method, __):
    if method == "POST":
      posts.append(method)
    return "cut" if method == "POST" and len(posts) == 1 else None

  bucket.faults = cut_the_first
  with files.lock(path):
    assert len(posts) == 2


def test_an_outage_is_survived_by_a_lock(url, bucket, quick, no_waiting):
  path, lost = files.path(url) / ".lock", []
  with files.lock(path, lost.append):
    bucket.faults = lambda *_: 503
    time.sleep(2 * leases.RENEW_S)
    bucket.faults = None
    time.sleep(2 * leases.RENEW_S)
  assert not lost
  assert not path.exists()


def test_a_bucket_that_cannot_be_written_says_so(url, bucket):
  path = files.path(url) / ".lock"
  bucket.faults = lambda _, method, __: 403 if method == "POST" else None
  with (
    pytest.raises(StorageError, match=r"\.lock: no permission"),
    files.lock(path),
  ):
    pass
