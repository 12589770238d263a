"""Moments, samples and caps of vMF, and what all of them share."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from jax.sharding import PartitionSpec
from jax.test_util import check_grads
from vmf_samples import (
  KAPPAS,
  LOG_4PI,
  at_angle,
  exact_log_normalizer,
  exact_mean,
  exact_slope,
  floats,
  unit,
)

from geojax import arrays, sphere, vmf


@pytest.mark.parametrize(
  ("function", "value", "gradient"),
  [
    (vmf.mean_resultant_length, exact_mean, exact_slope),
    (vmf.log_normalizer, exact_log_normalizer, exact_mean),
    (
      vmf.log_peak,
      lambda k: mpmath.mpf(float(k)) - exact_log_normalizer(k),
      lambda k: 1 - exact_mean(k),
    ),
    (
      vmf.entropy,
      lambda k: exact_log_normalizer(k) - mpmath.mpf(float(k)) * exact_mean(k),
      lambda k: -mpmath.mpf(float(k)) * exact_slope(k),
    ),
  ],
  ids=["mean_resultant_length", "log_normalizer", "log_peak", "entropy"],
)
def test_functions_of_kappa(function, value, gradient):
  rng = np.random.default_rng(2)
  more = np.float32(np.exp(rng.uniform(np.log(1e-6), np.log(1e8), 200)))
  kappa = np.concatenate([KAPPAS, more])
  expected = floats(map(value, kappa))
  error = np.abs(jax.jit(function)(kappa) - expected)
  assert np.all(error < 2e-6 * (1 + np.abs(expected)))
  actual = jax.jit(jax.vmap(jax.grad(function)))(kappa)
  np.testing.assert_allclose(actual, floats(map(gradient, kappa)), rtol=1e-5)


def test_entropy_agrees_with_scipy():
  for kappa in (0.01, 3.0, 500.0):
    expected = scipy.stats.vonmises_fisher([0, 0, 1], kappa).entropy()
    np.testing.assert_allclose(vmf.entropy(kappa), expected, rtol=2e-6)


def test_uniform_at_kappa_zero():
  x, mu = np.float32([[1, 0, 0], [0, 1, 0]])
  assert vmf.log_prob(x, mu, 0) == -np.float32(LOG_4PI)
  assert vmf.mean_resultant_length(0) == 0
  np.testing.assert_allclose(vmf.entropy(0), LOG_4PI, rtol=1e-6)
  np.testing.assert_allclose(vmf.cap_mass(0, np.pi / 3), 0.25, rtol=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 1.0, 30.0, 1e3, 1e4])
def test_density_integrates_to_one(kappa):
  num_cells = 200_000
  cells = np.float32(sphere.equal_area_grid(num_cells))
  mu = np.float32(unit(np.random.default_rng(3)))
  density = jnp.exp(vmf.log_prob(cells, mu, kappa))
  total = np.sum(np.float64(density)) * 4 * np.pi / num_cells
  np.testing.assert_allclose(total, 1, rtol=1e-4)


def test_rotating_all_changes_nothing():
  rng = np.random.default_rng(4)
  turn = scipy.stats.special_ortho_group(3, seed=5).rvs()
  mu = unit(rng, 200)
  kappa = np.float32(np.exp(rng.uniform(-5, 8, 200)))
  x = at_angle(rng, mu, 3 / np.sqrt(kappa + 1))
  before = vmf.log_prob(x, np.float32(mu), kappa)
  after = vmf.log_prob(np.float32(x @ turn), np.float32(mu @ turn), kappa)
  # Rounding moves the turned points by 1e-7, 3 kappa**-0.5 off their mu.
  np.testing.assert_allclose(after, before, atol=2e-3)


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 0.7, 1.5, 50.0, 1e4, 1e8])
def test_samples_have_the_right_distribution(kappa):
  count = 100_000
  mu = np.float32(unit(np.random.default_rng(6)))
  draw = jax.jit(functools.partial(vmf.sample, shape=(count,)))
  x = draw(jax.random.key(7), mu, kappa)
  assert x.shape == (count, 3)
  assert x.dtype == jnp.float32
  x = np.float64(x)
  np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
  # mu.x by way of the chord: its CDF is one minus the mass of the cap.
  depth = np.sum((x - mu) ** 2, axis=1) / 2
  k = max(kappa, 1e-12)
  mass = np.expm1(-k * depth) / np.expm1(-2 * k)
  assert scipy.stats.kstest(mass, "uniform").pvalue > 1e-3
  # Around mu no azimuth is preferred.
  side = np.cross(mu, [1.0, 0, 0])
  side /= np.linalg.norm(side)
  azimuth = np.arctan2(x @ np.cross(mu, side), x @ side)
  uniform = azimuth / (2 * np.pi) + 0.5
  assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3
  # The mean has the right length, to four standard errors.
  expected = float(exact_slope(kappa)) ** 0.5 / count**0.5
  mean_depth = float(1 - exact_mean(kappa))
  assert abs(depth.mean() - mean_depth) < 4 * expected + 1e-6 * mean_depth


@pytest.mark.parametrize("kappa", [0.0, 0.5, 20.0, 1e6])
def test_entropy_is_the_mean_of_minus_log_prob(kappa):
  mu = np.float32(unit(np.random.default_rng(8)))
  x = vmf.sample(jax.random.key(9), mu, kappa, (20_000,))
  values = -np.float64(vmf.log_prob(x, mu, kappa))
  error = 4 * values.std() / len(values) ** 0.5 + 1e-5
  assert abs(values.mean() - float(vmf.entropy(kappa))) < error


def test_sample_shapes_and_poles():
  mu = np.float32([[0, 0, 1], [0, 0, -1]])
  draw = jax.jit(functools.partial(vmf.sample, shape=(4,)))
  x = draw(jax.random.key(0), mu, np.float32([[5], [50], [1e8]]))
  assert x.shape == (4, 3, 2, 3)
  np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-6)
  np.testing.assert_allclose(x[:, 2], np.tile(mu, (4, 1, 1)), atol=2e-3)


def test_samples_follow_mu_and_kappa():
  """Gradients through samples: by kappa of a known mean, and of the form."""
  mu = jnp.float32([0.6, 0, 0.8])

  def mean(kappa, mu):
    x = vmf.sample(jax.random.key(1), mu, kappa, (20_000,))
    return jnp.mean(x @ jnp.float32([0.6, 0, 0.8]))

  grad = jax.jit(jax.grad(mean, (0, 1)))
  for kappa in (0.0, 0.5, 2.0, 100.0):
    by_kappa, by_mu = grad(kappa, mu)
    np.testing.assert_allclose(by_kappa, float(exact_slope(kappa)), rtol=0.03)
    along = float(exact_mean(kappa))
    np.testing.assert_allclose(by_mu @ mu, along, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.99, 1.01, 300.0, 1e8])
def test_cap_mass(kappa):
  kappa = np.float32(kappa)
  angle_rad = np.float32([1e-5, 1e-3, 0.3, 1.5, 3.0, np.pi])
  depth = [2 * mpmath.sin(mpmath.mpf(float(a)) / 2) ** 2 for a in angle_rad]
  k = mpmath.mpf(float(kappa))
  expected = floats(
    mpmath.expm1(-k * h) / mpmath.expm1(-2 * k) if k else h / 2 for h in depth
  )
  np.testing.assert_allclose(
    vmf.cap_mass(kappa, angle_rad), expected, rtol=2e-6
  )
  slope = jax.vmap(jax.grad(vmf.cap_mass), (None, 0))
  slope = jax.jit(slope)(kappa, angle_rad[:5])
  if k:
    exact = [mass_slope(k, h) for h in depth[:5]]
  else:
    exact = [h / 2 * (1 - h / 2) for h in depth[:5]]
  np.testing.assert_allclose(slope, floats(exact), rtol=1e-4, atol=1e-30)


def mass_slope(kappa, depth):
  with mpmath.workdps(80):
    mass = mpmath.expm1(-kappa * depth) / mpmath.expm1(-2 * kappa)
    return mass * (
      depth / mpmath.expm1(kappa * depth) - 2 / mpmath.expm1(2 * kappa)
    )


def test_kappa_for_cap_inverts_cap_mass():
  rng = np.random.default_rng(10)
  angle_rad = np.float32(np.exp(rng.uniform(np.log(1e-4), np.log(3), 3000)))
  uniform = np.sin(angle_rad / 2) ** 2
  mass = np.float32(uniform + (1 - uniform) * rng.uniform(1e-3, 0.999, 3000))
  kappa = jax.jit(vmf.kappa_for_cap)(angle_rad, mass)
  assert np.all(kappa > 0)
  np.testing.assert_allclose(
    vmf.cap_mass(kappa, angle_rad), mass, rtol=2e-6, atol=0
  )


def test_kappa_for_cap_of_known_caps():
  # Radii that hold half the mass, and what is asked of the whole sphere.
  radius_km = np.array([227, 83, 6.8])
  kappa = vmf.kappa_for_cap(radius_km / sphere.EARTH_RADIUS_KM, 0.5)
  np.testing.assert_allclose(np.log(kappa), [7, 9, 14], atol=0.02)
  # A uniform density holds 1/4 within 60 degrees already.
  assert vmf.kappa_for_cap(np.pi / 3, 0.2) == 0
  assert vmf.kappa_for_cap(np.pi / 3, 1.0) == np.inf
  assert jax.grad(vmf.kappa_for_cap, 1)(np.pi / 3, 0.2) == 0


def test_check_grads_to_second_order():
  rng = np.random.default_rng(11)
  kappa = np.array([0.3, 0.999, 1.001, 5.0, 300.0])

  def check(function, *args, order=2, rtol=2e-5):
    close = {"eps": 1e-6, "rtol": rtol, "atol": 1e-5}
    check_grads(jax.jit(function), args, order, ["rev"], **close)

  def functions(x, mu, kappa, angle_rad):
    return (
      vmf.log_prob(x, mu, kappa),
      vmf.log_normalizer(kappa),
      vmf.log_peak(kappa),
      vmf.mean_resultant_length(kappa),
      vmf.entropy(kappa),
      vmf.cap_mass(kappa, angle_rad),
    )

  with jax.enable_x64(True):
    x, mu = unit(rng, 5), unit(rng, 5)
    angle_rad = 2 / np.sqrt(kappa + 4)
    check(functions, x, mu, kappa, angle_rad)
    mass = vmf.cap_mass(kappa, angle_rad)
    check(vmf.kappa_for_cap, angle_rad, mass, order=1, rtol=2e-4)
    draw = functools.partial(vmf.sample, jax.random.key(0))
    check(draw, mu, kappa, order=1)


def test_second_derivative_in_float32():
  kappa = np.float32([1e-3, 0.5, 0.9999, 1, 2, 30])
  third = jax.grad(jax.grad(jax.grad(vmf.log_normalizer)))
  third = jax.jit(jax.vmap(third))(kappa)
  expected = [
    2 * mpmath.coth(k) * mpmath.csch(k) ** 2 - 2 / k**3
    for k in map(mpmath.mpf, map(float, kappa))
  ]
  np.testing.assert_allclose(third, floats(expected), rtol=2e-5)


def test_narrow_floats_are_widened_and_doubles_kept():
  rng = np.random.default_rng(12)
  mu, x = unit(rng), unit(rng, 8)
  for dtype in (jnp.bfloat16, jnp.float16):
    narrow = jnp.asarray(x, dtype), jnp.asarray(mu, dtype)
    actual = vmf.log_prob(*narrow, jnp.asarray(300, dtype))
    assert actual.dtype == jnp.float32
    wide = (v.astype(jnp.float32) for v in narrow)
    np.testing.assert_array_equal(actual, vmf.log_prob(*wide, 300.0))
    assert vmf.entropy(jnp.ones((), dtype)).dtype == jnp.float32
  with jax.enable_x64(True):
    actual = vmf.log_prob(x, mu, np.float64(300))
    assert actual.dtype == jnp.float64
    expected = scipy.stats.vonmises_fisher(mu, 300).logpdf(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-13)
    kept = vmf.log_prob(np.float32(x), np.float32(mu), 300.0)
    assert kept.dtype == jnp.float32


def test_strict_dtype_promotion_holds():
  mu = np.float32([0, 0, 1])
  with jax.numpy_dtype_promotion("strict"):

    def loss(kappa, narrow):
      x = vmf.sample(jax.random.key(0), mu, narrow, (2,))
      cap = vmf.kappa_for_cap(np.float32(0.1), 0.5) + vmf.cap_mass(kappa, 0.1)
      return vmf.log_prob(x, mu, kappa).sum() + vmf.entropy(kappa) + cap

    assert np.isfinite(jax.jit(jax.grad(loss))(2.0, jnp.bfloat16(7)))
    vmf.log_prob(mu, mu, 3)


def test_errors_name_argument_expected_and_found():
  mu = np.float32([0, 0, 1])
  with pytest.raises(ValueError, match=r"x .*\[\.\.\., 3\].*\(4,\)"):
    vmf.log_prob(np.ones(4), mu, 1)
  with pytest.raises(ValueError, match=r"x .*length 1.*found length 2"):
    vmf.log_prob(2 * mu, mu, 1)
  with pytest.raises(ValueError, match=r"mu .*length 1.*found length 1\.1"):
    vmf.log_prob(mu, 1.1 * mu, 1)
  with pytest.raises(ValueError, match=r"x \(2, 3\), mu \(3,\), kappa \(5,\)"):
    vmf.log_prob(np.tile(mu, (2, 1)), mu, np.ones(5))
  with pytest.raises(ValueError, match="mu must have shape"):
    vmf.sample(jax.random.key(0), np.ones(2), 1)
  # Under jit there are no values to look at; NaN goes through and shows.
  assert np.isfinite(jax.jit(vmf.log_prob)(2 * mu, mu, 1))
  assert np.isnan(vmf.log_prob(np.nan * mu, mu, 1))


def test_shape_checks():
  arrays.check_shape("a", np.ones((2, 3)), ("batch", 3))
  with pytest.raises(ValueError, match=r"a must have shape \[batch, 4\], fou"):
    arrays.check_shape("a", np.ones((2, 3)), ("batch", 4))


def test_broadcasts_and_transforms():
  rng = np.random.default_rng(13)
  x, mu = np.float32(unit(rng, 8)), np.float32(unit(rng, 5))
  kappa = np.float32(rng.uniform(0, 100, 5))
  expected = vmf.log_prob(x[:, None], mu[None], kappa)
  assert expected.shape == (8, 5)
  rows = jax.vmap(vmf.log_prob, (0, None, None))(x, mu, kappa)
  np.testing.assert_allclose(rows, expected, rtol=1e-6, atol=1e-6)
  mapped = jax.pmap(vmf.log_prob, in_axes=(0, None, None))(x, mu, kappa)
  np.testing.assert_allclose(mapped, expected, rtol=1e-6, atol=1e-6)
  mesh = jax.make_mesh((8,), ("i",), (jax.sharding.AxisType.Auto,))
  split, whole = PartitionSpec("i"), PartitionSpec()
  shards = jax.shard_map(
    lambda *args: jax.vmap(vmf.log_prob, (0, None, None))(*args),
    mesh=mesh,
    in_specs=(split, whole, whole),
    out_specs=split,
  )
  np.testing.assert_allclose(
    jax.jit(shards)(x, mu, kappa), expected, rtol=1e-6, atol=1e-6
  )
