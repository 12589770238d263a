"""A run has the same numbers on any number of processes.

Real processes on this host, joined by `jax.distributed`, with simulated
devices. Runs that continue or serve as the reference are those of the test's
own process.
"""

import os

import child_runs
import jax
import numpy as np
import pytest

from geojax.training import dataset as dataset_lib
from geojax.training import loop, sharding

_NAMES = {
  "train": ("loss", "coords", "climate", "date"),
  "validation": ("nll_nats", "mean_km", "date_mae_days"),
}
_RTOL = {
  **dict.fromkeys(_NAMES["train"], 1e-5),
  **dict.fromkeys(_NAMES["validation"], 1e-3),
  # A new model's days are angles of vectors near 0, which rounding turns.
  "date_mae_days": 5e-3,
}


@pytest.fixture
def config(small_config):
  """Steps that are logged each, and evaluations whose last batch is filled."""
  config = small_config
  # Devices draw dropout for their own rows.
  config.model.dropout = 0.0
  config.optimizer.learning_rate = 1e-3
  config.num_steps = 12
  config.log_every = 1
  config.eval_every = 6
  config.checkpoint_every = 100
  # No place is right within 1 km: one evaluation alone saves a checkpoint.
  config.best_metric = "acc@1km"
  config.data.eval_batch_size = 12
  return config


def _stop(folder, config, **options):
  """Trains in several processes until the last of them gets SIGTERM."""
  for code, out, err in child_runs.run_several(
    folder, config, "term", **options
  ):
    assert code == os.EX_TEMPFAIL, err
    assert "is saved; the same command goes on" in out
  return child_runs.log(folder)[-1]["step"]


def _check_equal(folder, expected, config):
  """Checks that two logs hold the same steps with the same numbers."""
  lines, others = child_runs.log(folder), child_runs.log(expected)
  steps = [(line["step"], line["split"]) for line in lines]
  assert steps == [(line["step"], line["split"]) for line in others]
  assert [step for step, split in steps if split == "train"] == list(
    range(1, config.num_steps + 1)
  )
  records = len(
    dataset_lib.open_dataset(config.data.dir, config.data.name).source(
      "validation"
    )
  )
  assert records % config.data.eval_batch_size
  for line, other in zip(lines, others, strict=True):
    if line["split"] == "validation":
      assert line["count"] == other["count"] == records
    for name in _NAMES[line["split"]]:
      if name in other:
        np.testing.assert_allclose(line[name], other[name], rtol=_RTOL[name])


def test_one_process_continues_what_two_began(config, tmp_path):
  # Without the mixture, runs compile in half of the time.
  config.loss.coords = "mse"
  stopped = _stop(tmp_path / "run", config)
  assert 1 < stopped < config.num_steps
  for name in ("run", "whole"):
    loop.train(config, tmp_path / name, progress=False)
  _check_equal(tmp_path / "run", tmp_path / "whole", config)


@pytest.mark.slow
def test_two_and_one_process_continue_what_four_began(
  config, tmp_path, monkeypatch
):
  """Parameters are spread over all of them; the reference has one device."""
  config.sharding = "fsdp"
  # Four processes go on for some steps after the signal.
  config.num_steps = 30
  of_four = _stop(tmp_path / "run", config, processes=4)
  of_two = _stop(tmp_path / "run", config, processes=2, devices=2)
  assert 1 < of_four < of_two < config.num_steps
  monkeypatch.setattr(
    sharding, "create_mesh", lambda _=1: _mesh(jax.devices()[:4])
  )
  loop.train(config, tmp_path / "run", progress=False)
  monkeypatch.setattr(
    sharding, "create_mesh", lambda _=1: _mesh(jax.devices()[:1])
  )
  loop.train(config, tmp_path / "whole", progress=False)
  _check_equal(tmp_path / "run", tmp_path / "whole", config)


def _mesh(devices):
  return jax.make_mesh(
    (len(devices), 1),
    ("data", "model"),
    devices=devices,
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
