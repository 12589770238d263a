"""The vMF density against mpmath, SciPy and its own invariants."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from vmf_samples import (
  ANGLES_RAD,
  KAPPAS,
  at_angle,
  exact_depth,
  exact_log_normalizer,
  exact_mean,
  floats,
  unit,
)

from geojax import vmf


@pytest.fixture(scope="module")
def cases():
  """Points about their mean directions: x, mu, kappa and exact 1 - mu.x."""
  rng = np.random.default_rng(0)
  # Around the rim where the density falls below 1 the two terms cancel, which
  # is the hardest place; beyond it, everywhere else.
  kappa = np.repeat(KAPPAS, len(ANGLES_RAD) + 8)
  spread = np.sqrt(2 / np.maximum(KAPPAS[:, None], 1)) * [0.1, 1, 2, 3, 4]
  rim = np.maximum(np.log(np.maximum(KAPPAS, 10) / (2 * np.pi)), 0)
  rim = np.sqrt(2 * rim / np.maximum(KAPPAS, 10))[:, None] * [0.99, 1, 1.01]
  fixed = np.broadcast_to(ANGLES_RAD, (len(KAPPAS), len(ANGLES_RAD)))
  angle_rad = np.concatenate([fixed, spread, rim], axis=1).ravel()
  mu = np.float32(unit(rng, len(kappa)))
  x = at_angle(rng, np.float64(mu), np.minimum(angle_rad, np.pi))
  x[angle_rad == 0] = mu[angle_rad == 0]
  x[angle_rad == np.pi] = -mu[angle_rad == np.pi]
  depth = [exact_depth(*pair) for pair in zip(x, mu, strict=True)]
  return x, mu, kappa, depth


def test_log_prob_is_exact_everywhere(cases):
  x, mu, kappa, depth = cases
  expected = floats(
    mpmath.mpf(float(k)) * (1 - h) - exact_log_normalizer(k)
    for k, h in zip(kappa, depth, strict=True)
  )
  actual = jax.jit(vmf.log_prob)(x, mu, kappa)
  assert actual.dtype == jnp.float32
  error = np.abs(actual - expected) / (1 + np.abs(expected))
  assert error.max() < 2e-6, (error.max(), kappa[error.argmax()])


def test_log_prob_agrees_with_scipy():
  rng = np.random.default_rng(1)
  for kappa in (1e-3, 0.5, 20.0, 600.0):
    mu, x = unit(rng), unit(rng, 20)
    expected = scipy.stats.vonmises_fisher(mu, kappa).logpdf(x)
    actual = vmf.log_prob(x, mu, kappa)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


def test_gradient_by_kappa(cases):
  x, mu, kappa, depth = cases
  by_kappa = jax.jit(jax.vmap(jax.grad(vmf.log_prob, 2)))(x, mu, kappa)

  def of_log_kappa(x, mu, log_kappa):
    return vmf.log_prob(x, mu, jnp.exp(log_kappa))

  by_log_kappa = jax.jit(jax.vmap(jax.grad(of_log_kappa, 2)))(
    x, mu, np.log(np.maximum(kappa, 1e-30))
  )
  expected = floats(
    1 - h - exact_mean(k) for k, h in zip(kappa, depth, strict=True)
  )
  # Float32 vectors are of length 1 to 1e-7 only: where mu.x is within that of
  # its mean, the closed form itself depends on what the length means.
  ill_posed = 1e-12 + 4e-8 * floats(depth)
  error = np.abs(by_kappa - expected)
  assert np.all(error < 1e-5 * np.abs(expected) + ill_posed)
  # By log_kappa it is kappa times that, for the kappa that exp gives.
  scale = np.float64(np.exp(np.float32(np.log(np.maximum(kappa, 1e-30)))))
  error = np.abs(by_log_kappa - scale * expected)
  tolerance = 2e-5 * scale * (np.abs(expected) + floats(depth))
  assert np.all(error < tolerance + 1e-5 * (scale * floats(depth) > 0.1))


def test_gradient_by_kappa_where_it_crosses_zero():
  # mu.x within 1 % of its mean, as chords of exact length along one axis.
  kappa = np.float32([2.5, 40, 1e3, 1e5, 1e8])
  mean_depth = floats(1 - exact_mean(k) for k in kappa)
  for factor in (0.99, 1.01):
    mu = np.tile(np.float32([[1, 0, 0]]), (len(kappa), 1))
    angle_rad = 2 * np.arcsin(np.sqrt(factor * mean_depth / 2))
    x = np.float32(
      np.stack([np.cos(angle_rad), np.sin(angle_rad), 0 * angle_rad], 1)
    )
    chord = np.sum((np.float64(x) - mu) ** 2, axis=1) / 2
    actual = jax.jit(jax.vmap(jax.grad(vmf.log_prob, 2)))(x, mu, kappa)
    np.testing.assert_allclose(actual, mean_depth - chord, rtol=1e-5)


def test_gradients_by_points(cases):
  x, mu, kappa, _ = cases
  by_x, by_mu = jax.jit(jax.vmap(jax.grad(vmf.log_prob, (0, 1))))(x, mu, kappa)
  offset = np.float64(mu) - x
  expected = np.float64(kappa)[:, None] * offset
  np.testing.assert_allclose(by_x, expected, rtol=1e-5)
  np.testing.assert_allclose(by_mu, -expected, rtol=1e-5)
  # Along the sphere that is kappa (mu - (mu.x) x), the dot form's gradient.
  wide = np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)
  dot = np.sum(wide * mu, axis=1, keepdims=True)
  along = np.float64(kappa)[:, None] * (mu - dot * wide)
  by_x = np.float64(by_x)
  inner = np.sum(by_x * wide, axis=1, keepdims=True)
  error = np.linalg.norm(by_x - inner * wide - along, axis=1)
  scale = np.linalg.norm(expected, axis=1) + 1e-9 * np.float64(kappa)
  assert np.all(error <= 1e-5 * scale)


def test_gradients_are_finite_at_the_edges():
  mu = jnp.float32([0, 0, 1])
  grad = jax.jit(jax.grad(vmf.log_prob, (0, 1, 2)))
  hessian = jax.jit(jax.hessian(vmf.log_prob, (0, 1, 2)))
  for x in (mu, -mu):
    for kappa in (0.0, 1e-38, 1.0, 1e8):
      derivatives = grad(x, mu, kappa), hessian(x, mu, kappa)
      for leaf in jax.tree.leaves(derivatives):
        assert np.isfinite(leaf).all()
  np.testing.assert_array_equal(grad(mu, mu, 1e8)[0], 0)
