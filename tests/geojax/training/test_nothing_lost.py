"""Whatever ends a run, the same command ends it as if nothing had."""

import itertools
import json
import os
import subprocess
import sys
import time

import child_runs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.training import dataset as dataset_lib
from geojax.training import loop, pipeline, sharding, workdir
from geojax.training import run as run_lib
from geojax.training.errors import (
  CheckpointError,
  NonFiniteError,
  WorkdirBusyError,
)


def _same_state(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _files(workdir):
  return {
    path: path.read_bytes()
    for path in workdir.glob("checkpoints*/**/*")
    if path.is_file()
  }


@pytest.fixture
def odd_config(small_config):
  """Log, evaluation and checkpoint at steps that share few multiples."""
  config = small_config
  config.num_steps = 14
  config.log_every = 3
  config.eval_every = 6
  config.checkpoint_every = 4
  config.optimizer.schedule = "plateau"
  config.optimizer.plateau_patience = 1
  config.best_metric = "climate_accuracy"
  return config


@pytest.mark.slow
def test_a_run_ended_in_every_way_ends_like_one_never_ended(
  odd_config, tmp_path
):
  ended = tmp_path / "ended"
  for when, code in (
    ("step", -9),
    ("evaluation", -9),
    ("term_in_evaluation", os.EX_TEMPFAIL),
    ("term", os.EX_TEMPFAIL),
    ("save", -9),
  ):
    found, out, err = child_runs.run(ended, odd_config, when)
    assert found == code, (when, out, err)
    if code == os.EX_TEMPFAIL:
      assert "is saved; the same command goes on" in out
  for folder in (ended, tmp_path / "whole"):
    code, _, err = child_runs.run(folder, odd_config, "never")
    assert code == 0, err

  assert child_runs.log(ended) == child_runs.log(tmp_path / "whole")
  assert len(child_runs.log(ended)) > 6
  a, b = (
    run_lib.load(folder, last=True) for folder in (ended, tmp_path / "whole")
  )
  assert int(a.state.step) == odd_config.num_steps
  _same_state(a.state, b.state)
  best, expected = (
    run_lib.load(path).state for path in (ended, tmp_path / "whole")
  )
  _same_state(best, expected)


@pytest.mark.slow
def test_two_processes_train_as_one_and_one_goes_on_from_two(
  odd_config, tmp_path
):
  odd_config.model.dropout = 0.0
  odd_config.optimizer.learning_rate = 1e-3
  odd_config.sharding = "fsdp"
  two, one = tmp_path / "two", tmp_path / "one"
  # SIGTERM reaches the second process alone: both stop after the same step.
  for code, out, err in child_runs.run_several(two, odd_config, "term"):
    assert code == os.EX_TEMPFAIL, err
    assert "is saved; the same command goes on" in out
  # What the second process alone cannot read stops both, and nothing is moved.
  files = _files(two)
  for code, _, err in child_runs.run_several(two, odd_config, "unreadable"):
    assert code == 1
    assert "cannot be read" in err
  assert _files(two) == files
  # One process goes on with both devices, then two again.
  code, _, err = child_runs.run(two, odd_config, "step")
  assert code == -9, err
  for code, _, err in child_runs.run_several(two, odd_config, "never"):
    assert code == 0, err
  code, _, err = child_runs.run(one, odd_config, "never")
  assert code == 0, err

  lines, expected = child_runs.log(two), child_runs.log(one)
  assert [(x["step"], x["split"]) for x in lines] == [
    (x["step"], x["split"]) for x in expected
  ]
  for line, other in zip(lines, expected, strict=True):
    for name in ("loss", "coords", "climate", "date"):
      if name in line:
        np.testing.assert_allclose(line[name], other[name], rtol=1e-5)
    if line["split"] == "validation":
      np.testing.assert_allclose(line["nll_nats"], other["nll_nats"], rtol=1e-3)


def test_a_run_goes_on_from_the_newest_whole_checkpoint(
  small_config, tmp_path, capsys
):
  whole = loop.train(small_config, tmp_path, progress=False)
  lines = child_runs.log(tmp_path)
  newest = tmp_path / f"checkpoints/{small_config.num_steps}/state"
  files = [path for path in newest.rglob("*") if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(content)
  again = loop.train(small_config, tmp_path, progress=False)
  assert "is damaged" in capsys.readouterr().err
  _same_state(whole.state, again.state)
  assert child_runs.log(tmp_path) == lines


def test_a_second_run_in_a_workdir_is_refused(small_config, tmp_path):
  code = (
    "import sys, pathlib; from geojax.training import workdir\n"
    f"with workdir.claim(pathlib.Path({str(tmp_path)!r})):\n"
    "  print('claimed', flush=True); sys.stdin.read()"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code],
    cwd=child_runs.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as first:
    assert first.stdout.readline() == b"claimed\n"
    with pytest.raises(WorkdirBusyError, match=f"process {first.pid} trains"):
      loop.train(small_config, tmp_path, progress=False)
    first.kill()
  # What was killed holds nothing.
  with workdir.claim(tmp_path):
    pass


def test_a_workdir_that_cannot_be_written_is_named(small_config, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(WorkdirBusyError, match="file/run cannot be written: Not"):
    loop.train(small_config, tmp_path / "file/run", progress=False)


@pytest.fixture
def one_bad_record(monkeypatch):
  """Makes the climate of one train record overflow; returns its number."""
  real = pipeline.train_batches
  bad = 5

  class WithABadRecord(dataset_lib.Records):
    def __init__(self, source):
      self._source = source

    def __len__(self):
      return len(self._source)

    def read(self, indices):
      batch = self._source.read(indices)
      is_bad = np.equal(indices, bad)[:, None]
      return {**batch, "climate": np.where(is_bad, 3e38, batch["climate"])}

  def with_a_bad_record(source, **options):
    return real(WithABadRecord(source), **options)

  monkeypatch.setattr(pipeline, "train_batches", with_a_bad_record)
  return bad


def test_what_is_not_finite_is_named_with_its_records(
  small_config, tmp_path, one_bad_record
):
  small_config.num_steps = 400
  small_config.eval_every = small_config.checkpoint_every = 1000
  with pytest.raises(NonFiniteError) as raised:
    loop.train(small_config, tmp_path, progress=False)
  message = str(raised.value)
  assert "climate is " in message
  names = (tmp_path / "not_finite.txt").read_text().splitlines()
  assert "['model']['climate']['kernel']" in names
  assert [name for name in names if name in message] == names[:5]
  assert f"and {len(names) - 5} more, all in {tmp_path}" in message
  start = message.index("the records [") + len("the records ")
  records = json.loads(message[start : message.index("]", start) + 1])
  assert one_bad_record in records
  assert len(records) == small_config.data.batch_size


def test_steps_that_are_not_finite_are_left_out_up_to_a_number(
  small_config, tmp_path, one_bad_record
):
  count = len(
    dataset_lib.open_dataset(
      small_config.data.dir, small_config.data.name
    ).source("train")
  )
  epoch = -(-count // small_config.data.batch_size)
  small_config.num_steps = epoch
  small_config.log_every = epoch
  small_config.eval_every = small_config.checkpoint_every = 1000
  small_config.skip_nonfinite_steps = 1
  run = loop.train(small_config, tmp_path / "one", progress=False)
  line = next(
    x for x in child_runs.log(tmp_path / "one") if x["split"] == "train"
  )
  assert line["skipped_steps"] == 1
  assert np.isfinite(line["loss"])
  assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(run.state))
  small_config.num_steps = 2 * epoch + 1
  with pytest.raises(NonFiniteError, match="climate is "):
    loop.train(small_config, tmp_path / "two", progress=False)


def test_a_full_disk_ends_a_run_with_a_sentence(
  small_config, tmp_path, monkeypatch
):
  real = loop.checkpoint.ocp.training.Checkpointer.save_checkpointables_async

  def full(self, step, *args, **kwargs):
    if step == 8:
      raise OSError(28, "No space left on device")
    return real(self, step, *args, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(
      loop.checkpoint.ocp.training.Checkpointer,
      "save_checkpointables_async",
      full,
    )
    with pytest.raises(CheckpointError, match="No space left"):
      loop.train(small_config, tmp_path, progress=False)
  run = loop.train(small_config, tmp_path, progress=False)
  assert int(run.state.step) == small_config.num_steps


@pytest.mark.parametrize("jump_s", [86400, -86400])
def test_a_clock_that_jumps_changes_nothing(
  small_config, tmp_path, monkeypatch, jump_s
):
  """Between two steps; in a save, Orbax may take it for a save that hangs."""
  small_config.step_deadline_s = 60.0
  steady = loop.train(small_config, tmp_path / "steady", progress=False)
  real_time, real_put, puts = time.time, sharding.put_batch, itertools.count()

  def jump_before_a_step(*args):
    if next(puts) == 3:
      monkeypatch.setattr(time, "time", lambda: real_time() + jump_s)
    return real_put(*args)

  monkeypatch.setattr(sharding, "put_batch", jump_before_a_step)
  jumped = loop.train(small_config, tmp_path / "jumped", progress=False)
  assert abs(time.time() - real_time() - jump_s) < 60
  _same_state(steady.state, jumped.state)
  assert child_runs.log(tmp_path / "jumped") == child_runs.log(
    tmp_path / "steady"
  )
