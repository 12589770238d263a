"""Runs: they learn, resume to the same numbers, refuse what is wrong."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import centers, encodings, losses, mixture, tasks
from geojax.training import (
  checksums,
  logs,
  loop,
  pipeline,
  progress,
  sharding,
)
from geojax.training import dataset as dataset_lib
from geojax.training import evaluate as evaluate_lib
from geojax.training import run as run_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib
from geojax.training.errors import ConfigError, DatasetError, NonFiniteError


class Killed(Exception):
  """Stands for the signal."""


def _train(config, workdir):
  return loop.train(config, workdir, progress=False)


def _make_step(config, dataset):
  return step_lib.make_train_step(
    config,
    tasks.create_tasks(config),
    offset=dataset.offset,
    divisor=dataset.divisor,
  )


def _create_state(config, dataset):
  return state_lib.create_state(
    config,
    tasks.create_tasks(config),
    image_shape=dataset.image_shape,
    read_labels=lambda count, task: dataset.read_labels("train", count),
  )


def _log(workdir):
  lines = logs.read_metrics(workdir)
  return [
    {k: v for k, v in x.items() if k not in progress.TIMINGS} for x in lines
  ]


@pytest.mark.parametrize("coords", ["mvmf", "mse"])
def test_the_loss_falls(small_config, tmp_path, coords):
  small_config.loss.coords = coords
  small_config.num_steps = 24
  small_config.eval_every = 12
  _train(small_config, tmp_path)
  lines = [x for x in logs.read_metrics(tmp_path) if x["split"] == "train"]
  for name in ("loss", "coords", "climate"):
    assert lines[-1][name] < lines[0][name]
  assert all(0 <= line["data_wait_fraction"] <= 1 for line in lines)
  # A line holds what came after the line before: saves at each, one evaluation.
  assert [line["save_wait_s"] > 0 for line in lines] == [False] + 5 * [True]
  assert [x["step"] for x in lines if x["eval_s"] > 0] == [16]


def test_saves_compile_no_checksums(small_config, tmp_path, monkeypatch):
  real, sums, compiled = checksums.of_arrays, checksums._sums_of_words, []

  def of_arrays(state):
    before = sums._cache_size()
    values = real(state)
    compiled.append(sums._cache_size() - before)
    return values

  monkeypatch.setattr(checksums, "of_arrays", of_arrays)
  sums.clear_cache()
  small_config.num_steps, small_config.checkpoint_every = 3, 1
  _train(small_config, tmp_path)
  # At set-up, then at the save after each step.
  assert compiled == [1, 0, 0, 0]


def test_a_killed_run_ends_like_one_never_killed(
  small_config, tmp_path, monkeypatch
):
  whole = _train(small_config, tmp_path / "whole")

  # Killed in step 7: after the checkpoint of step 4 and the evaluation of 6.
  real_put, steps = sharding.put_batch, []

  def put_until_killed(batch, mesh):
    if len(batch["image"]) == small_config.data.batch_size:
      steps.append(1)
      if len(steps) == 7:
        raise Killed
    return real_put(batch, mesh)

  with monkeypatch.context() as patch:
    patch.setattr(sharding, "put_batch", put_until_killed)
    with pytest.raises(Killed):
      _train(small_config, tmp_path / "killed")
  assert _log(tmp_path / "killed")[-1]["step"] == 6
  resumed = _train(small_config, tmp_path / "killed")

  assert _log(tmp_path / "killed") == _log(tmp_path / "whole")
  for a, b in zip(
    jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_a_loaded_run_evaluates_as_the_trained_one(trained, two_devices):
  run, workdir = trained
  evaluate = evaluate_lib.make_evaluate(
    run.config, run.tasks, run.dataset, run.mesh
  )
  loaded = run_lib.load(workdir)
  assert evaluate(loaded.state.evaluated, "test") == evaluate(
    run.state.evaluated, "test"
  )


def test_the_temperature_softens_predictions_alone(small_config, trained):
  run, _ = trained
  variables = run.state.evaluated
  dataset = run.dataset
  batch = next(pipeline.eval_batches(dataset.source("train"), batch_size=16))
  scale = {"offset": dataset.offset, "divisor": dataset.divisor}
  small_config.mixture.temperature = 1e9
  columns = jax.jit(
    step_lib.make_columns(
      small_config, tasks.create_tasks(small_config), **scale
    )
  )(variables, batch)
  # So hot that all centers weigh the same.
  head = variables["params"]["model"]["coords"]
  mu, log_kappa = head["mu"], head["log_kappa"]
  true = encodings.coordinates_to_unit(batch["coords"])
  even = mixture.log_prob(true, np.zeros((16, len(mu))), mu, log_kappa)
  expected = losses.relative_nll(even)
  np.testing.assert_allclose(columns["nll_nats"], expected, rtol=1e-4)


def test_one_device_and_eight_take_the_same_steps(small_config):
  dataset = dataset_lib.open_dataset(
    small_config.data.dir, small_config.data.name
  )
  small_config.mixture.centers_learning_rate = 1e-3
  small_config.mixture.log_kappa_learning_rate = 1e-3
  train_step = jax.jit(_make_step(small_config, dataset))
  taken_by = []
  for devices in (1, 8):
    mesh = jax.make_mesh(
      (devices, 1),
      ("data", "model"),
      devices=jax.devices()[:devices],
      axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    batches = pipeline.train_batches(
      dataset.source("train"), batch_size=32, seed=0
    )
    state = _create_state(small_config, dataset)
    state = jax.device_put(state, sharding.replicated(mesh))
    taken = []
    for _ in range(3):
      batch = next(batches)
      # Land on the first device alone: the rest has nothing to average.
      batch["climate"][4:, 0] = 1.0
      state, metrics = train_step(state, sharding.put_batch(batch, mesh))
      taken.append([float(metrics[k]) for k in ("coords", "climate", "date")])
    taken_by.append(taken)
    mu = state.params["model"]["coords"]["mu"]
    length = jnp.linalg.norm(mu, axis=-1)
    np.testing.assert_allclose(length, 1, atol=1e-6)
  np.testing.assert_allclose(*taken_by, rtol=1e-4, atol=1e-5)


def test_a_batch_that_does_not_split_says_what_would():
  mesh = sharding.create_mesh()
  with pytest.raises(ConfigError, match=r"multiple of 8, such as 16"):
    sharding.check_rows(12, mesh)
  with pytest.raises(ConfigError, match=r"3 parts.* of 24, such as 48"):
    sharding.check_rows(32, mesh, parts=3)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("data.eval_batch_size", 63, r"such as 64"),
    ("model.widths", (8,), r"config\.model\.widths must lie in \[16, inf\)"),
    (
      "mixture.num_centers",
      10**6,
      r"config\.mixture\.num_centers or config\.mixture\.min_distance_km .*"
      r"at most \d+",
    ),
    ("mixture.min_distance_km", 9999.0, r"at least 9999\.0 km apart"),
  ],
)
def test_a_config_that_does_not_fit_leaves_the_workdir_free(
  small_config, tmp_path, key, value, message
):
  wrong = small_config.copy_and_resolve_references()
  wrong.update_from_flattened_dict({key: value})
  with pytest.raises(ConfigError, match=message):
    _train(wrong, tmp_path)
  small_config.num_steps = 1
  _train(small_config, tmp_path)


def test_a_data_set_without_a_split_is_refused_before_the_first_step(
  small_config, tmp_path, smoke
):
  # Built with --test=0: the split is there in name alone, or not at all.
  shutil.copytree(smoke / "geo_tiles", tmp_path / "data/geo_tiles")
  small_config.data.dir = str(tmp_path / "data")
  (info,) = (tmp_path / "data").rglob("dataset_info.json")
  told = json.loads(info.read_text())
  (test,) = (split for split in told["splits"] if split["name"] == "test")
  test["shardLengths"] = []
  info.write_text(json.dumps(told))
  with pytest.raises(DatasetError, match=r"no records in test: .*--test above"):
    _train(small_config, tmp_path / "run")
  told["splits"] = [s for s in told["splits"] if s["name"] == "train"]
  info.write_text(json.dumps(told))
  with pytest.raises(DatasetError, match=r"no records in validation, test: "):
    _train(small_config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_centers_in_chunks_take_the_same_steps(small_config):
  dataset = dataset_lib.open_dataset(
    small_config.data.dir, small_config.data.name
  )
  small_config.mixture.centers = "fibonacci"
  small_config.mixture.num_centers = 1000
  state = _create_state(small_config, dataset)
  batch = next(
    pipeline.train_batches(dataset.source("train"), batch_size=24, seed=0)
  )
  results, programs = [], []
  for chunk_size in (0, 192):
    small_config.mixture.chunk_size = chunk_size
    train_step = jax.jit(_make_step(small_config, dataset))
    programs.append(train_step.lower(state, batch).as_text())
    after, taken = state, []
    for _ in range(4):
      after, metrics = train_step(after, batch)
      taken.append([float(metrics[k]) for k in ("coords", "grad_norm")])
    results.append(taken)
  # No [batch, centers] but in the dense form.
  assert ["tensor<24x1000xf32>" in text for text in programs] == [True, False]
  dense, chunked = results
  assert dense[-1][0] < dense[0][0]
  np.testing.assert_allclose(chunked, dense, rtol=1e-3)


def test_concentrations_by_the_centers_own_spacing(small_config, tmp_path):
  small_config.num_steps = 1
  small_config.mixture.spacing_mass = 0.25
  mixture_params = _train(small_config, tmp_path).state.params["model"]
  mixture_params = mixture_params["coords"]
  expected = centers.log_kappa_from_spacing(mixture_params["mu"], mass=0.25)
  np.testing.assert_allclose(mixture_params["log_kappa"], expected, rtol=1e-5)


def test_centers_are_laid_out_on_land_alone(small_config, tmp_path):
  small_config.num_steps = 1
  small_config.mixture.centers = "train_subset"
  small_config.mixture.num_centers = 100
  small_config.mixture.min_distance_km = 0.0
  small_config.mixture.centers_learning_rate = 0.0
  # A task that reads no climate, by which the sea is known.
  small_config.tasks = ("coords",)
  run = _train(small_config, tmp_path)
  labels = run.dataset.read_labels("train")
  land = encodings.known_rows(labels)["coords"]
  assert 0 < np.mean(~land) < 1
  places = encodings.coordinates_to_unit(labels["coords"])
  from_sea = places[~land] @ run.state.params["model"]["coords"]["mu"].T
  assert from_sea.max() < 1 - 1e-6


def test_learned_variances_weigh_the_tasks(small_config, tmp_path):
  small_config.num_steps = 6
  small_config.loss.variances_learning_rate = 0.1
  variances = _train(small_config, tmp_path).state.params["log_variances"]
  # The climate is far from known, the date's squared error is small.
  assert variances["climate"] > 0 > variances["date"]


def test_a_loss_that_is_not_finite_stops_with_step_and_term(
  small_config, tmp_path
):
  small_config.optimizer.learning_rate = 1e30
  small_config.optimizer.warmup_steps = 0
  with pytest.raises(NonFiniteError, match=r"step \d+: \w+ is (nan|-?inf)"):
    _train(small_config, tmp_path)


def test_another_configs_workdir_is_refused(small_config, tmp_path):
  _train(small_config, tmp_path)
  small_config.optimizer.learning_rate = 0.5
  with pytest.raises(ConfigError, match=r"optimizer\.learning_rate is 0\.01"):
    _train(small_config, tmp_path)


def test_the_moving_average_forgets_where_it_began(small_config, tmp_path):
  run = _train(small_config, tmp_path)
  newest = {
    "params": run.state.params,
    "batch_stats": run.state.batch_stats,
  }
  for mean, new in zip(
    jax.tree.leaves(run.state.ema), jax.tree.leaves(newest), strict=True
  ):
    assert mean.shape == new.shape
  kernel = ("params", "model", "coords", "kernel")
  mean, new = run.state.ema, newest
  for name in kernel:
    mean, new = mean[name], new[name]
  assert not np.array_equal(mean, new)
  assert np.abs(mean - new).max() < np.abs(new).max()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_train_step_lowers_for_accelerators(small_config, platform):
  dataset = dataset_lib.open_dataset(
    small_config.data.dir, small_config.data.name
  )
  state = _create_state(small_config, dataset)
  batch = {
    "image": jnp.zeros((8, 32, 32, 5), jnp.int16),
    **encodings.split_label(jnp.zeros((8, 36))),
  }
  train_step = jax.jit(_make_step(small_config, dataset))
  jax.export.export(train_step, platforms=[platform])(state, batch)
