import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from geojax import losses


def test_masked_mean_and_its_gradient():
  values = jnp.asarray([1.0, jnp.nan, 3.0, jnp.inf, -jnp.inf, 8.0])
  where = jnp.asarray([True, False, True, False, False, True])
  value, gradient = jax.jit(jax.value_and_grad(losses.masked_mean))(
    values, where
  )
  assert float(value) == 4
  np.testing.assert_allclose(gradient, np.array([1, 0, 1, 0, 0, 1]) / 3)
  nothing = jnp.zeros(6, bool)
  value, gradient = jax.value_and_grad(losses.masked_mean)(values, nothing)
  assert float(value) == 0
  np.testing.assert_array_equal(gradient, np.zeros(6))
  assert float(losses.masked_mean(values[None, ::2], where[None, ::2])) == 2


# Eight devices with 3, 0, 1, 0, 0, 4, 2 and 0 of 4 examples that count.
SPREAD = np.arange(4) < np.array([3, 0, 1, 0, 0, 4, 2, 0])[:, None]


def test_masked_mean_on_eight_devices_is_that_of_one():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(8, 4)).astype(np.float32)
  x[~SPREAD] = np.nan

  def loss(w, x, where, axis_name=None):
    return losses.masked_mean(jnp.sin(w * x), where, axis_name)

  def step(w, x, where):
    value, gradient = jax.value_and_grad(loss)(w, x, where, "batch")
    return value, lax.pmean(gradient, "batch")

  counted = x[SPREAD]
  expected, slope = jax.value_and_grad(
    lambda w: jnp.mean(jnp.sin(w * counted))
  )(0.7)
  # sin(NaN)'s own derivative is NaN whatever its cotangent; where inputs and
  # not values are NaN, it is the caller who guards them.
  x = np.where(SPREAD, x, 5.0)
  value, gradient = jax.pmap(step, "batch", in_axes=(None, 0, 0))(
    0.7, x, SPREAD
  )
  np.testing.assert_allclose(value, np.full(8, expected), rtol=1e-6)
  np.testing.assert_allclose(gradient, np.full(8, slope), rtol=1e-6)


def test_gradient_through_pmap_is_that_of_one_device():
  values = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
  values[~SPREAD] = np.nan
  mean = jax.pmap(
    functools.partial(losses.masked_mean, axis_name="batch"), "batch"
  )
  gradient = jax.grad(lambda v: mean(v, SPREAD)[0])(values)
  np.testing.assert_allclose(gradient, SPREAD / SPREAD.sum(), rtol=1e-6)
  gradient = jax.grad(lambda v: mean(v, np.zeros((8, 4), bool))[0])(values)
  np.testing.assert_array_equal(gradient, np.zeros((8, 4)))


def test_masked_mean_under_shard_map_and_sharded_jit():
  values = np.random.default_rng(0).normal(size=32).astype(np.float32)
  where = SPREAD.reshape(-1)
  expected = np.where(where, values, 0).sum() / where.sum()
  mesh = jax.make_mesh(
    (8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread = jax.NamedSharding(mesh, P("batch"))
  sharded = jax.device_put((values, where), spread)
  mapped = jax.shard_map(
    functools.partial(losses.masked_mean, axis_name="batch"),
    mesh=mesh,
    in_specs=P("batch"),
    out_specs=P(),
  )
  for mean in (jax.jit(mapped), jax.jit(losses.masked_mean)):
    value, gradient = jax.value_and_grad(mean)(*sharded)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, where / where.sum(), rtol=1e-6)


def test_parts_of_a_batch_add_up():
  rng = np.random.default_rng(0)
  values = {"a": rng.normal(size=6), "b": rng.normal(size=6)}
  where = {"a": np.arange(6) != 4, "b": np.arange(6) > 3}
  weights, log_variances = {"a": 2.0, "b": 3.0}, {"a": 0.4, "b": -1.0}
  totals = {"a": 5, "b": 2}
  for learned in (None, log_variances):
    loss, means = losses.weighted_loss(
      values, where, weights, log_variances=learned
    )
    assert means["a"] == pytest.approx(values["a"][where["a"]].mean())
    if learned is None:
      expected = (2 * means["a"] + 3 * means["b"]) / 5
      assert loss == pytest.approx(float(expected))
    parts = [
      losses.weighted_loss(
        *jax.tree.map(lambda x: x[rows], (values, where)),  # noqa: B023
        weights,
        log_variances=learned,
        totals=totals,
      )
      for rows in (slice(0, 3), slice(3, 6))
    ]
    summed = jax.tree.map(lambda x, y: float(x + y), *parts)
    assert summed[0] == pytest.approx(float(loss), rel=1e-6)
    assert summed[1] == pytest.approx(jax.tree.map(float, means), rel=1e-6)


def test_a_learned_variance_has_its_minimum_and_its_bound():
  def term(v):
    return losses.uncertainty_weighted(3.0, v, True)

  at_minimum = 5 * math.atanh(math.log(2 * 3.0) / 5)
  assert jax.grad(term)(at_minimum) == pytest.approx(0, abs=1e-6)
  # A negative loss is bounded below all the same.
  steep = losses.uncertainty_weighted(-3.0, -1e6, True)
  assert steep == pytest.approx(-3 * math.exp(5) - 2.5, rel=1e-6)


def test_rows_that_do_not_count_become_zeros():
  where = np.array([True, False])
  found = losses.zero_rows(where, np.full((2, 3), [[7], [9]]))
  np.testing.assert_array_equal(found, [[7, 7, 7], [0, 0, 0]])
  assert found.dtype == "int32"
  for wrong in (np.ones(3, bool), np.ones((2, 1), bool)):
    with pytest.raises(ValueError, match="must have"):
      losses.zero_rows(wrong, np.ones((2, 3)))
  with pytest.raises(ValueError, match="where must have the shape of values"):
    losses.masked_mean(np.ones((3, 1)), np.ones(3, bool))
