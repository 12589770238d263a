"""Examining a split: the same figures whatever batches and devices."""

import jax
import numpy as np
import pytest

from geojax import metrics
from geojax.training import evaluate, examine, loop, sharding


@pytest.fixture
def run(small_config, tmp_path):
  small_config.num_steps = small_config.eval_every = 4
  small_config.mixture.temperature = 1.5
  return loop.train(small_config, tmp_path, progress=False)


def _one_device():
  return jax.sharding.Mesh(jax.devices()[:1], ("data",))


def test_one_patch_at_a_time_gives_the_same_figures(run, small_config):
  many = examine.make_examine(
    small_config, run.dataset, sharding.create_mesh()
  )(run.state.evaluated, "test", 2.0)
  variables = jax.device_get(run.state.evaluated)
  small_config.data.eval_batch_size = 1
  one = examine.make_examine(small_config, run.dataset, _one_device())(
    variables, "test", 2.0
  )
  count = len(run.dataset.labels("test"))
  assert count % 64, "the last batch of many must need padding"
  for found in jax.tree.leaves([many, one]):
    assert len(found) == count
  expected = metrics.summarize(one)
  for name, value in metrics.summarize(many).items():
    # Room for a point of equal mass more or less inside of a region.
    assert value == pytest.approx(expected[name], rel=1e-2, abs=1e-4), name
  for found, alone in ((many, one), (many["fitted"], one["fitted"])):
    np.testing.assert_allclose(found["nll_nats"], alone["nll_nats"], atol=1e-4)
    np.testing.assert_allclose(
      found["credible_level"], alone["credible_level"], atol=0.02
    )
  alone = examine.fit_temperature(
    small_config, run.dataset, _one_device(), variables
  )
  small_config.data.eval_batch_size = 64
  found = examine.fit_temperature(
    small_config, run.dataset, sharding.create_mesh(), run.state.evaluated
  )
  assert found[0] == pytest.approx(alone[0], rel=1e-3)


def test_examining_adds_to_what_evaluation_says(run, small_config):
  mesh = sharding.create_mesh()
  expected, predictions = evaluate.make_evaluate(
    small_config, run.dataset, mesh
  )(run.state.evaluated, "test")
  variables = run.state.evaluated
  found = examine.make_examine(small_config, run.dataset, mesh)(
    variables, "test", 1.5
  )
  summary = metrics.summarize(found)
  for name, value in expected.items():
    assert summary[name] == pytest.approx(value, rel=1e-5), name
  assert sorted(found["places"]) == [
    "largest",
    "least_expected_distance",
    "mode",
  ]
  np.testing.assert_allclose(
    found["places"]["least_expected_distance"], predictions["place"], atol=1e-5
  )
  # The second temperature is the first.
  for name in ("nll_nats", "credible_level", "area_km2"):
    np.testing.assert_allclose(found["fitted"][name], found[name], rtol=1e-4)


def test_the_fitted_temperature_has_the_least_nll(run, small_config):
  mesh = sharding.create_mesh()
  variables = run.state.evaluated
  best, by_temperature = examine.fit_temperature(
    small_config, run.dataset, mesh, variables
  )
  look = examine.make_examine(small_config, run.dataset, mesh)
  nll = {}
  for temperature in (best / 1.2, best, best * 1.2):
    found = look(variables, "validation", temperature)
    land = found["is_land"]
    nll[temperature] = found["fitted"]["nll_nats"][land].mean()
  assert min(nll, key=nll.get) == best or best >= max(by_temperature) * 0.99
  tried = min(by_temperature, key=lambda t: abs(t - 1.5))
  found = look(variables, "validation", tried)
  assert by_temperature[tried] == pytest.approx(
    found["fitted"]["nll_nats"][found["is_land"]].mean(), abs=1e-4
  )


def test_a_regression_has_one_place_and_no_density(small_config, tmp_path):
  small_config.loss.coords = "mse"
  small_config.num_steps = small_config.eval_every = 4
  run = loop.train(small_config, tmp_path, progress=False)
  mesh = sharding.create_mesh()
  fitted = examine.fit_temperature(
    small_config, run.dataset, mesh, run.state.evaluated
  )
  assert fitted == (None, {})
  found = examine.make_examine(small_config, run.dataset, mesh)(
    run.state.evaluated, "test", 1.0
  )
  assert not found.keys() & {"places", "fitted", "credible_level", "nll_nats"}
