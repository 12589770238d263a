"""A uniform background behind a mixture, against formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from geojax import losses, mixture, sphere

FLOOR = 1e-3


def make_arrays(background=(-3.0, 0.0, 2.0, -1e4)):
  batch, centers = len(background), 6
  keys = jax.random.split(jax.random.key(0), 3)
  x, mu = (
    v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    for v in (
      jax.random.normal(keys[0], (batch, 3)),
      jax.random.normal(keys[1], (centers, 3)),
    )
  )
  logits = jax.random.normal(keys[2], (batch, centers))
  return x, logits, mu, jnp.full(centers, 3.0), jnp.array(background)


def in_float64(x, logits, mu, log_kappa, background):
  """Densities by the formula."""
  x, logits, mu, log_kappa, background = (
    np.asarray(v, np.float64) for v in (x, logits, mu, log_kappa, background)
  )
  kappa = np.exp(log_kappa)
  density = kappa / (4 * np.pi * np.sinh(kappa)) * np.exp(kappa * (x @ mu.T))
  weight = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  with np.errstate(over="ignore"):
    w = FLOOR + (1 - FLOOR) / (1 + np.exp(-background))
  return (1 - w) * (weight * density).sum(axis=-1) + w / (4 * np.pi)


def served(logits, mu, log_kappa, background):
  weights = mixture.background_log_weights(background, floor=FLOOR)
  return mixture.add_background(logits, mu, log_kappa, *weights)


def test_the_density_is_that_of_the_formula():
  x, *rest = make_arrays()
  found = jax.jit(lambda *a: mixture.log_prob(a[0], *served(*a[1:])))(x, *rest)
  np.testing.assert_allclose(found, np.log(in_float64(x, *rest)), rtol=1e-5)


def test_the_loss_is_the_nll_of_the_served_mixture():
  x, logits, mu, log_kappa, background = make_arrays()
  alone = losses.relative_nll(mixture.log_prob(x, logits, mu, log_kappa))
  weights = mixture.background_log_weights(background, floor=FLOOR)
  whole = mixture.log_prob(x, *served(logits, mu, log_kappa, background))
  np.testing.assert_allclose(
    mixture.nll_with_background(alone, *weights),
    losses.relative_nll(whole),
    rtol=1e-5,
  )


@pytest.mark.parametrize("logit", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_weights_add_up_to_one_and_keep_the_floor(logit):
  log_weight, log_rest = mixture.background_log_weights(
    jnp.float32(logit), floor=FLOOR
  )
  assert np.exp(log_weight) + np.exp(log_rest) == pytest.approx(1, abs=1e-6)
  assert log_weight >= np.log(FLOOR) - 1e-6


@pytest.mark.parametrize("nll", [-12.0, 0.0, 1e4, np.inf])
def test_no_place_costs_more_than_the_floor(nll):
  def loss(nll, logit):
    weights = mixture.background_log_weights(logit, floor=FLOOR)
    return mixture.nll_with_background(nll, *weights)

  values = jnp.float32(nll), jnp.float32(-1e4)
  assert loss(*values) <= -np.log(FLOOR) + 1e-6
  if np.isfinite(nll):
    assert np.isfinite(jax.grad(loss, argnums=(0, 1))(*values)).all()


def test_gradients():
  x, logits, mu, log_kappa, background = make_arrays((-3.0, 0.0, 2.0))

  def loss(logits, background):
    alone = losses.relative_nll(mixture.log_prob(x, logits, mu, log_kappa))
    weights = mixture.background_log_weights(background, floor=FLOOR)
    return mixture.nll_with_background(alone, *weights)

  check_grads(loss, (logits, background), order=2, modes=("fwd", "rev"))


def test_a_region_that_needs_the_background_takes_its_share_of_the_earth():
  # Half of the mass on a point, half everywhere: the 80 % region is the point
  # and six tenths of the sphere.
  mu = jnp.array([[1.0, 0.0, 0.0]])
  half = jnp.full(1, np.log(0.5))
  found = mixture.add_background(
    jnp.zeros((1, 1)), mu, jnp.array([12.0]), half, half
  )
  level, _, area_sr, _ = mixture.credible_regions(
    -mu, *found, masses=(0.4, 0.8), num_points=2048
  )
  assert level[0] >= 0.5
  assert area_sr[0, 0] < 1e-3
  assert area_sr[0, 1] == pytest.approx(0.6 * 4 * np.pi, rel=0.02)
  cells = np.float32(sphere.equal_area_grid(1000))
  probability = np.sort(mixture.probability_map(*found, cells)[0])
  # Four cells are as near to the point.
  np.testing.assert_allclose(probability[:-4], 0.5 / 1000, rtol=1e-4)
  assert probability[-4:].sum() == pytest.approx(0.502, rel=1e-4)
