import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from geojax import climate, encodings, losses


def random_logits(num, seed=1):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(num, 31)).astype(np.float32)


def soft_targets(num, seed=2):
  rng = np.random.default_rng(seed)
  return rng.dirichlet(np.full(31, 0.1), num)


def climate_oracle(logits, target, w):
  """The definition, on probabilities in float64."""
  p = np.exp(logits - logits.max(axis=-1, keepdims=True))
  p /= p.sum(axis=-1, keepdims=True)
  loss = -w * np.sum(target * np.log(p), axis=-1)
  for number in range(6):
    zones = number == climate.ZONE_TO_CLASS
    class_p = p[..., zones].sum(axis=-1)
    loss -= (1 - w) * target[..., zones].sum(axis=-1) * np.log(class_p)
  return loss


@pytest.mark.parametrize("w", [0.0, 0.5, 0.7, 1.0])
def test_climate_loss_is_the_definition(w):
  logits = np.random.default_rng(0).normal(scale=5, size=(20, 31))
  target = soft_targets(20)
  found = jax.jit(losses.climate_loss, static_argnames="fine_weight")(
    jnp.asarray(logits), jnp.asarray(target), fine_weight=w
  )
  assert found.shape == (20,)
  np.testing.assert_allclose(
    found, climate_oracle(logits, target, w), rtol=3e-6
  )


def test_climate_loss_at_extreme_logits():
  logits = np.zeros((3, 31), np.float32)
  logits[0, 5], logits[1, 5], logits[2] = 1e4, -1e4, 1e4
  target = np.eye(31)[[5, 5, 5]]
  found = jax.jit(losses.climate_loss)(logits, target)
  # Right and sure: 0. Sure of anything else: 1e4 + log 30 by zones, log(31/3)
  # by classes, as the other three arid zones remain. All alike: the priors.
  expected = [
    0.0,
    (1e4 + math.log(30) + math.log(30 / 3)) / 2,
    (math.log(31) + math.log(31 / 4)) / 2,
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  gradient = jax.jit(jax.grad(lambda x: losses.climate_loss(x, target).sum()))(
    logits
  )
  assert np.isfinite(gradient).all()


def test_climate_gradient_in_closed_form():
  logits = jnp.asarray(random_logits(4))
  target = soft_targets(4)
  found = jax.jit(jax.grad(lambda x: losses.climate_loss(x, target).sum()))(
    logits
  )
  # A class's gradient, its probability less its target, is shared out among
  # its zones by their probabilities.
  p = np.exp(np.asarray(logits, np.float64))
  p /= p.sum(axis=1, keepdims=True)
  class_p, class_target = map(climate.class_fractions, (p, target))
  share = (class_p - class_target) / class_p
  expected = (p - target + p * share[:, climate.ZONE_TO_CLASS]) / 2
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_class_logits_sum_probabilities():
  logits = np.random.default_rng(0).normal(scale=3, size=(2, 3, 31))
  p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  found = jax.nn.softmax(jax.jit(losses.class_logits)(jnp.asarray(logits)))
  np.testing.assert_allclose(found, climate.class_fractions(p), rtol=1e-5)


def test_bfloat16_is_widened():
  logits = jnp.asarray(random_logits(4), jnp.bfloat16)
  target = soft_targets(4)
  found = jax.jit(losses.climate_loss)(logits, target)
  assert found.dtype == jnp.float32
  expected = climate_oracle(np.asarray(logits, np.float64), target, 0.5)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  error = losses.squared_error(
    jnp.asarray([[0.5, 1.0]], jnp.bfloat16), [[0, 0]]
  )
  np.testing.assert_array_equal(error, [0.625])
  assert error.dtype == jnp.float32


def test_mixture_loss_is_relative_to_uniform():
  mu = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
  log_kappa = np.log(np.array([3.0, 50.0, 10.0], np.float32))
  logits = np.array([[0.0, 1, 2], [3, 0, 0]], np.float32)
  lat, lon = np.array([80.0, 5.0]), np.array([-20.0, 10.0])
  coords = encodings.encode_coordinates(lat, lon).astype(np.float32)
  found = jax.jit(losses.make_mixture_loss(mu, log_kappa))(logits, coords)
  x = encodings.coordinates_to_unit(coords)
  weight = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  density = sum(
    weight[:, i] * stats.vonmises_fisher(mu[i], np.exp(log_kappa[i])).pdf(x)
    for i in range(3)
  )
  np.testing.assert_allclose(found, -np.log(4 * np.pi * density), rtol=1e-5)
  flat = losses.make_mixture_loss(mu, np.full(3, -20, np.float32))
  np.testing.assert_allclose(jax.jit(flat)(logits, coords), [0, 0], atol=1e-6)


def test_a_linear_head_and_a_mixture_in_one():
  rng = np.random.default_rng(0)
  features, kernel = rng.normal(size=(5, 4)), rng.normal(size=(4, 12))
  bias, log_kappa = rng.normal(size=12), rng.uniform(0, 5, 12)
  mu = rng.normal(size=(12, 3))
  mu /= np.linalg.norm(mu, axis=1, keepdims=True)
  lat, lon = rng.uniform(-90, 90, 5), rng.uniform(-180, 180, 5)
  coords = encodings.encode_coordinates(lat, lon)
  dense = losses.make_mixture_loss(mu, log_kappa)
  fused = losses.make_fused_mixture_loss(
    kernel, bias, mu, log_kappa, chunk_size=5
  )
  np.testing.assert_allclose(
    jax.jit(fused)(features, coords),
    jax.jit(dense)(features @ kernel + bias, coords),
    rtol=2e-5,
  )


def test_shapes_that_differ_are_refused():
  with pytest.raises(ValueError, match=r"logits must have shape .*31.*30"):
    losses.climate_loss(np.ones((2, 30)), np.ones((2, 30)))
  with pytest.raises(ValueError, match="target must have the shape of logits"):
    losses.climate_loss(np.ones((2, 31)), np.ones((1, 31)))
  with pytest.raises(ValueError, match="predictions must have the shape of"):
    losses.squared_error(np.ones((2, 3)), np.ones((2, 2)))
