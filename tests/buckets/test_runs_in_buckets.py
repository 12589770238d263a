"""A run whose data and workdir are in a bucket is the run on disk."""

import os
import random

import numpy as np
import pytest
import run_processes
import small_runs

from experiments.benchmarks import bucket_server
from geojax import files
from geojax.training import loop, sharding
from geojax.training import run as run_lib


@pytest.fixture
def config(smoke, monkeypatch):
  """A small run on two devices, with logs, saves and evaluations."""
  monkeypatch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)
  config = small_runs.small_config(smoke)
  config.model.dropout = 0.1
  config.num_steps = 20
  config.log_every = 3
  config.eval_every = 10
  config.checkpoint_every = 4
  return config


def _in_bucket(config, data):
  found = config.copy_and_resolve_references()
  found.data.dir = data
  return found


def _train(config, workdir):
  return loop.train(config, files.path(workdir), progress=False)


def _objects(folder):
  return {str(path) for path in _walk(files.path(folder))}


def _walk(folder):
  for path in folder.iterdir():
    if path.is_dir():
      yield from _walk(path)
    else:
      yield path


def _assert_same(a, b):
  """Asserts that two workdirs hold the same numbers."""
  a, b = map(files.path, (a, b))
  assert run_processes.log(a) == run_processes.log(b)
  for last in (True, False):
    states = [run_lib.load(folder, last=last).state for folder in (a, b)]
    run_processes.assert_same_state(*states)


def test_steps_saves_and_logs_equal_those_on_disk(config, data, url, tmp_path):
  config.num_steps = 50
  config.trace_steps = (3, 4)
  _train(config, tmp_path / "run")
  _train(_in_bucket(config, data), url)
  _assert_same(url, tmp_path / "run")
  assert len(run_processes.log(files.path(url))) > 16
  found = _objects(url)
  assert any("tensorboard/events.out" in name for name in found)
  assert any(name.endswith(".pb") for name in found)
  assert f"{url}/.lock" not in found
  # Nothing was written to a folder of the bucket's name on this machine.
  assert not os.path.exists("gs:")


def test_a_run_goes_on_in_a_bucket(config, data, url, tmp_path):
  config = _in_bucket(config, data)
  _train(config, tmp_path / "run")
  config.num_steps = 10
  _train(config, url)
  config.num_steps = 20
  # Another number of steps is another config; the rest goes on.
  path = files.path(url) / "config.json"
  text = (tmp_path / "run/config.json").read_text()
  files.write_text(path, text)
  _train(config, url)
  _assert_same(url, tmp_path / "run")


def test_a_save_that_was_cut_short_is_noticed_and_kept(
  config, data, url, tmp_path, capsys
):
  config = _in_bucket(config, data)
  _train(config, tmp_path / "run")
  _train(config, url)
  newest = files.path(url) / f"checkpoints/{config.num_steps}"
  # What a run that is killed in a save has not written yet.
  (newest / "commit_success.txt").unlink()
  before = _objects(newest)
  assert before
  _train(config, url)
  _assert_same(url, tmp_path / "run")
  (kept,) = (files.path(url) / "checkpoints_damaged").iterdir()
  moved = {name.replace(str(kept), str(newest)) for name in _objects(kept)}
  assert moved == before


def test_an_array_that_is_damaged_is_noticed_and_kept(
  config, data, url, tmp_path, capsys
):
  config = _in_bucket(config, data)
  _train(config, url)
  lines = run_processes.log(files.path(url))
  newest = files.path(url) / f"checkpoints/{config.num_steps}/state"
  largest = max(_walk(newest), key=lambda path: path.stat().length)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(bytes(content))
  _train(config, url)
  assert "is damaged" in capsys.readouterr().err
  assert run_processes.log(files.path(url)) == lines
  assert (files.path(url) / "checkpoints_damaged").exists()


def test_a_run_through_a_bad_network_is_the_same(
  config, data, url, bucket, tmp_path, no_waiting
):
  _train(config, tmp_path / "run")
  bucket.faults = bucket_server.random_faults(0, 0.05)
  _train(_in_bucket(config, data), url)
  bucket.faults = None
  _assert_same(url, tmp_path / "run")


def test_a_killed_run_in_a_bucket_goes_on(config, data, url, tmp_path):
  config = _in_bucket(config, data)
  code, _, err = run_processes.run(url, config, "step")
  assert code == -9, err
  code, _, err = run_processes.run(url, config, "never")
  assert code == 0, err
  code, _, err = run_processes.run(tmp_path / "run", config, "never")
  assert code == 0, err
  _assert_same(url, tmp_path / "run")


@pytest.mark.slow
def test_a_run_killed_ten_times_at_random_is_the_same(
  config, data, url, tmp_path
):
  config = _in_bucket(config, data)
  config.num_steps = 400
  chosen, kills = random.Random(0), 0
  while True:
    with run_processes.start(url, config, "never") as process:
      try:
        # The first seconds are imports: at least one of these kills each part.
        process.communicate(timeout=chosen.uniform(5, 15))
      except TimeoutError:
        raise
      except Exception:
        process.kill()
        process.communicate()
    if process.returncode == 0:
      break
    kills += 1
    assert process.returncode == -9
  print(f"{kills} kills")
  code, _, err = run_processes.run(tmp_path / "run", config, "never")
  assert code == 0, err
  _assert_same(url, tmp_path / "run")


def test_two_processes_train_in_a_bucket_as_one(config, data, url, tmp_path):
  config = _in_bucket(config, data)
  config.model.dropout = 0.0
  config.optimizer.learning_rate = 1e-3
  for code, _, err in run_processes.run_two(url, config, "never"):
    assert code == 0, err
  code, _, err = run_processes.run(tmp_path / "run", config, "never")
  assert code == 0, err
  lines, expected = map(run_processes.log, (files.path(url), tmp_path / "run"))
  assert len(lines) == len(expected)
  for line, other in zip(lines, expected, strict=True):
    assert (line["step"], line["split"]) == (other["step"], other["split"])
    if "loss" in line:
      np.testing.assert_allclose(line["loss"], other["loss"], rtol=1e-5)
