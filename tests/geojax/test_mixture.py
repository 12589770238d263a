"""Mixtures of vMF: the dense density, decoders, maps and credible levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from geojax import mixture, sphere, vmf


def unit(rng, *shape):
  x = rng.normal(size=(*shape, 3))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def draw_case(seed, batch, centers, *, kappa=(0.5, 1e4), wide=False):
  """Points, logits, centers and log_kappa; the points near some center."""
  rng = np.random.default_rng(seed)
  mu = unit(rng, centers)
  log_kappa = rng.uniform(*np.log(kappa), centers)
  logits = 2 * rng.normal(size=(batch, centers))
  near = rng.integers(centers, size=batch)
  step = rng.normal(size=(batch, 3)) / np.exp(log_kappa[near] / 2)[:, None]
  x = mu[near] + step
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  case = x, logits, mu, log_kappa
  return case if wide else tuple(np.float32(v) for v in case)


def oracle(x, logits, mu, log_kappa):
  """The log density in float64, by the dot product and log-softmax."""
  x, logits, mu, log_kappa = map(np.float64, (x, logits, mu, log_kappa))
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  mu = mu / np.linalg.norm(mu, axis=1, keepdims=True)
  kappa = np.exp(log_kappa)
  peak = log_kappa - np.log(-2 * np.pi * np.expm1(-2 * kappa))
  component = peak + kappa * (x @ mu.T - 1)
  weight = scipy.special.log_softmax(logits, axis=1)
  return scipy.special.logsumexp(weight + component, axis=1)


@pytest.mark.parametrize("batch", [5, 8])
@pytest.mark.parametrize("kappa", [(1e-6, 1), (0.5, 1e4), (1e6, 1e8)])
def test_log_prob_is_that_of_the_oracle(batch, kappa):
  case = draw_case(0, batch, 40, kappa=kappa)
  actual = jax.jit(mixture.log_prob)(*case)
  assert actual.shape == (batch,)
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, oracle(*case), rtol=5e-6, atol=5e-6)


def test_one_component_is_vmf():
  x, _, mu, log_kappa = draw_case(1, 16, 1)
  logits = np.zeros((16, 1), np.float32)
  expected = vmf.log_prob(x, mu, np.exp(log_kappa))
  actual = mixture.log_prob(x, logits, mu, log_kappa)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_logits_count_up_to_a_constant_and_may_be_huge():
  x, logits, mu, log_kappa = draw_case(2, 8, 30)
  expected = mixture.log_prob(x, logits, mu, log_kappa)
  shifted = mixture.log_prob(x, logits + 1024, mu, log_kappa)
  np.testing.assert_allclose(shifted, expected, atol=2e-4)
  # The weights of all but one underflow, and count where that one is far: no
  # log of a softmax will do.
  log_kappa = np.full(30, 10, np.float32)
  sharp = np.float32(200 * np.eye(30)[:8])
  expected = oracle(x, sharp, mu, log_kappa)
  actual = mixture.log_prob(x, sharp, mu, log_kappa)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
  # A center may be ruled out.
  barred = logits.copy()
  barred[:, 3] = -np.inf
  expected = oracle(x, barred, mu, log_kappa)
  actual = mixture.log_prob(x, barred, mu, log_kappa)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [5, 8])
def test_gradients(batch):
  """First order against closed forms in float64, second against differences."""
  case = draw_case(3, batch, 30)

  def loss(*args):
    return jnp.sum(mixture.log_prob(*args))

  grads = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*case)
  x, logits, mu, log_kappa = map(np.float64, case)
  kappa = np.exp(log_kappa)
  offset = x[:, None] - mu
  depth = np.sum(offset**2, axis=-1) / 2
  peak = log_kappa - np.log(-2 * np.pi * np.expm1(-2 * kappa))
  weight = scipy.special.softmax(logits, axis=1)
  share = scipy.special.softmax(np.log(weight) + peak - kappa * depth, axis=1)
  pull = (share * kappa)[..., None] * offset
  mean_depth = 1 - 1 / np.tanh(kappa) + 1 / kappa
  score = share * kappa * (mean_depth - depth)
  expected = -pull.sum(1), share - weight, pull.sum(0), score.sum(0)
  for actual, wanted in zip(grads, expected, strict=True):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5 * scale)


def test_check_grads_to_second_order():
  case = draw_case(4, 8, 4, kappa=(0.5, 20), wide=True)
  with jax.enable_x64(True):
    close = {"eps": 1e-6, "rtol": 2e-5, "atol": 1e-5}
    check_grads(jax.jit(mixture.log_prob), case, 2, ["rev"], **close)


@pytest.mark.parametrize("top", [1.0, 30.0, 1e4])
def test_density_integrates_to_one(top):
  _, logits, mu, log_kappa = draw_case(5, 1, 6, kappa=(top / 10, top))
  num_cells = 200_000
  cells = np.float32(sphere.equal_area_grid(num_cells))
  tiled = np.tile(logits, (num_cells, 1))
  log_prob = jax.jit(mixture.log_prob)(cells, tiled, mu, log_kappa)
  total = np.exp(np.float64(log_prob)).sum() * 4 * np.pi / num_cells
  np.testing.assert_allclose(total, 1, rtol=1e-4)


def test_rotating_all_changes_nothing():
  x, logits, mu, log_kappa = draw_case(6, 16, 20, wide=True)
  turn = scipy.stats.special_ortho_group(3, seed=7).rvs()
  before = mixture.log_prob(*map(np.float32, (x, logits, mu, log_kappa)))
  x, mu = x @ turn, mu @ turn
  after = mixture.log_prob(*map(np.float32, (x, logits, mu, log_kappa)))
  np.testing.assert_allclose(after, before, atol=1e-4)


def test_transforms_and_shardings():
  case = draw_case(8, 16, 24)
  x, logits, mu, log_kappa = case
  expected = mixture.log_prob(*case)
  close = {"rtol": 1e-5, "atol": 1e-5}
  rows = jax.vmap(
    lambda a, b: mixture.log_prob(a[None], b[None], mu, log_kappa)[0]
  )
  np.testing.assert_allclose(rows(x, logits), expected, **close)
  mapped = jax.pmap(mixture.log_prob, in_axes=(0, 0, None, None))
  mapped = mapped(x.reshape(8, 2, 3), logits.reshape(8, 2, -1), mu, log_kappa)
  np.testing.assert_allclose(mapped.ravel(), expected, **close)
  mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
  split, whole = PartitionSpec("data"), PartitionSpec()
  specs = split, split, whole, whole
  shards = jax.shard_map(
    mixture.log_prob, mesh=mesh, in_specs=specs, out_specs=split
  )
  np.testing.assert_allclose(jax.jit(shards)(*case), expected, **close)
  # Under jit alone a sharded batch must stay where it is: between devices go
  # the centers' gradients, never a [batch, centers].
  placed = [
    jax.device_put(v, NamedSharding(mesh, spec))
    for v, spec in zip(case, specs, strict=True)
  ]
  loss = jax.jit(
    jax.grad(lambda *args: mixture.log_prob(*args).sum(), (1, 2, 3))
  )
  text = loss.lower(*placed).compile().as_text()
  assert "all-gather" not in text
  assert "all-to-all" not in text
  for actual, wanted in zip(loss(*placed), loss(*case), strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


def test_narrow_floats_are_widened():
  x, logits, mu, log_kappa = draw_case(9, 8, 12)
  narrow = jnp.asarray(logits, jnp.bfloat16)
  with jax.numpy_dtype_promotion("strict"):
    actual = mixture.log_prob(x, narrow, mu, log_kappa)
  wide = np.asarray(narrow, np.float32)
  assert actual.dtype == jnp.float32
  np.testing.assert_array_equal(
    actual, mixture.log_prob(x, wide, mu, log_kappa)
  )


def test_errors_name_argument_expected_and_found():
  x, logits, mu, log_kappa = draw_case(10, 4, 6)
  with pytest.raises(ValueError, match=r"logits .*\[4, 6\].*\[4, 5\]"):
    mixture.log_prob(x, logits[:, :5], mu, log_kappa)
  with pytest.raises(ValueError, match=r"x .*\[batch, 3\].*\[3\]"):
    mixture.log_prob(x[0], logits, mu, log_kappa)
  with pytest.raises(ValueError, match=r"log_kappa .*\[6\].*\[1, 6\]"):
    mixture.log_prob(x, logits, mu, log_kappa[None])
  with pytest.raises(ValueError, match=r"x .*length 1.*found length 3"):
    mixture.log_prob(3 * x, logits, mu, log_kappa)
  with pytest.raises(ValueError, match=r"mu .*length 1.*found length 0\.5"):
    mixture.decode_largest(logits, mu / 2)
  with pytest.raises(ValueError, match=r"cells .*\[cells, 3\]"):
    mixture.probability_map(logits, mu, log_kappa, mu[:, :2])


def test_centers_stay_on_the_sphere_and_learn():
  x, logits, mu, log_kappa = draw_case(11, 64, 8, kappa=(5, 50))

  @jax.jit
  def step(mu):
    loss, grad = jax.value_and_grad(
      lambda m: -jnp.mean(mixture.log_prob(x, logits, m, log_kappa))
    )(mu)
    return mixture.normalize_centers(mu - 0.01 * grad), loss

  losses = []
  for _ in range(30):
    mu, loss = step(mu)
    losses.append(float(loss))
  np.testing.assert_allclose(np.linalg.norm(mu, axis=1), 1, atol=1e-6)
  assert losses[-1] < losses[0] - 0.05


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


def test_the_mean_of_densities_is_one_mixture():
  x, logits, mu, log_kappa = draw_case(41, 6, 20)
  mean = jax.jit(mixture.mean_logits)(logits)
  assert mean.shape == (1, 20)
  for point in x:
    at = np.broadcast_to(point, x.shape)
    expected = np.mean(np.exp(mixture.log_prob(at, logits, mu, log_kappa)))
    found = mixture.log_prob(point[None], mean, mu, log_kappa)
    np.testing.assert_allclose(np.exp(found[0]), expected, rtol=1e-4)
