"""The dense log density of mixtures of vMF."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads
from mixture_samples import draw_case, oracle

from geojax import mixture, sphere, vmf


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


def test_the_mean_of_densities_is_one_mixture():
  x, logits, mu, log_kappa = draw_case(41, 6, 20)
  mean = jax.jit(mixture.mean_logits)(logits)
  assert mean.shape == (1, 20)
  for point in x:
    at = np.broadcast_to(point, x.shape)
    expected = np.mean(np.exp(mixture.log_prob(at, logits, mu, log_kappa)))
    found = mixture.log_prob(point[None], mean, mu, log_kappa)
    np.testing.assert_allclose(np.exp(found[0]), expected, rtol=1e-4)
