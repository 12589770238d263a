"""What the optimizer moves, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geojax import tasks
from geojax.training import config as config_lib
from geojax.training import optimizers


def _params():
  return {
    "model": {
      "encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
      "coords": {
        "kernel": jnp.ones((2, 3)),
        "mu": jnp.eye(3),
        "log_kappa": jnp.full(3, 5.0),
      },
    },
    "log_variances": {"coords": jnp.ones(())},
  }


def _mixture(params):
  return params["model"]["coords"]


def _step(config, grads, num_steps=2):
  params = _params()
  config.tasks = ("coords",)
  tx = optimizers.create_optimizer(config, tasks.create_tasks(config))
  state = tx.init(params)
  for _ in range(num_steps):
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params


def _config():
  config = config_lib.default_config()
  config.optimizer.warmup_steps = 0
  return config


def test_weight_decay_falls_on_kernels_alone():
  zeros = jax.tree.map(jnp.zeros_like, _params())
  config = _config()
  config.mixture.log_kappa_learning_rate = 0.1
  config.mixture.centers_learning_rate = 0.1
  params = _step(config, zeros)
  assert np.all(params["model"]["encoder"]["kernel"] < 1)
  assert np.all(_mixture(params)["kernel"] < 1)
  np.testing.assert_array_equal(params["model"]["encoder"]["bias"], 1)
  np.testing.assert_array_equal(_mixture(params)["log_kappa"], 5)
  np.testing.assert_array_equal(_mixture(params)["mu"], np.eye(3))


@pytest.mark.parametrize("name", ["mu", "log_kappa"])
def test_the_mixture_has_rates_of_its_own(name):
  key = {"mu": "centers", "log_kappa": "log_kappa"}[name] + "_learning_rate"
  config = _config()
  fixed = _mixture(_step(config, _params()))
  np.testing.assert_array_equal(fixed[name], _mixture(_params())[name])
  config.mixture[key] = 0.5
  moved = _mixture(_step(config, _params(), num_steps=1))
  # Adam's first step is its rate, against the gradient's sign.
  change = np.where(np.asarray(_mixture(_params())[name]) > 0, -0.5, 0)
  np.testing.assert_allclose(
    moved[name] - _mixture(_params())[name], change, atol=1e-5
  )


def test_the_variances_of_tasks_have_a_rate_of_their_own():
  config = _config()
  assert _step(config, _params())["log_variances"]["coords"] == 1
  config.loss.variances_learning_rate = 0.5
  moved = _step(config, _params(), num_steps=1)["log_variances"]["coords"]
  np.testing.assert_allclose(moved, 0.5, rtol=1e-5)


def test_the_schedule_warms_up_and_falls_to_its_final_fraction():
  config = config_lib.default_config()
  config.num_steps = 100
  config.optimizer.warmup_steps = 10
  schedule = optimizers.make_schedule(config, 2.0)
  assert schedule(0) == 0
  np.testing.assert_allclose(schedule(10), 2.0)
  assert schedule(55) < 2.0
  np.testing.assert_allclose(schedule(100), 0.02, rtol=1e-5)


def _schedule(name, **options):
  config = config_lib.default_config()
  config.num_steps = 100
  config.optimizer.warmup_steps = 10
  config.optimizer.final_fraction = 0.1
  config.optimizer.schedule = name
  config.optimizer.update(options)
  return optimizers.make_schedule(config, 2.0)


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_a_constant_rate_stays_after_the_warm_up(name):
  schedule = _schedule(name)
  np.testing.assert_allclose(schedule(5), 1.0)
  for step in (10, 50, 99):
    np.testing.assert_allclose(schedule(step), 2.0)
  assert _schedule(name, warmup_steps=0)(0) == 2.0


def test_a_restart_begins_at_the_peak_and_lasts_longer_each_time():
  schedule = _schedule("restarts", restart_period=10, restart_multiplier=2.0)
  # Cosines over steps 10 to 20, 20 to 40, 40 to 80, 80 to 160.
  for start, length in ((10, 10), (20, 20), (40, 40), (80, 80)):
    np.testing.assert_allclose(schedule(start), 2.0)
    half = start + length // 2
    np.testing.assert_allclose(schedule(half), (2.0 + 0.2) / 2, rtol=1e-5)
  assert schedule(39) < 0.25
