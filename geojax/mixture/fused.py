"""The head fused with the mixture: log densities without [batch, centers].

With 10^5 or 10^6 centers the logits of a batch and their gradients do not fit
into memory. Here the centers are processed in chunks: forward by an online
logsumexp (running maxima and sums) of the weights and of the joint density,
backward by recomputing each chunk's logits.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geojax import arrays, vmf


def fused_log_prob(
  x,
  features,
  kernel,
  bias,
  mu,
  log_kappa,
  *,
  chunk_size=1024,
  axis_name=None,
):
  """Log density of the mixtures with logits `features @ kernel + bias`.

  Equals `mixture.log_prob(x, features @ kernel + bias, mu, log_kappa)`, its
  gradients by all six arrays included, in memory for `[batch, chunk_size]`.
  Differentiable backward only (a custom VJP).

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    features: Inputs of the head, shape `[batch, features]`. Products of
      bfloat16 are summed in float32.
    kernel: Weights of the head, shape `[features, centers]`.
    bias: Biases of the head, shape `[centers]`.
    mu: Centers, unit vectors, shape `[centers, 3]`.
    log_kappa: Logs of the concentrations, shape `[centers]`.
    chunk_size: Number of centers at a time; need not divide their number.
    axis_name: Name of the mapped axis (or a tuple of names) over which
      `kernel`, `bias`, `mu` and `log_kappa` are sharded by center, within
      `jax.shard_map` or `jax.pmap`; `x` and `features` are whole on each
      device. Devices exchange numbers of shape `[batch]` and, backward, the
      gradients by `x` and `features`.

  Returns:
    Log densities in nats per steradian, shape `[batch]`, float32 or wider; the
    same on all devices of `axis_name`.

  Raises:
    ValueError: If shapes do not fit, `chunk_size` is below 1 or, outside jit,
      `x` or `mu` is not of unit length.

  References:
    Milakov & Gimelshein, Online normalizer calculation for softmax, 2018.
  """
  dtype = arrays.float_type(x, features, kernel, bias, mu, log_kappa)
  x, bias, mu, log_kappa = (
    jnp.asarray(v, dtype) for v in (x, bias, mu, log_kappa)
  )
  features, kernel = jnp.asarray(features), jnp.asarray(kernel)
  arrays.check_shape("features", features, ("batch", "features"))
  arrays.check_shape("kernel", kernel, (features.shape[1], "centers"))
  num_centers = kernel.shape[1]
  arrays.check_shape("bias", bias, (num_centers,))
  arrays.check_shape("x", x, (features.shape[0], 3))
  arrays.check_shape("mu", mu, (num_centers, 3))
  arrays.check_shape("log_kappa", log_kappa, (num_centers,))
  arrays.check_unit("x", x)
  arrays.check_unit("mu", mu)
  if features.dtype != kernel.dtype:
    features, kernel = features.astype(dtype), kernel.astype(dtype)
  if chunk_size < 1:
    raise ValueError(f"chunk_size must be at least 1, found {chunk_size}")
  chunk_size = min(int(chunk_size), num_centers)
  # The transpose of this sums the cotangents of unsharded inputs over devices,
  # so that the custom VJP does not depend on the axis.
  inputs = _vary_alike(x, features, kernel, bias, mu, log_kappa)
  top, log_weights, log_joint = _log_sums(chunk_size, *inputs)
  if axis_name is None:
    return log_joint - log_weights
  top = jax.lax.stop_gradient(top)
  offset = top - jax.lax.pmax(top, axis_name)
  sums = jnp.stack([log_joint, log_weights]) + offset[None, :]
  highest = jax.lax.pmax(jax.lax.stop_gradient(sums), axis_name)
  total = jax.lax.psum(jnp.exp(sums - highest), axis_name)
  log_joint, log_weights = jnp.log(total) + highest
  return log_joint - log_weights


class _Chunk(NamedTuple):
  """A chunk of all arrays but the kernel, each of shape [chunk]."""

  bias: jax.Array
  centers: tuple[jax.Array, jax.Array, jax.Array]
  kappa: jax.Array
  log_peak: jax.Array


class _Chunks:
  """Chunks of the arrays that have an entry for each center.

  A chunk is sliced in the step before its own and carried, so that it is an
  array. Sliced in its own step it would be fused into every use as loads from a
  changing offset, which XLA does not vectorize on a CPU (3 times the time). The
  kernel is used only in products, which are not fused: it is sliced in place.

  Where `chunk_size` does not divide the number of centers, chunks 0 and 1
  overlap: the shared centers have no weight in chunk 0, and chunk 1 overwrites
  their gradients. So no array is copied for padding.
  """

  def __init__(self, chunk_size, kernel, bias, mu, log_kappa):
    self.arrays = kernel, bias, mu, log_kappa
    self.chunk_size = chunk_size
    self.number = -(-len(bias) // chunk_size)
    self.overlap = self.number * chunk_size - len(bias)

  def start(self, i):
    return jnp.maximum(i * self.chunk_size - self.overlap, 0)

  def take(self, i):
    """Returns chunk i, or the last chunk for a larger i."""
    i = jnp.minimum(i, self.number - 1)
    start, size = self.start(i), self.chunk_size
    cut = functools.partial(
      jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=size
    )
    _, bias, mu, log_kappa = self.arrays
    bias, mu, kappa = cut(bias), cut(mu), jnp.exp(cut(log_kappa))
    if self.overlap:
      end = (i + 1) * size - self.overlap
      bias = jnp.where(start + jnp.arange(size) < end, bias, -jnp.inf)
    centers = mu[:, 0], mu[:, 1], mu[:, 2]
    return _Chunk(bias, centers, kappa, vmf.log_peak(kappa))

  def kernel(self, i):
    """Returns the kernel of chunk i, shape [features, chunk]."""
    return jax.lax.dynamic_slice_in_dim(
      self.arrays[0], self.start(i), self.chunk_size, axis=1
    )

  def put(self, i, whole, chunk, axis=0):
    """Writes chunk i of an array, in place where the compiler can."""
    return jax.lax.dynamic_update_slice_in_dim(
      whole, chunk, self.start(i), axis
    )


def _head(features, kernel, bias):
  """Logits of a chunk, summed in float32 or wider, shape [batch, chunk]."""
  product = jnp.dot(features, kernel, preferred_element_type=bias.dtype)
  return product + bias[None, :]


def _log_component(offsets, chunk):
  """Log densities of a chunk's components, shape [batch, chunk]."""
  return chunk.log_peak[None, :] - chunk.kappa[None, :] * vmf.pairwise_depth(
    offsets
  )


