"""A run whose data and workdir are in a bucket is the run on disk."""

import pathlib
import random
import signal

import child_runs
import jax
import numpy as np
import pytest
import small_runs

from experiments.benchmarks import bucket_server
from geojax import files
from geojax.training import loop, sharding
from geojax.training import run as run_lib


def _config(data):
  config = small_runs.small_config(data)
  config.model.dropout = 0.1
  config.num_steps = 50
  config.log_every = 7
  config.eval_every = 25
  config.checkpoint_every = 20
  config.trace_steps = (3, 4)
  return config


@pytest.fixture
def config(data, monkeypatch):
  """A small run on two devices, of data in the bucket."""
  monkeypatch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)
  return _config(data)


@pytest.fixture(scope="module")
def on_disk(smoke, tmp_path_factory):
  """The workdir of that run, of the same data, both on disk."""
  workdir = tmp_path_factory.mktemp("on_disk")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)
    _train(_config(smoke), workdir)
  return workdir


@pytest.fixture(scope="module")
def in_bucket(data):
  """The same in the bucket; each test leaves it as it was."""
  url = data.replace("/data", "/runs/in_bucket")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)
    _train(_config(data), url)
  return url


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
  assert child_runs.log(a) == child_runs.log(b)
  for last in (True, False):
    states = [run_lib.load(folder, last=last).state for folder in (a, b)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_steps_saves_and_logs_equal_those_on_disk(on_disk, in_bucket):
  _assert_same(in_bucket, on_disk)
  assert len(child_runs.log(on_disk)) > 8
  found = _objects(in_bucket)
  assert any("tensorboard/events.out" in name for name in found)
  # The profiler's trace.
  assert any(name.endswith(".pb") for name in found)
  assert f"{in_bucket}/.lock" not in found
  # Nothing was written to a folder of the bucket's name on this machine.
  assert not pathlib.Path("gs:").exists()


def test_a_save_that_was_cut_short_is_noticed_and_kept(
  config, on_disk, in_bucket
):
  newest = files.path(in_bucket) / f"checkpoints/{config.num_steps}"
  # What a run that is killed in a save has not written yet.
  (newest / "commit_success.txt").unlink()
  before = _objects(newest)
  assert before
  _train(config, in_bucket)
  _assert_same(in_bucket, on_disk)
  (kept,) = (files.path(in_bucket) / "checkpoints_damaged").iterdir()
  moved = {name.replace(str(kept), str(newest)) for name in _objects(kept)}
  assert moved == before
  kept.rmtree()


def test_an_array_that_is_damaged_is_noticed_and_kept(
  config, on_disk, in_bucket, capsys
):
  newest = files.path(in_bucket) / f"checkpoints/{config.num_steps}/state"
  largest = max(_walk(newest), key=lambda path: path.stat().length)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(bytes(content))
  _train(config, in_bucket)
  assert "is damaged" in capsys.readouterr().err
  _assert_same(in_bucket, on_disk)
  (kept,) = (files.path(in_bucket) / "checkpoints_damaged").iterdir()
  kept.rmtree()


def test_a_run_through_a_bad_network_is_the_same(
  config, on_disk, url, bucket, no_waiting
):
  bucket.faults = bucket_server.random_faults(0, 0.05)
  _train(config, url)
  bucket.faults = None
  _assert_same(url, on_disk)


def test_a_killed_run_in_a_bucket_goes_on(config, on_disk, url):
  config.checkpoint_every = 5
  code, _, err = child_runs.run(url, config, "step")
  assert code == -9, err
  assert files.path(f"{url}/.lock").exists()
  code, _, err = child_runs.run(url, config, "never")
  assert code == 0, err
  _assert_same(url, on_disk)


@pytest.mark.slow
def test_a_run_killed_at_random_is_the_same(config, url, tmp_path):
  config.num_steps = 240
  chosen = random.Random(0)
  for _ in range(10):
    # In steps, evaluations and saves alike. Counted from a batch on, so that
    # start-up, of whatever duration, takes no part in it.
    batches, seconds = chosen.randint(1, 30), chosen.uniform(0, 0.3)
    code, _, err = child_runs.run(url, config, f"after {batches} {seconds}")
    assert code == -signal.SIGKILL, err
  assert not files.path(f"{url}/checkpoints/{config.num_steps}").exists()
  for folder in (url, tmp_path / "run"):
    code, _, err = child_runs.run(folder, config, "never")
    assert code == 0, err
  _assert_same(url, tmp_path / "run")


def test_two_processes_train_in_a_bucket_as_one(config, url, tmp_path):
  config.model.dropout = 0.0
  config.optimizer.learning_rate = 1e-3
  config.num_steps = 20
  for code, _, err in child_runs.run_several(url, config, "never"):
    assert code == 0, err
  code, _, err = child_runs.run(tmp_path / "run", config, "never")
  assert code == 0, err
  lines, expected = map(child_runs.log, (files.path(url), tmp_path / "run"))
  assert len(lines) == len(expected)
  for line, other in zip(lines, expected, strict=True):
    assert (line["step"], line["split"]) == (other["step"], other["split"])
    if "loss" in line:
      np.testing.assert_allclose(line["loss"], other["loss"], rtol=1e-5)
