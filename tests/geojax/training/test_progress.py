"""Decisions that a run makes from its evaluations."""

import dataclasses
import json

import pytest

from geojax.tasks import coords_metrics
from geojax.training import config as config_lib
from geojax.training.errors import NonFiniteError
from geojax.training.progress import TIMINGS, Clock, Progress, learning_rate

_MEDIAN_KM = next(m for m in coords_metrics.METRICS if m.name == "median_km")


def _config(**options):
  config = config_lib.default_config()
  config.best_metric = "median_km"
  config.num_steps = 1000
  config.optimizer.schedule = "plateau"
  config.optimizer.plateau_patience = 2
  config.optimizer.plateau_factor = 0.5
  config.optimizer.final_fraction = 0.2
  config.update(options)
  return config


def _judge(progress, config, *values):
  judged = []
  for value in values:
    progress.step += 10
    judged.append(progress.judge(config, _MEDIAN_KM, value))
  return judged


def test_the_best_is_remembered():
  progress = Progress()
  nan = float("nan")
  judged = _judge(progress, _config(), nan, 5.0, 6.0, 4.0, 4.0)
  assert judged == [False, True, False, True, False]
  assert (progress.best, progress.best_step) == (4.0, 40)


def test_the_learning_rate_falls_on_a_plateau_down_to_its_minimum():
  progress, config = Progress(), _config()
  rates = []
  for value in (5.0, 6.0, 6.0, 6.0, 6.0, 4.0, 5.0, 5.0, 5.0, 5.0):
    _judge(progress, config, value)
    rates.append(progress.rate_scale)
  assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]
  other = Progress()
  _judge(other, _config(**{"optimizer": {"schedule": "cosine"}}), 5, 6, 6, 6)
  assert other.rate_scale == 1


def test_a_run_ends_when_patience_runs_out():
  progress, config = Progress(), _config(early_stopping_patience=2)
  _judge(progress, config, 5.0, 6.0)
  assert not progress.is_over(config)
  _judge(progress, config, 6.0)
  assert progress.is_over(config)
  assert not progress.is_over(_config())
  assert Progress(step=1000).is_over(_config())


def test_means_include_the_steps_before_a_save():
  progress = Progress()
  progress.add(1, {"loss": 0.1}, at_most_skipped=0)
  again = Progress(**json.loads(json.dumps(dataclasses.asdict(progress))))
  for so_far in (progress, again):
    so_far.add(2, {"loss": 0.7}, at_most_skipped=0)
  means = progress.take_means()
  assert means == again.take_means()
  assert means["loss"] == pytest.approx(0.4)
  assert progress.sums == {}


def test_nonfinite_steps_are_counted():
  progress = Progress()
  bad = {"loss": 1.0, "coords": float("inf")}
  assert progress.add(3, bad, at_most_skipped=1) == "step 3: coords is inf"
  with pytest.raises(NonFiniteError, match="step 4: coords is inf"):
    progress.add(4, bad, at_most_skipped=1)


def test_the_logged_rate_is_that_of_the_newest_step_not_skipped():
  """A skipped step does not advance the optimizer's schedule."""
  config = _config()
  config.optimizer.warmup_steps = 100
  config.optimizer.learning_rate = 1.0
  progress = Progress(step=11)
  assert learning_rate(config, progress) == pytest.approx(0.10)
  progress.skipped = 4
  assert learning_rate(config, progress) == pytest.approx(0.06)
  assert learning_rate(config, Progress(step=2, skipped=2)) == 0


def test_pauses_are_no_part_of_the_speed_of_steps(monkeypatch):
  now = 0.0
  monkeypatch.setattr("time.perf_counter", lambda: now)

  def batches():
    nonlocal now
    while True:
      now += 0.5
      yield "batch"

  config = _config(data={"batch_size": 10})
  clock, source = Clock(config), batches()
  for _ in range(4):
    assert clock.next(source) == "batch"
    now += 1.5
    with clock.pause("eval_s"):
      now += 20
  with clock.pause("save_wait_s"):
    now += 3
  found = clock.read()
  assert found == {
    "patches_per_second": 4 * 10 / 8,
    "data_wait_fraction": 2 / 8,
    "save_wait_s": 3,
    "eval_s": 80,
  }
  assert tuple(found) == TIMINGS
  clock.next(source)
  assert clock.read()["eval_s"] == 0
