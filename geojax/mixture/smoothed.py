"""A lower bound of the log density, by a posterior that is given.

For any weights q over the centers,

    log p(x) >= sum_i q_i (log softmax(logits)_i + log vMF_i(x) - log q_i),

with equality where q_i is the share of x that component i answers for. Training
by `log_prob` lets the model choose: it may put all of x on one center. Here q
is given by distance alone, `softmax(-angle(x, mu_i) / blur_rad)`. The weights
of least loss are then the mean of q over all x that look alike, those of a
truth that was blurred by q: the loss is proper for that truth, and an upper
bound for the sharp one. Gradients by the logits are those of a cross-entropy
against q.

References:
  Neal & Hinton, A view of the EM algorithm that justifies incremental, sparse,
  and other variants, 1998. Haas, Skreta, Alberti & Finn, PIGEON: Predicting
  Image Geolocations, CVPR 2024: targets smoothed by distance.
"""

import jax
import jax.numpy as jnp

from geojax import arrays, vmf


def smoothed_log_prob(x, logits, mu, log_kappa, *, blur_rad):
  """Lower bound of `mixture.log_prob` by weights that fall with distance.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    logits: Mixture logits, shape `[batch, centers]`.
    mu: Centers, unit vectors, shape `[centers, 3]`.
    log_kappa: Logs of the concentrations, shape `[centers]`.
    blur_rad: Angle at which a center's share has fallen to 1/e, > 0.

  Returns:
    Bounds in nats per steradian, shape `[batch]`, float32 or wider.

  Raises:
    ValueError: Shapes do not fit.
  """
  x, logits, mu, log_kappa = arrays.widen(x, logits, mu, log_kappa)
  arrays.check_shape("x", x, ("batch", 3))
  arrays.check_shape("mu", mu, ("centers", 3))
  arrays.check_shape("log_kappa", log_kappa, (len(mu),))
  arrays.check_shape("logits", logits, (len(x), len(mu)))
  return _bound(_sums(x, logits, mu, log_kappa, blur_rad))


def fused_smoothed_log_prob(
  x,
  features,
  kernel,
  bias,
  mu,
  log_kappa,
  *,
  blur_rad,
  chunk_size=1024,
  axis_name=None,
):
  """The same of logits `features @ kernel + bias`, chunk by chunk.

  Args:
    x, features, kernel, bias, mu, log_kappa, chunk_size, axis_name: See
      `mixture.fused_log_prob`.
    blur_rad: See `smoothed_log_prob`.

  Returns:
    What `smoothed_log_prob` does, in memory for `[batch, chunk_size]`: a chunk
    is computed anew in the backward pass.

  Raises:
    ValueError: `chunk_size` is below 1.
  """
  if chunk_size < 1:
    raise ValueError(f"chunk_size must be at least 1, found {chunk_size}")
  x, bias, mu, log_kappa = arrays.widen(x, bias, mu, log_kappa)

  @jax.checkpoint
  def of_chunk(kernel, bias, mu, log_kappa):
    logits = jnp.dot(features, kernel.T, preferred_element_type=bias.dtype)
    return _sums(x, logits + bias[None, :], mu, log_kappa, blur_rad)

  by_center = kernel.T, bias, mu, log_kappa
  whole = len(bias) // chunk_size * chunk_size
  # What is left over comes first, if anything, and else a whole chunk.
  first = len(bias) - whole or chunk_size
  found = of_chunk(*(value[:first] for value in by_center))
  if first < len(bias):
    chunks = [
      value[first:].reshape(-1, chunk_size, *value.shape[1:])
      for value in by_center
    ]
    found, _ = jax.lax.scan(
      lambda sums, chunk: (_join(sums, of_chunk(*chunk)), None), found, chunks
    )
  if axis_name is not None:
    found = _join_devices(found, axis_name)
  return _bound(found)


def _bound(sums):
  log_weights, log_shares, mean = sums
  return mean - log_weights + log_shares


def _sums(x, logits, mu, log_kappa, blur_rad):
  """Of some centers: logs of the sums of weights and of shares, and a mean.

  The mean, by the shares, of what a center adds to the bound.
  """
  kappa = jnp.exp(log_kappa)
  depth = vmf.pairwise_depth(vmf.pairwise_offsets(x, mu.T))
  log_component = vmf.log_peak(kappa)[None, :] - kappa[None, :] * depth
  # The shares are given: centers are not moved to make them larger.
  half_chord = jnp.sqrt(jax.lax.stop_gradient(depth) / 2)
  log_share = -2 * jnp.arcsin(jnp.minimum(half_chord, 1)) / blur_rad
  log_shares = jax.nn.logsumexp(log_share, axis=-1)
  share = jnp.exp(log_share - log_shares[:, None])
  terms = logits + log_component - log_share
  return (
    jax.nn.logsumexp(logits, axis=-1),
    log_shares,
    jnp.sum(share * terms, axis=-1),
  )


def _join(one, other):
  """The sums of two sets of centers out of those of each."""
  log_shares = jnp.logaddexp(one[1], other[1])
  return (
    jnp.logaddexp(one[0], other[0]),
    log_shares,
    one[2] * jnp.exp(one[1] - log_shares)
    + other[2] * jnp.exp(other[1] - log_shares),
  )


def _join_devices(sums, axis_name):
  logs = jnp.stack(sums[:2])
  highest = jax.lax.pmax(jax.lax.stop_gradient(logs), axis_name)
  total = jax.lax.psum(jnp.exp(logs - highest), axis_name)
  log_weights, log_shares = jnp.log(total) + highest
  mean = jax.lax.psum(sums[2] * jnp.exp(sums[1] - log_shares), axis_name)
  return log_weights, log_shares, mean
