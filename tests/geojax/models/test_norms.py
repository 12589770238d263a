"""Batch norm against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from geojax.models import norms


def _values(shape=(2, 3, 5, 4), mean=0.0):
  rng = np.random.default_rng(0)
  values = mean + rng.normal(size=shape) * np.linspace(0.5, 2, shape[-1])
  return jnp.asarray(values, "float32")


def _train(x, variables=None):
  norm = norms.BatchNorm(use_running_average=False)
  variables = variables or norm.init(jax.random.key(0), x)
  return norm.apply(variables, x, mutable=["batch_stats"])


# Beside a mean of 1000, E[x^2] - E[x]^2 would be off by several percent.
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_normalises_by_the_biased_variance(mean):
  x = _values(mean=mean)
  y, _ = _train(x)
  wide = np.float64(x)
  expected = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
  np.testing.assert_allclose(y, expected, atol=1e-6 + 1e-6 * mean)


def test_running_statistics_follow_the_unbiased_variance():
  x = _values(mean=2.0)
  _, update = _train(x)
  _, update = _train(x, {**_initial(x), **update})
  mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2), ddof=1)
  # Two batches leave 0.9^2 of where it began, at mean 0 and variance 1.
  stats = update["batch_stats"]
  np.testing.assert_allclose(stats["mean"], 0.19 * mean, rtol=1e-5)
  np.testing.assert_allclose(stats["var"], 0.81 + 0.19 * var, rtol=1e-5)


def _initial(x):
  return norms.BatchNorm(use_running_average=False).init(jax.random.key(0), x)


def test_initial_statistics_are_no_batch_s():
  stats = _initial(_values(mean=2.0))["batch_stats"]
  np.testing.assert_array_equal(stats["mean"], 0)
  np.testing.assert_array_equal(stats["var"], 1)


def test_evaluation_uses_the_running_statistics_and_keeps_them():
  x = _values(mean=2.0)
  _, update = _train(x)
  norm = norms.BatchNorm(use_running_average=True)
  variables = {**_initial(x), **update}
  y, after = norm.apply(variables, x, mutable=["batch_stats"])
  stats = update["batch_stats"]
  expected = (x - stats["mean"][None, None, None]) / np.sqrt(
    stats["var"] + 1e-5
  )[None, None, None]
  np.testing.assert_allclose(y, expected, atol=1e-5)
  np.testing.assert_array_equal(
    after["batch_stats"]["var"], update["batch_stats"]["var"]
  )


def test_one_value_a_channel_stays_finite():
  y, update = _train(_values((1, 1, 1, 4)))
  np.testing.assert_array_equal(y, 0)
  np.testing.assert_allclose(update["batch_stats"]["var"], 0.9, rtol=1e-6)


def test_half_precision_keeps_wide_statistics():
  x = _values(mean=2.0).astype("bfloat16")
  y, update = _train(x)
  assert y.dtype == "bfloat16"
  stats = update["batch_stats"]
  assert stats["var"].dtype == "float32"
  expected = 0.1 * np.mean(np.float32(x), (0, 1, 2))
  np.testing.assert_allclose(stats["mean"], expected, rtol=1e-5)


def test_gradients():
  weights = _values((3, 1, 2, 4), mean=0.3)
  check_grads(
    lambda x: jnp.sum(_train(x)[0] * weights),
    (_values((3, 1, 2, 4)),),
    order=2,
    modes=["fwd", "rev"],
    atol=2e-2,
    rtol=2e-2,
  )


def test_sharded_over_devices_the_whole_batch_counts():
  x = _values((8, 3, 5, 4), mean=2.0)
  mesh = jax.make_mesh(
    (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.NamedSharding(mesh, jax.P("data"))
  step = jax.jit(_train)
  y, update = step(x)
  sharded_y, sharded_update = step(jax.device_put(x, spec))
  np.testing.assert_allclose(sharded_y, y, atol=1e-5)
  np.testing.assert_allclose(
    sharded_update["batch_stats"]["var"],
    update["batch_stats"]["var"],
    rtol=1e-5,
  )
