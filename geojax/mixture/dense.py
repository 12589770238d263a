"""The log density of mixtures from their logits, and its gradients."""

import functools
import math

import jax
import jax.numpy as jnp

from geojax import arrays, vmf

# Sums over the batch first add groups of this many rows: as many as a cache
# holds when rows are a power of two apart.
_ROWS_PER_SUM = 8


def log_prob(x, logits, mu, log_kappa):
  """Log density of each example's mixture, in nats per steradian.

  logsumexp_i(log_softmax(logits)_i + log vMF(x; mu_i, kappa_i)); the loss
  relative to the uniform density is `-(log_prob + log 4 pi)`. Differentiable
  to any order, forward and backward. Off the sphere the chord form holds, as in
  `vmf.log_prob`.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    logits: Mixture logits, shape `[batch, centers]`.
    mu: Centers, unit vectors, shape `[centers, 3]`.
    log_kappa: Logs of the concentrations, shape `[centers]`.

  Returns:
    Log densities, shape `[batch]`, float32 or wider.

  Raises:
    ValueError: If shapes do not fit or, outside jit, `x` or `mu` is not of
      unit length.
  """
  x, logits, mu, log_kappa = arrays.widen(x, logits, mu, log_kappa)
  arrays.check_shape("x", x, ("batch", 3))
  arrays.check_shape("mu", mu, ("centers", 3))
  arrays.check_shape("log_kappa", log_kappa, (len(mu),))
  arrays.check_shape("logits", logits, (len(x), len(mu)))
  arrays.check_unit("x", x)
  arrays.check_unit("mu", mu)
  return _log_prob(x, logits, mu, log_kappa)


def normalize_centers(mu):
  """Scales vectors `[..., 3]` other than 0 to length 1.

  The gradient of `log_prob` by `mu` is nearly tangent to the sphere, so that an
  optimizer's step followed by this is a step on the sphere.
  """
  (mu,) = arrays.widen(mu)
  return mu / jnp.linalg.norm(mu, axis=-1, keepdims=True)


def mean_logits(logits):
  """Logits of the mean of the examples' densities, which is one mixture.

  The examples share their centers, so the mean of their densities has the mean
  of their weights. A map of it costs as much as that of one example.

  Args:
    logits: Mixture logits, shape `[batch, centers]`.

  Returns:
    Logs of the mean weights, shape `[1, centers]`.
  """
  (logits,) = arrays.widen(logits)
  log_weight = jax.nn.log_softmax(logits)
  total = jax.nn.logsumexp(log_weight, axis=0, keepdims=True)
  return total - math.log(len(logits))


def _terms(x, logits, mu, log_kappa):
  """Log weights, log densities of the components, and intermediate values."""
  kappa = jnp.exp(log_kappa)
  offsets = vmf.pairwise_offsets(x, mu.T)
  depth = vmf.pairwise_depth(offsets)
  log_component = vmf.log_peak(kappa)[None, :] - kappa[None, :] * depth
  return jax.nn.log_softmax(logits), log_component, depth, offsets, kappa


@jax.custom_jvp
@jax.jit
def _log_prob(x, logits, mu, log_kappa):
  log_weight, log_component, *_ = _terms(x, logits, mu, log_kappa)
  return jax.nn.logsumexp(log_weight + log_component, axis=-1)


@_log_prob.defjvp
@jax.jit
def _log_prob_jvp(primals, tangents):
  # Written out so that the backward pass stores only responsibilities and
  # weights, and sums over the batch in two stages.
  x_dot, logits_dot, mu_dot, log_kappa_dot = tangents
  log_weight, log_component, depth, offsets, kappa = _terms(*primals)
  log_joint = log_weight + log_component
  value = jax.nn.logsumexp(log_joint, axis=-1)
  weight = jnp.exp(log_weight)
  share = jnp.exp(log_joint - value[:, None])
  peak_dot = vmf.mean_depth(kappa) * kappa * log_kappa_dot
  spread = functools.partial(_spread, num_rows=len(x_dot))
  tangent = (share - weight) * logits_dot
  tangent += share * (spread(peak_dot) - depth * spread(kappa * log_kappa_dot))
  for i in range(3):
    pull = spread(kappa * mu_dot[:, i]) - kappa[None, :] * x_dot[:, i, None]
    tangent += share * offsets[i] * pull
  return value, jnp.sum(tangent, axis=-1)


def _spread(row, num_rows):
  """Repeats a row; the transpose is a cache-friendly sum over rows."""
  if num_rows % _ROWS_PER_SUM:
    return jnp.broadcast_to(row[None, :], (num_rows, row.size))
  # The product with ones keeps the compiler from merging the two sums.
  ones = jnp.ones((num_rows // _ROWS_PER_SUM, 1), row.dtype)
  groups = jnp.dot(ones, row[None, :], precision=jax.lax.Precision.HIGHEST)
  shape = (len(groups), _ROWS_PER_SUM, row.size)
  return jnp.broadcast_to(groups[:, None, :], shape).reshape(num_rows, -1)
