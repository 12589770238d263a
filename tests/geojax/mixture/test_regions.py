"""Credible regions: their mass, their area, and the level of a point."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import mixture, sphere

MASSES = (0.5, 0.8, 0.95)


def _case(seed, batch, centers, log_kappa):
  rng = np.random.default_rng(seed)
  mu = rng.normal(size=(centers, 3))
  mu = np.float32(mu / np.linalg.norm(mu, axis=1, keepdims=True))
  logits = np.float32(2 * rng.normal(size=(batch, centers)))
  return mu[:1].repeat(batch, 0), logits, mu, np.float32(log_kappa)


@pytest.mark.parametrize("log_kappa", [2.0, 5.0, 9.0, 14.0])
def test_the_region_of_one_component_is_a_cap(log_kappa):
  x, logits, mu, log_kappa = _case(0, 2, 1, [log_kappa])
  level, log_density, area_sr, _ = jax.jit(mixture.credible_regions)(
    x, logits, mu, log_kappa
  )
  assert np.all(level < 1e-2)
  kappa = math.exp(float(log_kappa[0]))
  for i, mass in enumerate(MASSES):
    # The cap's mass is expm1(-kappa depth)/expm1(-2 kappa).
    depth = -math.log1p(mass * math.expm1(-2 * kappa)) / kappa
    assert area_sr[:, i] == pytest.approx(2 * math.pi * depth, rel=0.02)
    edge = math.log(kappa / (2 * math.pi * -math.expm1(-2 * kappa)))
    edge -= kappa * depth
    assert log_density[:, i] == pytest.approx(edge, abs=0.05)


def test_regions_of_several_components_on_a_grid():
  rng = np.random.default_rng(1)
  x, logits, mu, log_kappa = _case(1, 5, 12, rng.uniform(2, 6, 12))
  _, log_density, area_sr, _ = jax.jit(mixture.credible_regions)(
    x, logits, mu, log_kappa
  )
  cells = np.float32(sphere.equal_area_grid(20_000))
  tiled = np.broadcast_to(cells[:, None], (len(cells), 5, 3))
  on_grid = jax.jit(jax.vmap(mixture.log_prob, (0, None, None, None)))(
    tiled, logits, mu, log_kappa
  )
  density = np.exp(np.float64(on_grid))
  for i, mass in enumerate(MASSES):
    inside = on_grid >= log_density[None, :, i]
    share = np.sum(density * inside, axis=0) / density.sum(axis=0)
    np.testing.assert_allclose(share, mass, atol=0.015)
    expected = 4 * np.pi * inside.mean(axis=0)
    np.testing.assert_allclose(area_sr[:, i], expected, rtol=0.12)
    assert np.mean(area_sr[:, i] / expected) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("log_kappa", [2.0, 5.0, 9.0, 14.0])
def test_all_that_is_denser_than_a_place_in_a_component_is_a_cap(log_kappa):
  _, logits, mu, log_kappa = _case(4, 1, 1, [log_kappa])
  axis = np.cross(mu[0], [0.0, 0.0, 1.0])
  axis /= np.linalg.norm(axis)
  # From within the core of the component to the far side of the sphere.
  spread = math.exp(-float(log_kappa[0]) / 2)
  angles = np.array([0.5 * spread, spread, 2.5 * spread, 0.8, 1.6, 2.9])
  x = np.cos(angles)[:, None] * mu[0] + np.sin(angles)[:, None] * axis
  *_, denser_sr = mixture.credible_regions(
    np.float32(x), np.repeat(logits, 6, 0), mu, log_kappa
  )
  expected = 2 * np.pi * (1 - np.cos(angles))
  np.testing.assert_allclose(denser_sr, expected, rtol=0.08)


def test_all_that_is_denser_in_mixtures_is_what_a_grid_counts():
  rng = np.random.default_rng(5)
  _, logits, mu, log_kappa = _case(6, 40, 12, rng.uniform(2, 6, 12))
  x = rng.normal(size=(40, 3))
  x = np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))
  *_, denser_sr = mixture.credible_regions(x, logits, mu, log_kappa)
  cells = np.float32(sphere.equal_area_grid(20_000))
  tiled = np.broadcast_to(cells[:, None], (len(cells), 40, 3))
  on_grid = jax.jit(jax.vmap(mixture.log_prob, (0, None, None, None)))(
    tiled, logits, mu, log_kappa
  )
  at_x = mixture.log_prob(x, logits, mu, log_kappa)
  expected = 4 * np.pi * np.mean(np.asarray(on_grid) > np.asarray(at_x), axis=0)
  np.testing.assert_allclose(denser_sr, expected, rtol=0.1, atol=0.03)
  assert np.mean(denser_sr / expected) == pytest.approx(1, abs=0.03)


def test_regions_of_ignorance_are_shares_of_the_sphere():
  x, logits, mu, _ = _case(2, 3, 8, 0)
  level, log_density, area_sr, _ = mixture.credible_regions(
    x, logits, mu, np.full(8, -30, np.float32)
  )
  np.testing.assert_allclose(area_sr / (4 * np.pi), [MASSES] * 3, rtol=0.02)
  np.testing.assert_allclose(log_density, -math.log(4 * math.pi), atol=1e-4)
  assert np.all((level >= 0) & (level <= 1))


def test_the_last_point_counts_by_the_share_that_the_level_needs():
  x, logits, mu, _ = _case(2, 3, 8, 0)
  flat = np.full(8, -30, np.float32)
  _, _, area_sr, _ = mixture.credible_regions(
    x, logits, mu, flat, masses=(0.03, 0.75), num_points=10
  )
  expected = 4 * np.pi * np.array([[0.03, 0.75]] * 3)
  np.testing.assert_allclose(area_sr, expected, rtol=1e-4)


def test_no_masses_no_regions():
  x, logits, mu, log_kappa = _case(3, 3, 8, np.full(8, 4.0))
  level, log_density, area_sr, _ = mixture.credible_regions(
    x, logits, mu, log_kappa, masses=()
  )
  assert log_density.shape == area_sr.shape == (3, 0)
  np.testing.assert_array_equal(
    level, mixture.credible_level(x, logits, mu, log_kappa)
  )
  with pytest.raises(ValueError, match="x must have shape"):
    mixture.credible_regions(jnp.ones((2, 3)), logits, mu, log_kappa)
