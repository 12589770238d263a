"""Decoders, maps and credible levels of mixtures of vMF."""

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
from mixture_samples import draw_case, unit

from geojax import mixture, sphere, vmf


def test_decode_largest():
  _, logits, mu, _ = draw_case(12, 7, 20)
  expected = mu[logits.argmax(axis=1)]
  actual = jax.jit(mixture.decode_largest)(logits, mu)
  np.testing.assert_array_equal(actual, expected)


def test_decode_mode_finds_the_highest_point():
  _, logits, mu, log_kappa = draw_case(13, 12, 64, kappa=(20, 200))
  actual = jax.jit(mixture.decode_mode)(logits, mu, log_kappa)
  np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, atol=1e-6)
  reached = mixture.log_prob(actual, logits, mu, log_kappa)
  cells = np.float32(sphere.equal_area_grid(3000))
  at_cells = jax.jit(jax.vmap(mixture.log_prob, (0, None, None, None)))
  tiled = np.broadcast_to(cells[:, None], (3000, 12, 3))
  highest = at_cells(tiled, logits, mu, log_kappa).max(axis=0)
  # The grid comes close from below.
  assert np.all(reached > highest - 1e-5)
  assert np.all(reached < highest + 0.2)
  # It is a mode: no slope along the sphere.
  slope = jax.grad(lambda x: mixture.log_prob(x, logits, mu, log_kappa).sum())(
    actual
  )
  slope = np.cross(slope, actual)
  assert np.linalg.norm(slope, axis=1).max() < 0.02


def test_decode_mode_prefers_many_to_one():
  # One heavy center far off, and a cluster that is denser together.
  cluster = sphere.latlon_to_unit([50, 51, 50.5, 50.5], [10, 10, 9.5, 10.5])
  alone = sphere.latlon_to_unit([-30.0], [120.0])
  mu = np.float32(np.concatenate([cluster, alone]))
  logits = np.log(np.float32([[0.18, 0.18, 0.18, 0.18, 0.28]]))
  log_kappa = np.full(5, np.log(1000), np.float32)
  mode = jax.jit(mixture.decode_mode)(logits, mu, log_kappa)
  middle = sphere.latlon_to_unit(50.5, 10.0)
  assert sphere.great_circle_km(np.float64(mode[0]), middle) < 5
  assert np.all(mixture.decode_largest(logits, mu)[0] == mu[4])


def test_decode_mode_of_a_flat_density_is_a_center():
  mu = np.float32(unit(np.random.default_rng(0), 4))
  flat = np.full(4, -np.inf, np.float32)
  logits = np.zeros((2, 4), np.float32)
  mode = jax.jit(mixture.decode_mode)(logits, mu, flat)
  assert np.isfinite(mode).all()


def expected_angle(points, logits, mu):
  weight = scipy.special.softmax(np.float64(logits), axis=1)
  far = sphere.great_circle_km(
    np.float64(points)[:, None], np.float64(mu)[None]
  )
  return np.sum(weight * far, axis=1) / sphere.EARTH_RADIUS_KM


def test_decode_least_expected_distance():
  rng = np.random.default_rng(14)
  _, logits, mu, _ = draw_case(14, 24, 64)
  # Some clear, some spread over two places.
  place = np.float32(unit(rng, 24))
  logits[:12] = 30 * (place[:12] @ mu.T)
  logits[12:18] = 30 * np.maximum(place[12:18] @ mu.T, place[18:] @ mu.T)
  points = jax.jit(mixture.decode_least_expected_distance)(logits, mu)
  np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
  reached = expected_angle(points, logits, mu)
  cells = sphere.equal_area_grid(4000)
  weight = scipy.special.softmax(np.float64(logits), axis=1)
  angle = np.arccos(np.clip(cells @ np.float64(mu).T, -1, 1))
  assert np.all(reached < (angle @ weight.T).min(axis=0) + 2e-3)
  largest = mixture.decode_largest(logits, mu)
  assert np.all(reached <= expected_angle(largest, logits, mu) + 1e-6)


def test_least_expected_distance_of_one_and_of_two():
  mu = np.float32([[1, 0, 0], [0, 1, 0]])
  logits = np.log(np.float32([[0.7, 0.3], [1, 1e-30]]))
  # The median of two is the heavier, not the mean.
  decode = jax.jit(mixture.decode_least_expected_distance)
  points = decode(logits, mu)
  np.testing.assert_allclose(points, np.tile(mu[:1], (2, 1)), atol=1e-6)
  # Antipodes with equal weights: any point of the great circle will do.
  poles = np.float32([[0, 0, 1], [0, 0, -1]])
  assert np.isfinite(decode(np.zeros_like(logits), poles)).all()


