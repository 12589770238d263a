"""A run that hangs ends with 75, whatever it hangs in."""

import collections
import os
import threading

import pytest

from geojax.training import deadline, loop, pipeline, sharding


class _ExitedError(Exception):
  """The process would have ended here."""


@pytest.fixture
def exits(monkeypatch):
  """Statuses that the process would have ended with, and an event of that."""
  statuses, ended = [], threading.Event()

  def exit_(status):
    statuses.append(status)
    ended.set()

  monkeypatch.setattr(deadline.os, "_exit", exit_)
  monkeypatch.setattr(deadline, "_GRACE_S", 0.0)
  return statuses, ended


def test_what_takes_too_long_is_named_with_the_stacks_of_all_threads(
  exits, capfd
):
  statuses, ended = exits
  with deadline.StepDeadline(0.1) as watched:
    watched.begin("step 3")
    watched.begin("step 4")
    assert ended.wait(60)
  assert statuses == [os.EX_TEMPFAIL]
  err = capfd.readouterr().err
  assert "step 3 took longer than config.step_deadline_s, 0.1 s, on " in err
  assert "(process 0 of 1)" in err
  # This thread and the one that watches it.
  assert "test_what_takes_too_long" in err
  assert "_watch" in err


def test_what_ends_in_time_is_not_watched_any_longer(exits):
  statuses, ended = exits
  with deadline.StepDeadline(0.1) as watched:
    (thread,) = (t for t in threading.enumerate() if t.name == deadline.THREAD)
    for name in ("step 3", "step 4"):
      watched.begin(name)
    for name in ("step 3", "step 4", "never begun"):
      watched.end(name)
    assert not ended.wait(0.5)
  assert statuses == []
  thread.join(60)
  assert not thread.is_alive()


def test_a_deadline_of_0_watches_nothing(exits):
  _, ended = exits
  with deadline.StepDeadline(0) as watched:
    watched.begin("step 3")
    assert deadline.THREAD not in {t.name for t in threading.enumerate()}
    assert not ended.wait(0.1)


def _hang_in_batch(monkeypatch, ended):
  """The sixth batch of training never comes."""
  real = pipeline.train_batches

  def batches(*arguments, **options):
    for number, batch in enumerate(real(*arguments, **options), 1):
      if number == 6:
        assert ended.wait(60)
        raise _ExitedError
      yield batch

  monkeypatch.setattr(pipeline, "train_batches", batches)


def _hang_in_evaluation(monkeypatch, ended):
  """The third batch of an evaluation never reaches the devices."""
  real, puts = sharding.put_batch, []

  def put(batch, mesh):
    puts.append("mask" in batch)
    if sum(puts) == 3:
      assert ended.wait(60)
      raise _ExitedError
    return real(batch, mesh)

  monkeypatch.setattr(sharding, "put_batch", put)


@pytest.mark.parametrize(
  ("hang", "name"),
  [
    # Its metrics are read only after the batch of step 6 has come.
    (_hang_in_batch, "step 5"),
    (_hang_in_evaluation, "the evaluation at step 6"),
  ],
)
def test_a_run_that_hangs_ends_with_75(
  hang, name, small_config, tmp_path, exits, monkeypatch, capfd
):
  statuses, ended = exits
  hang(monkeypatch, ended)
  small_config.data.eval_batch_size = 2
  small_config.step_deadline_s = 5.0
  with pytest.raises(_ExitedError):
    loop.train(small_config, tmp_path, progress=False)
  assert statuses == [os.EX_TEMPFAIL]
  assert f"{name} took longer" in capfd.readouterr().err


def test_compilation_and_saving_are_not_watched(
  small_config, tmp_path, monkeypatch
):
  calls, running = [], set()

  class Recorded(deadline.StepDeadline):
    def begin(self, name):
      calls.append(name)
      running.add(name)
      super().begin(name)

    def end(self, name):
      running.discard(name)
      super().end(name)

  real_save = loop.checkpoint.Checkpointer.save

  def save(self, step, *arguments, **options):
    assert not running
    return real_save(self, step, *arguments, **options)

  monkeypatch.setattr(deadline, "StepDeadline", Recorded)
  monkeypatch.setattr(loop.checkpoint.Checkpointer, "save", save)
  small_config.data.eval_batch_size = 2
  loop.train(small_config, tmp_path, progress=False)
  steps = range(3, small_config.num_steps + 1)
  assert [c for c in calls if c.startswith("step")] == [
    f"step {step}" for step in steps
  ]
  # Three of the four batches of each evaluation.
  names = [c for c in calls if c.startswith("the evaluation")]
  assert collections.Counter(names) == {
    "the evaluation at step 6": 3,
    "the evaluation at step 12": 3,
  }
  assert running == set()
