"""Logs of a run: metrics.jsonl, the profiler's trace, Weights & Biases."""

import json

import pytest
import wandb

from geojax.training import config_check, logs, loop
from geojax.training.errors import ConfigError


def _train(config, workdir):
  return loop.train(config, workdir, progress=False)


def test_a_log_is_cut_back_to_the_checkpoint(tmp_path):
  lines = [json.dumps({"step": s, "split": "train"}) for s in (2, 4, 6)]
  path = tmp_path / "metrics.jsonl"
  path.write_text("\n".join(lines) + '\n{"step": 8, "spl')
  log = logs.MetricsLog(tmp_path, step=4, evaluated=2)
  log.write(5, "train", {"loss": 1.5})
  log.close()
  assert logs.read_metrics(tmp_path) == [
    {"step": 2, "split": "train"},
    {"step": 4, "split": "train"},
    {"step": 5, "split": "train", "loss": 1.5},
  ]


def test_a_trace_of_some_steps_is_written(small_config, tmp_path):
  small_config.num_steps = 5
  small_config.trace_steps = (2, 3)
  _train(small_config, tmp_path)
  (trace,) = (tmp_path / "tensorboard").rglob("*.xplane.pb")
  assert trace.stat().st_size > 10_000


def test_weights_and_biases_get_what_is_logged(
  small_config, tmp_path, monkeypatch
):
  monkeypatch.setenv("WANDB_MODE", "offline")
  small_config.wandb_project = "places"
  small_config.num_steps = 4
  small_config.eval_every = 4
  _train(small_config, tmp_path / "run")
  (file,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
  content = file.read_bytes()
  for words in (b"places", b"train/loss", b"validation/median_km"):
    assert words in content, words


def test_weights_and_biases_that_are_not_there_are_named(
  small_config, tmp_path, monkeypatch
):
  small_config.wandb_project = "places"
  monkeypatch.setattr(config_check.importlib.util, "find_spec", lambda _: None)
  with pytest.raises(ConfigError, match=r"wandb_project .*geojax\[wandb\]"):
    _train(small_config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_weights_and_biases_without_a_login_leave_the_workdir_free(
  small_config, tmp_path, monkeypatch
):
  def refuse(**_):
    # As it does without a key; it remembers the mode of the test before.
    raise wandb.errors.UsageError("No API key configured.")

  small_config.wandb_project = "places"
  small_config.num_steps = 1
  with monkeypatch.context() as patch:
    patch.setattr(wandb, "init", refuse)
    with pytest.raises(ConfigError, match=r"_project: No API key .*offline"):
      _train(small_config, tmp_path / "run")
  small_config.wandb_project = ""
  _train(small_config, tmp_path / "run")
