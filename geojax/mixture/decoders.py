"""Points and maps from a mixture.

All functions take the logits and parameters of `mixture.log_prob` and run under
jit. They loop over candidate points, or over chunks of centers, so that their
arrays have the size of the logits. They are not meant to be differentiated.
"""

import math

import jax
import jax.numpy as jnp

from geojax import arrays, vmf

# By default TPUs and GPUs round products of float32 matrices to 8 or 10 bits,
# a point on the Earth to 10 km.
_PRECISE = jax.lax.Precision.HIGHEST
_ARCCOS = (
  1.5707963050,
  -0.2145988016,
  0.0889789874,
  -0.0501743046,
  0.0308918810,
  -0.0170881256,
  0.0066700901,
  -0.0012624911,
)


def decode_largest(logits, mu):
  """The center of the largest weight, a unit vector: `[batch, 3]`."""
  logits, mu = checked(logits, mu)
  return mu[jnp.argmax(logits, axis=-1)]


def decode_mode(
  logits, mu, log_kappa, *, blur_rad=0.0, num_starts=8, num_steps=32
):
  """The point of the highest density.

  Iterates the fixed point of a mode, x = sum_i share_i kappa_i mu_i scaled to
  length 1, with share_i the responsibilities at x, from the centers whose own
  component is the highest; the best end point is returned. The density never
  decreases: it is convex in x in space, and each step maximizes its tangent
  plane on the sphere.

  A blur finds where much of the mass lies, not where the density peaks: many
  components that agree on a region outweigh a sharper one elsewhere.

  Args:
    logits, mu, log_kappa: The mixtures, see `mixture.log_prob`.
    blur_rad: Standard deviation of the blur along each direction, in radians;
      its square is added to a component's variance, 1/kappa.
    num_starts: Number of centers to start from.
    num_steps: Number of steps from each.

  Returns:
    Unit vectors, shape `[batch, 3]`.

  References:
    Carreira-Perpinan, Mode-finding for mixtures of Gaussian distributions,
    IEEE PAMI 22, 2000.
  """
  logits, mu, log_kappa = checked(logits, mu, log_kappa)
  kappa = jnp.exp(log_kappa)
  kappa = kappa / (1 + kappa * blur_rad**2)
  log_peak = jax.nn.log_softmax(logits) + vmf.log_peak(kappa)[None, :]
  _, starts = jax.lax.top_k(log_peak, min(num_starts, len(mu)))

  def climb(start):
    def step(_, x):
      share = jax.nn.softmax(log_joint(x, log_peak, mu, kappa), axis=-1)
      pull = jnp.dot(share, kappa[:, None] * mu, precision=_PRECISE)
      # The pull is 0 where all kappa are.
      length = jnp.linalg.norm(pull, axis=-1, keepdims=True)
      return jnp.where(length > 0, pull / length, x)

    x = jax.lax.fori_loop(0, num_steps, step, mu[start])
    joint = log_joint(x, log_peak, mu, kappa)
    return x, jax.nn.logsumexp(joint, axis=-1)

  points, log_prob = jax.lax.map(climb, starts.T)
  return _best(points, -log_prob)


def decode_least_expected_distance(
  logits, mu, *, num_candidates=16, num_starts=2, num_steps=32
):
  """The point of the least expected great-circle distance from the centers.

  The spherical median of the centers under their weights: sum_i weight_i
  angle(x, mu_i) is compared at the centers of the largest weights and at the
  weighted mean, then Weiszfeld steps on the sphere start from the best few.
  The result is never worse than the best candidate.

  Args:
    logits, mu: The mixtures, see `mixture.log_prob`.
    num_candidates: Number of centers to compare.
    num_starts: Number of points to start from.
    num_steps: Number of steps from each.

  Returns:
    Unit vectors, shape `[batch, 3]`.

  References:
    Fletcher, Venkatasubramanian & Joshi, The geometric median on Riemannian
    manifolds, NeuroImage 45, 2009.
  """
  logits, mu = checked(logits, mu)
  weight = jax.nn.softmax(logits, axis=-1)
  _, best = jax.lax.top_k(logits, min(num_candidates, len(mu)))
  mean = jnp.dot(weight, mu, precision=_PRECISE)
  length = jnp.linalg.norm(mean, axis=-1, keepdims=True)
  mean = jnp.where(length > 0, mean / length, mu[best[:, 0]])
  candidates = jnp.concatenate([mean[None], mu[best.T]])

  def expected_angle(x):
    return jnp.sum(weight * _angle(_depth(x, mu)), axis=-1)

  def descend(start):
    def step(_, x):
      # The gradient is the weighted sum of unit tangents towards the centers;
      # the curvature is at most the sum of weight/chord. A center at x or at
      # its antipode has no direction: its contribution is bounded.
      depth = jnp.maximum(_depth(x, mu), 1e-12)
      square_sine = jnp.maximum(depth * (2 - depth), 1e-12)
      by_sine = weight * jax.lax.rsqrt(square_sine)
      pull = jnp.dot(by_sine, mu, precision=_PRECISE)
      pull -= jnp.sum(pull * x, axis=-1, keepdims=True) * x
      curvature = jnp.sum(weight * jax.lax.rsqrt(2 * depth), axis=-1)
      x = x + pull / curvature[:, None]
      return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    x = jax.lax.fori_loop(0, num_steps, step, start)
    return x, expected_angle(x)

  angles = jax.lax.map(expected_angle, candidates)
  _, first = jax.lax.top_k(-angles.T, min(num_starts, len(candidates)))
  starts = jnp.take_along_axis(candidates, first.T[..., None], axis=0)
  reached, reached_angles = jax.lax.map(descend, starts)
  points = jnp.concatenate([candidates, reached])
  return _best(points, jnp.concatenate([angles, reached_angles]))