@pytest.mark.parametrize("chunk_size", [1, 7, 20, 256])
def test_probability_map_is_the_integral_over_cells(chunk_size):
  _, logits, mu, log_kappa = draw_case(15, 3, 20, kappa=(0.5, 50))
  cells = np.float32(sphere.equal_area_grid(3000))
  actual = jax.jit(
    lambda *args: mixture.probability_map(*args, chunk_size=chunk_size)
  )(logits, mu, log_kappa, cells)
  np.testing.assert_allclose(actual.sum(axis=1), 1, rtol=1e-5)
  tiled = np.broadcast_to(cells[:, None], (3000, 3, 3))
  log_prob = jax.vmap(mixture.log_prob, (0, None, None, None))(
    tiled, logits, mu, log_kappa
  )
  expected = np.exp(log_prob.T) * 4 * np.pi / 3000
  np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=1e-7)


def test_probability_map_loses_no_narrow_component():
  _, logits, mu, log_kappa = draw_case(16, 2, 5, kappa=(1e7, 1e8))
  cells = sphere.equal_area_grid(500)
  actual = mixture.probability_map(logits, mu, log_kappa, cells)
  nearest = np.argmax(cells @ np.float64(mu).T, axis=0)
  expected = np.zeros((2, 500))
  weight = scipy.special.softmax(logits, axis=1)
  np.add.at(expected, (slice(None), nearest), weight)
  np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("kappa", [0.5, 20.0, 1e4, 1e7])
def test_credible_level_of_one_component_is_the_mass_of_its_cap(kappa):
  mu = np.float32(unit(np.random.default_rng(17), 1))
  x = vmf.sample(jax.random.key(18), mu[0], kappa, (50,))
  level = jax.jit(mixture.credible_level)(
    x, np.zeros((50, 1), np.float32), mu, np.log(np.float32([kappa]))
  )
  depth = np.sum((np.float64(x) - mu) ** 2, axis=1) / 2
  expected = np.expm1(-kappa * depth) / np.expm1(-2 * kappa)
  np.testing.assert_allclose(level, expected, atol=1.1 / 512)


def test_a_blurred_mode_lies_where_much_of_the_mass_does():
  # Four components about the x-axis outweigh a higher one at z, once blurred.
  angles = np.pi / 2 * np.arange(4)
  near_x = np.stack(
    [np.full(4, 0.98), 0.2 * np.cos(angles), 0.2 * np.sin(angles)], axis=1
  )
  mu = mixture.normalize_centers(
    np.float32(np.concatenate([near_x, [[0, 0, 1]]]))
  )
  logits = np.log(np.float32([[0.18, 0.18, 0.18, 0.18, 0.28]]))
  log_kappa = np.full(5, 7, np.float32)
  sharp = mixture.decode_mode(logits, mu, log_kappa)
  np.testing.assert_allclose(sharp, [[0, 0, 1]], atol=1e-4)
  blurred = mixture.decode_mode(logits, mu, log_kappa, blur_rad=0.3)
  np.testing.assert_allclose(blurred, [[1, 0, 0]], atol=1e-3)
  wide = -np.log(np.exp(-log_kappa) + np.float32(0.09))
  expected = mixture.decode_mode(logits, mu, wide)
  np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_credible_levels_of_draws_are_uniform():
  _, logits, mu, log_kappa = draw_case(19, 500, 16, kappa=(5, 5e3))
  rng = np.random.default_rng(20)
  weight = scipy.special.softmax(np.float64(logits), axis=1)
  chosen = np.array([rng.choice(16, p=w) for w in weight])
  x = vmf.sample(jax.random.key(21), mu[chosen], np.exp(log_kappa[chosen]))
  credible_level = jax.jit(mixture.credible_level)
  level = np.asarray(credible_level(x, logits, mu, log_kappa))
  assert scipy.stats.kstest(level, "uniform").pvalue > 1e-3
  # Nearly nothing is denser than the mode, and all than the least dense.
  mode = jax.jit(mixture.decode_mode)(logits, mu, log_kappa)
  at_mode = credible_level(mode, logits, mu, log_kappa)
  assert np.all(at_mode < 0.01)


def test_credible_level_of_several_components():
  # Wide components about one place, so that their caps overlap.
  _, logits, mu, log_kappa = draw_case(22, 6, 5, kappa=(5, 50))
  mu = np.float32(mixture.normalize_centers(mu + 2 * mu[:1]))
  x = np.float32(unit(np.random.default_rng(23), 6))
  x = mixture.normalize_centers(x + mu[:1] + mu[1:2])
  level = jax.jit(mixture.credible_level)(x, logits, mu, log_kappa)
  cells = np.float32(sphere.equal_area_grid(20_000))
  tiled = np.broadcast_to(cells[:, None], (20_000, 6, 3))
  density = jax.jit(jax.vmap(mixture.log_prob, (0, None, None, None)))
  density = np.exp(np.float64(density(tiled, logits, mu, log_kappa)))
  at_x = np.exp(np.float64(mixture.log_prob(x, logits, mu, log_kappa)))
  expected = np.sum(density * (density > at_x), axis=0) / density.sum(axis=0)
  np.testing.assert_allclose(level, expected, atol=0.01)
