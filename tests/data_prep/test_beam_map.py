"""Tasks on Beam give what they give on one machine."""

import contextlib
import json
import operator
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time

import build_runs
import pytest
from beam_runs import DIRECT, finish, job_server

from data_prep import beam_map, beam_tasks
from data_prep.build_folder import BuildError

in_beam = pytest.mark.beam
NAME = "geo_tiles/earth_smoke/1.0.0"


@in_beam
def test_answers_come_in_order(tmp_path):
  mapped = beam_map.beam_map("DirectRunner", [], tmp_path)
  # Of several blocks of arguments.
  numbers = list(range(150))
  assert list(mapped(operator.mul, numbers, numbers)) == [
    n * n for n in numbers
  ]
  assert list(mapped(operator.mul, [], [])) == []
  assert not list(tmp_path.iterdir())


@in_beam
def test_what_a_call_raises_reaches_the_caller(tmp_path):
  mapped = beam_map.beam_map("DirectRunner", [], tmp_path)
  with pytest.raises(ZeroDivisionError):
    list(mapped(operator.truediv, [1, 1], [1, 0]))
  assert not list(tmp_path.iterdir())


@in_beam
def test_a_worker_that_does_not_see_a_folder_is_named(tmp_path):
  source = tmp_path / "source"
  source.mkdir()
  (source / "tile.tif").write_bytes(b"1234")
  mapped = beam_map.beam_map("DirectRunner", [], tmp_path, [source])
  # As a worker with a disk of its own at the same path.
  (source / "tile.tif").write_bytes(b"another one")
  with pytest.raises(BuildError) as refused:
    list(mapped(operator.neg, [1, 2]))
  sentence = str(refused.value)
  assert f"host {socket.gethostname()} does not see {source}" in sentence
  assert "all workers must see the folders" in sentence
  assert "\n" not in sentence


@in_beam
def test_no_job_server_is_one_sentence(tmp_path):
  options = ["--job_endpoint=localhost:1", "--job_server_timeout=1"]
  mapped = beam_map.beam_map("PortableRunner", options, tmp_path)
  with pytest.raises(BuildError, match="no job server answers the PortableRun"):
    list(mapped(operator.neg, [1]))


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path_factory):
  """A folder for the logs of pipelines that fail."""
  monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
  monkeypatch.setattr(tempfile, "tempdir", None)


def start(output, flags):
  return build_runs.start(*build_runs.smoke_to(output), *flags)


def files_of(output):
  return {path.name: path.read_bytes() for path in (output / NAME).iterdir()}


@in_beam
def test_a_job_server_writes_the_same_files(
  smoke, tiles_only, tmp_path_factory
):
  with job_server(tmp_path_factory.mktemp("jobs")) as flags:
    code, _, line = finish(start(tiles_only, flags))
  assert code == 0, line
  assert files_of(tiles_only) == files_of(smoke)


def kill_a_worker(output, process):
  """Kills a worker that writes records, in the middle of a task."""
  while True:
    assert process.poll() is None
    time.sleep(0.01)
    if not list(output.glob("tiles/earth_smoke/shards/.*.tmp")):
      continue
    for path in output.glob("tiles/earth_smoke/.beam.*/running/*"):
      with contextlib.suppress(OSError, ValueError):
        pid = json.loads(path.read_text())["process"]
        # It may have finished the task meanwhile.
        os.kill(pid, signal.SIGSTOP)
        is_busy = path.exists()
        os.kill(pid, signal.SIGKILL if is_busy else signal.SIGCONT)
        if is_busy:
          return pid


@in_beam
def test_a_build_whose_worker_was_killed_goes_on(smoke, tmp_path):
  """Of workers that are processes, which cut the tiles as well."""
  process = start(tmp_path, DIRECT)
  pid = kill_a_worker(tmp_path, process)
  code, _, line = finish(process)
  assert code == 1
  assert line.startswith(f"data_prep.build: process {pid} on ")
  assert "give the same command again" in line
  assert "\n" not in line
  assert not (tmp_path / NAME).exists()
  code, _, line = finish(start(tmp_path, DIRECT))
  assert code == 0, line
  assert files_of(tmp_path) == files_of(smoke)
  assert not list(tmp_path.glob("tiles/earth_smoke/.beam.*"))


MEMORY = r"""
import pathlib, re, sys
from data_prep import beam_map
if __name__ == "__main__":
  mapped = beam_map.beam_map("DirectRunner", [], sys.argv[1])
  peaks = []
  for num_tasks in (100, 1000):
    for result in mapped(bytes, [200_000] * num_tasks):
      assert len(result) == 200_000
    # The peak of `resource` is at least that of pytest, which forked this.
    status = pathlib.Path("/proc/self/status").read_text()
    peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)
  print(*peaks)
"""


@in_beam
def test_ten_times_the_tasks_take_the_same_memory(tmp_path):
  """Of the caller, whose results would be 200 MB."""
  script = tmp_path / "memory.py"
  script.write_text(MEMORY)
  done = subprocess.run(
    [sys.executable, script, tmp_path],
    env={**os.environ, "PYTHONPATH": str(build_runs.REPO)},
    capture_output=True,
    text=True,
    check=True,
  )
  few, many = map(float, done.stdout.split())
  assert many < few + 20


@pytest.fixture
def watched(monkeypatch, tmp_path):
  """A folder of tasks, and what looks whether workers are there."""
  monkeypatch.setattr(beam_tasks, "BEAT_S", 0.0)
  beam_tasks.write(tmp_path / "tasks", operator.neg, [(1,), (2,)])
  return tmp_path / "tasks", beam_map._Watch(tmp_path / "tasks", "DirectRunner")


def test_a_worker_elsewhere_that_is_silent_is_gone(monkeypatch, watched):
  folder, watch = watched
  sign = {"host": "node7", "process": 5, "machine": "another", "beat": 0}
  for beat in range(3):
    sign["beat"] = beat
    (folder / "running/1").write_text(json.dumps(sign))
    watch.check()
  watch.check()
  monkeypatch.setattr(beam_map, "_SILENT_S", 0.0)
  with pytest.raises(
    BuildError, match="process 5 on node7, a worker of the Dir"
  ):
    watch.check()


def test_a_worker_that_begins_no_further_task_is_gone(monkeypatch, watched):
  """Killed between two tasks; before the first one workers may be awaited."""
  folder, watch = watched
  monkeypatch.setattr(beam_map, "_IDLE_S", 0.0)
  watch.check()
  watch.check()
  beam_tasks.run((0, pickle.dumps((1,))), str(folder), ())
  assert beam_tasks.result(folder, 0) == (-1, None)
  watch.check()
  with pytest.raises(
    BuildError, match="no worker of the DirectRunner has begun"
  ):
    watch.check()


def test_dataflow_sees_no_disk_of_this_machine(capsys, tmp_path):
  code = build_runs.run_main(
    *build_runs.smoke_to(tmp_path), "--beam_runner=DataflowRunner"
  )
  (line,) = capsys.readouterr().err.splitlines()
  assert code == 1
  assert f"--output={tmp_path}" in line
  assert "--beam_runner=DataflowRunner" in line
  assert not list(tmp_path.iterdir())