def probability_map(logits, mu, log_kappa, cells, *, chunk_size=256):
  """Probability of each cell of an equal-area grid.

  Each component's mass is divided among the cells in proportion to its density
  at their centers. For a component wider than a cell this is the integral over
  the cell; a narrower one goes to the cell of the nearest center. Rows sum to
  1, and no component is lost between the centers of cells.

  Args:
    logits, mu, log_kappa: The mixtures, see `mixture.log_prob`.
    cells: Centers of cells of equal area, unit vectors, from
      `sphere.equal_area_grid`, shape `[cells, 3]`.
    chunk_size: Number of centers at a time, which sets the working memory:
      `[chunk_size, cells]`.

  Returns:
    Probabilities, shape `[batch, cells]`; times cells/(4 pi), densities per
    steradian.
  """
  logits, mu, log_kappa = checked(logits, mu, log_kappa)
  (cells,) = arrays.widen(cells)
  arrays.check_shape("cells", cells, ("cells", 3))
  arrays.check_unit("cells", cells)
  cells = cells.astype(mu.dtype)
  chunk_size = min(chunk_size, len(mu))
  padding = -len(mu) % chunk_size
  weight = jnp.pad(jax.nn.softmax(logits), ((0, 0), (0, padding)))
  mu = jnp.pad(mu, ((0, padding), (0, 0)))
  kappa = jnp.pad(jnp.exp(log_kappa), (0, padding))

  def add_chunk(i, total):
    start = i * chunk_size

    def cut(whole, axis=0):
      return jax.lax.dynamic_slice_in_dim(whole, start, chunk_size, axis)

    share = -cut(kappa)[:, None] * _depth(cut(mu), cells)
    share = jax.nn.softmax(share, axis=-1)
    return total + jnp.dot(cut(weight, axis=1), share, precision=_PRECISE)

  total = jnp.zeros((len(logits), len(cells)), mu.dtype)
  return jax.lax.fori_loop(0, len(mu) // chunk_size, add_chunk, total)


def checked(logits, mu, log_kappa=None):
  """Returns the arguments as JAX arrays; a ValueError if shapes mismatch."""
  given = [v for v in (logits, mu, log_kappa) if v is not None]
  logits, mu, *rest = arrays.widen(*given)
  arrays.check_shape("mu", mu, ("centers", 3))
  arrays.check_shape("logits", logits, ("batch", len(mu)))
  arrays.check_unit("mu", mu)
  for value in rest:
    arrays.check_shape("log_kappa", value, (len(mu),))
  return logits, mu, *rest


def log_joint(x, log_peak, mu, kappa):
  """Log of weight times density of each component at x, `[batch, centers]`."""
  return log_peak - kappa[None, :] * _depth(x, mu)


def _depth(x, mu):
  return vmf.pairwise_depth(vmf.pairwise_offsets(x, mu.T))


def _angle(depth):
  """arccos(1 - depth) to 2e-8, in a tenth of the time of arctan2 on a CPU.

  Abramowitz & Stegun, Handbook of Mathematical Functions, formula 4.4.46.
  """
  small = jnp.maximum(jnp.minimum(depth, 2 - depth), 0)
  cosine = 1 - small
  series = jnp.full_like(cosine, _ARCCOS[-1])
  for coefficient in _ARCCOS[-2::-1]:
    series = series * cosine + coefficient
  acute = jnp.sqrt(small) * series
  return jnp.where(depth <= 1, acute, math.pi - acute)


def _best(points, cost):
  """Each example's point of the least cost, of [candidates, batch, 3]."""
  first = jnp.argmin(cost, axis=0)[None, :, None]
  return jnp.take_along_axis(points, first, axis=0)[0]