def _vary_alike(*values, like=()):
  """Marks arrays as varying over every axis that one of them varies over.

  A shard_map with check_vma requires this of a loop's initial state, and of a
  gradient to vary as its array does. Elsewhere it does nothing.
  """

  def varying(v):
    return jax.typeof(v).manual_axis_type.varying

  axes = frozenset().union(*(varying(v) for v in (*values, *like)))
  missing = [tuple(axes - varying(v)) for v in values]
  return [
    jax.lax.pcast(v, names, to="varying") if names else v
    for v, names in zip(values, missing, strict=True)
  ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_sums(chunk_size, *inputs):
  """Log sums over the centers of weights and of weights times densities.

  Both are relative to the highest logit, which is returned first. Its own
  derivative is left out: it cancels in the difference of the two sums.
  """
  x, features, *_ = inputs
  lowest = jnp.full(x.shape[0], jnp.finfo(x.dtype).min, x.dtype)
  zero = jnp.zeros_like(lowest)
  chunks = _Chunks(chunk_size, *inputs[2:])

  def add_chunk(i, state):
    (top, weights, joint_top, joint), chunk = state
    logits = _head(features, chunks.kernel(i), chunk.bias)
    new_top = jnp.maximum(top, logits.max(axis=1))
    fall = top - new_top
    logits -= new_top[:, None]
    weights = weights * jnp.exp(fall) + jnp.exp(logits).sum(axis=1)
    log_joint = logits + _log_component(
      vmf.pairwise_offsets(x, chunk.centers), chunk
    )
    # At least the lowest float, as -inf - -inf is NaN.
    new_joint_top = jnp.maximum(joint_top + fall, log_joint.max(axis=1))
    new_joint_top = jnp.maximum(new_joint_top, lowest)
    joint = joint * jnp.exp(joint_top + fall - new_joint_top)
    joint += jnp.exp(log_joint - new_joint_top[:, None]).sum(axis=1)
    return (new_top, weights, new_joint_top, joint), chunks.take(i + 1)

  state = _vary_alike(lowest, zero, lowest, zero, like=inputs)
  state = jax.lax.fori_loop(
    0, chunks.number, add_chunk, (tuple(state), chunks.take(0))
  )
  (top, weights, joint_top, joint), _ = state
  tiny = jnp.finfo(x.dtype).tiny
  log_weights = jnp.log(jnp.maximum(weights, tiny))
  return top, log_weights, joint_top + jnp.log(jnp.maximum(joint, tiny))


def _log_sums_fwd(chunk_size, *inputs):
  sums = _log_sums(chunk_size, *inputs)
  return sums, (inputs, sums)


def _log_sums_bwd(chunk_size, saved, cotangents):
  inputs, (top, log_weights, log_joint_sum) = saved
  _, by_weights, by_joint = cotangents
  x, features, kernel, bias, mu, log_kappa = inputs
  wide = features.astype(x.dtype)
  wide_transposed = wide.T
  chunks = _Chunks(chunk_size, kernel, bias, mu, log_kappa)

  def add_chunk(i, state):
    grads, chunk = state
    x_grad, features_grad, kernel_grad, bias_grad, mu_grad, log_kappa_grad = (
      grads
    )
    chunk_kernel = chunks.kernel(i)
    logits = _head(features, chunk_kernel, chunk.bias) - top[:, None]
    offsets = vmf.pairwise_offsets(x, chunk.centers)
    log_joint = logits + _log_component(offsets, chunk)
    share = by_joint[:, None] * jnp.exp(log_joint - log_joint_sum[:, None])
    weight = by_weights[:, None] * jnp.exp(logits - log_weights[:, None])
    logits_grad = share + weight
    # Sums the differences x - mu; separate sums of x and mu would cancel at
    # large kappa.
    pulls = [share * offset for offset in offsets]
    x_grad = [
      grad - (pull * chunk.kappa[None, :]).sum(axis=1)
      for grad, pull in zip(x_grad, pulls, strict=True)
    ]
    mu_chunk = jnp.stack([chunk.kappa * p.sum(axis=0) for p in pulls], axis=1)
    features_grad += logits_grad @ chunk_kernel.astype(x.dtype).T
    depth_sum = (share * vmf.pairwise_depth(offsets)).sum(axis=0)
    log_kappa_chunk = chunk.kappa * (
      vmf.mean_depth(chunk.kappa) * share.sum(axis=0) - depth_sum
    )
    kernel_chunk = (wide_transposed @ logits_grad).astype(kernel.dtype)
    grads = (
      x_grad,
      features_grad,
      chunks.put(i, kernel_grad, kernel_chunk, axis=1),
      chunks.put(i, bias_grad, logits_grad.sum(axis=0)),
      chunks.put(i, mu_grad, mu_chunk),
      chunks.put(i, log_kappa_grad, log_kappa_chunk),
    )
    return grads, chunks.take(i + 1)

  grads = (
    [jnp.zeros_like(x[:, 0])] * 3,
    jnp.zeros_like(wide),
    *(jnp.zeros_like(v) for v in inputs[2:]),
  )
  grads = jax.tree.map(lambda g: _vary_alike(g, like=inputs)[0], grads)
  grads, _ = jax.lax.fori_loop(
    0, chunks.number, add_chunk, (grads, chunks.take(0))
  )
  x_grad, features_grad, *rest = grads
  x_grad = jnp.stack(x_grad, axis=1)
  return x_grad, features_grad.astype(features.dtype), *rest


_log_sums.defvjp(_log_sums_fwd, _log_sums_bwd)
