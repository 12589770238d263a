"""The bound of the smoothed loss, against formulas in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import encodings, losses, mixture, sphere

P = jax.sharding.PartitionSpec
BATCH, FEATURES, CENTERS, BLUR = 16, 5, 24, 0.05


def make_arrays(seed=0):
  rng = np.random.default_rng(seed)
  mu = sphere.fibonacci_lattice(CENTERS)
  x = rng.normal(size=(BATCH, 3))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  # One lies on a center, where the angle has no gradient.
  x[0] = mu[3]
  return [
    np.float32(value)
    for value in (
      x,
      rng.normal(size=(BATCH, FEATURES)),
      rng.normal(size=(FEATURES, CENTERS)),
      rng.normal(size=CENTERS),
      mu,
      rng.uniform(2, 5, CENTERS),
    )
  ]


def shares(x, mu, blur):
  chord = np.linalg.norm(np.float64(x)[:, None] - mu, axis=-1)
  share = np.exp(-2 * np.arcsin(np.minimum(chord / 2, 1)) / blur)
  return share / share.sum(axis=1, keepdims=True)


def reference(x, logits, mu, log_kappa, blur):
  x, logits, mu, log_kappa = map(np.float64, (x, logits, mu, log_kappa))
  chord = np.linalg.norm(x[:, None] - mu, axis=-1)
  cosine = 1 - chord**2 / 2
  share = shares(x, mu, blur)
  weight = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  kappa = np.exp(log_kappa)
  log_f = np.log(kappa / (4 * np.pi * np.sinh(kappa))) + kappa * cosine
  return np.sum(share * (np.log(weight) + log_f - np.log(share)), axis=1)


@pytest.mark.parametrize("blur", [0.05, 0.5])
def test_equals_the_formula_and_lies_below_the_density(blur):
  x, features, kernel, bias, mu, log_kappa = make_arrays()
  logits = features @ kernel + bias
  found = mixture.smoothed_log_prob(x, logits, mu, log_kappa, blur_rad=blur)
  np.testing.assert_allclose(
    found, reference(x, logits, mu, log_kappa, blur), rtol=1e-4, atol=1e-4
  )
  exact = mixture.log_prob(x, logits, mu, log_kappa)
  assert (found < exact).all()


def test_one_center_is_the_density_itself():
  x, *_ = make_arrays()
  mu, log_kappa = np.float32([[0, 0, 1]]), np.float32([2.0])
  logits = np.zeros((BATCH, 1), np.float32)
  np.testing.assert_allclose(
    mixture.smoothed_log_prob(x, logits, mu, log_kappa, blur_rad=BLUR),
    mixture.log_prob(x, logits, mu, log_kappa),
    rtol=1e-5,
    atol=1e-5,
  )


def test_the_gradient_by_the_logits_is_that_of_a_cross_entropy():
  x, features, kernel, bias, mu, log_kappa = make_arrays()
  logits = features @ kernel + bias
  loss = losses.make_mixture_loss(mu, log_kappa, blur_rad=BLUR)
  coords = encodings.encode_coordinates(*sphere.unit_to_latlon(x))
  found = jax.grad(lambda logits: loss(logits, coords).sum())(logits)
  np.testing.assert_allclose(
    found, jax.nn.softmax(logits) - shares(x, mu, BLUR), atol=1e-3
  )


@pytest.mark.parametrize("chunk_size", [1, 7, 8, 24, 100])
def test_chunks_change_nothing(chunk_size):
  x, features, kernel, bias, mu, log_kappa = make_arrays()

  def dense(features, kernel, bias, mu, log_kappa):
    logits = features @ kernel + bias[None, :]
    return mixture.smoothed_log_prob(x, logits, mu, log_kappa, blur_rad=BLUR)

  def fused(features, *by_center):
    return mixture.fused_smoothed_log_prob(
      x, features, *by_center, blur_rad=BLUR, chunk_size=chunk_size
    )

  inputs = features, kernel, bias, mu, log_kappa
  np.testing.assert_allclose(fused(*inputs), dense(*inputs), rtol=1e-4)
  grads = [
    jax.jit(jax.grad(lambda *a, f=f: f(*a).sum(), range(5)))(*inputs)
    for f in (fused, dense)
  ]
  for one, other in zip(*grads, strict=True):
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_centers_spread_over_devices_change_nothing():
  arrays = make_arrays()
  mesh = jax.make_mesh((8,), ("c",), axis_types=(jax.sharding.AxisType.Auto,))

  def run(axis_name, x, features, *by_center):
    return mixture.fused_smoothed_log_prob(
      *(x, features, *by_center),
      blur_rad=BLUR,
      chunk_size=2,
      axis_name=axis_name,
    )

  spread = jax.shard_map(
    functools.partial(run, "c"),
    mesh=mesh,
    in_specs=(P(), P(), P(None, "c"), *[P("c")] * 3),
    out_specs=P(),
  )
  whole = functools.partial(run, None)
  np.testing.assert_allclose(spread(*arrays), whole(*arrays), rtol=1e-4)
  grads = [
    jax.jit(jax.grad(lambda *a, f=f: f(*a).sum(), range(1, 6)))(*arrays)
    for f in (spread, whole)
  ]
  for one, other in zip(*grads, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_chunks_need_a_size():
  with pytest.raises(ValueError, match="chunk_size must be at least 1"):
    mixture.fused_smoothed_log_prob(*make_arrays(), blur_rad=BLUR, chunk_size=0)


def test_memory_does_not_grow_with_the_centers():
  def temp(centers, chunk_size):
    shapes = [(64, 3), (64, 8), (8, centers), (centers,), (centers, 3)]
    inputs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    inputs.append(inputs[3])

    def loss(*arrays):
      return mixture.fused_smoothed_log_prob(
        *arrays, blur_rad=BLUR, chunk_size=chunk_size
      ).sum()

    compiled = jax.jit(jax.grad(loss, (1,))).lower(*inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  whole = 2**14 * 64 * 4
  assert temp(2**14, 512) < whole < temp(2**14, 2**14)
