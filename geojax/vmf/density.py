"""Log densities of the von Mises-Fisher distribution, and samples of it."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.arrays import check_unit, widen
from geojax.vmf.caps import depth_of_mass
from geojax.vmf.moments import (
  LOG_2PI,
  SMALL_KAPPA,
  mean_resultant_length,
  mean_slope,
  peak_ratio,
)

# ln 2 in two parts, the first of 16 bits: exponents times it are exact.
_LN2_HIGH = 0.69313812255859375
_LN2_LOW = float(np.log(2.0)) - _LN2_HIGH


def log_prob(x, mu, kappa):
  """Log density: log(kappa/(4 pi sinh kappa)) + kappa mu.x, per steradian.

  Computed in the chord form with compensated sums: accurate to about one
  rounding for kappa from 0 (uniform, -log 4 pi) to 1e8 and beyond. The chord
  form also defines the density off the sphere: the gradients are kappa (mu - x)
  by `x` and kappa (x - mu) by `mu`. Tangential components are those of any
  other form; radial ones depend on the form, and are small here, so that their
  rounding does not swamp the tangential ones.

  Args:
    x: Unit vectors, shape `[..., 3]`.
    mu: Mean directions, unit vectors, shape `[..., 3]`.
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.

  Returns:
    Log densities, shape `[...]`, the broadcast of the arguments' `[...]`.

  Raises:
    ValueError: If shapes do not fit or, outside jit, `x` or `mu` is not of
      unit length.

  References:
    Mardia & Jupp, Directional Statistics, Wiley 2000, section 9.3.2.
  """
  x, mu, kappa = widen(x, mu, kappa)
  check_unit("x", x)
  check_unit("mu", mu)
  try:
    shape = np.broadcast_shapes(x.shape[:-1], mu.shape[:-1], kappa.shape)
  except ValueError:
    raise ValueError(
      "x[..., 0], mu[..., 0] and kappa must broadcast, found shapes "
      f"x {x.shape}, mu {mu.shape}, kappa {kappa.shape}"
    ) from None
  rank = len(shape)
  x, mu = _prepend_axes(x, rank + 1), _prepend_axes(mu, rank + 1)
  return _log_prob(x, mu, _prepend_axes(kappa, rank))


def sample(key, mu, kappa, shape=()):
  """Draws unit vectors by the inverse CDF of mu.x.

  Differentiable by `mu` and `kappa` (reparameterized). Exact from kappa = 0
  (uniform) up; from kappa = 1e8 on the rounding of `mu` limits the resolution.

  Args:
    key: A JAX random key.
    mu: Mean directions, unit vectors, shape `[..., 3]`.
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.
    shape: Shape of the draws per distribution.

  Returns:
    Unit vectors, shape `[*shape, ..., 3]`, with the arguments' `[...]`
    broadcast.

  Raises:
    ValueError: If `mu` is not `[..., 3]` or, outside jit, not of unit length.

  References:
    Jakob, Numerically stable sampling of the von Mises-Fisher distribution on
    S2, 2012. Duff et al., Building an Orthonormal Basis, Revisited, Journal
    of Computer Graphics Techniques 6, 2017.
  """
  mu, kappa = widen(mu, kappa)
  check_unit("mu", mu)
  event = np.broadcast_shapes(mu.shape[:-1], kappa.shape)
  full = (*shape, *event)
  mu = jnp.broadcast_to(mu, (*full, 3))
  kappa = jnp.broadcast_to(kappa, full)
  mass_key, turn_key = jax.random.split(key)
  # Shifted by half a step off 0, where a square root has no derivative.
  mass = jax.random.uniform(mass_key, full, kappa.dtype)
  mass = mass + float(jnp.finfo(kappa.dtype).eps) / 2
  turn = jax.random.uniform(turn_key, full, kappa.dtype)
  return point_at(mu, kappa, mass, turn)


def point_at(mu, kappa, mass, turn):
  """The point at a given azimuth on the rim of the cap of a given mass.

  Uniform `mass` and `turn` give a vMF sample, a lattice of them representative
  points.

  Args:
    mu: Mean directions, unit vectors, shape `[..., 3]`.
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.
    mass: Probabilities of the caps about `mu`, in (0, 1), shape `[...]`.
    turn: Azimuths as fractions of a turn, shape `[...]`.

  Returns:
    Unit vectors, shape `[..., 3]`.
  """
  depth = depth_of_mass(kappa, mass)
  radius = jnp.sqrt(depth * (2 - depth))
  azimuth_rad = (2 * np.pi) * turn
  east, north = _tangents(mu)
  across = (
    jnp.cos(azimuth_rad)[..., None] * east
    + jnp.sin(azimuth_rad)[..., None] * north
  )
  return mu - depth[..., None] * mu + radius[..., None] * across


def _prepend_axes(x, rank):
  return x.reshape((1,) * (rank - x.ndim) + x.shape)


def pairwise_offsets(x, centers):
  """Components of x - mu for all pairs, as three planes `[batch, centers]`.

  The compiler fuses planes away; an array `[batch, centers, 3]` it would not.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    centers: Components of the centers, three arrays `[centers]`.

  Returns:
    A list of three arrays `[batch, centers]`.
  """
  return [x[:, i, None] - centers[i][None, :] for i in range(3)]


def pairwise_depth(offsets):
  """1 - mu.x for all pairs, as half the squared chord: `[batch, centers]`."""
  a, b, c = offsets
  return (a * a + b * b + c * c) / 2


# Compensated arithmetic: a number is a rounded part and its rounding error.
# Products are of 12-bit halves, exact in float32 whether or not the compiler
# fuses multiply and add. In float64 the halves are the number and 0.


def _add(a, b):
  """Sum of a and b, and its rounding error (Knuth)."""
  total = a + b
  b_seen = total - a
  return total, (a - (total - b_seen)) + (b - b_seen)


def _halves(a):
  """The upper 12 bits of a float32's 24, and the lower."""
  if a.dtype != jnp.float32:
    return a, jnp.zeros_like(a)
  bits = jax.lax.bitcast_convert_type(a, jnp.uint32)
  high = jax.lax.bitcast_convert_type(bits & np.uint32(0xFFFFF000), a.dtype)
  return high, a - high


def _squared_chord(x, mu):
  """|x - mu|^2 over the last axis, as two parts."""
  difference, dropped = _add(x, -mu)
  high, low = _halves(difference)
  exact = high * high
  rest = low * (difference + high) + 2 * difference * dropped
  total, dropped_1 = _add(exact[..., 0], exact[..., 1])
  total, dropped_2 = _add(total, exact[..., 2])
  rest = dropped_1 + dropped_2 + (rest[..., 0] + rest[..., 1] + rest[..., 2])
  return _add(total, rest)


def _exponent(x, mu, kappa):
  """Exponent kappa h = kappa |x - mu|^2/2 as two parts."""
  chord, rest = _squared_chord(x, mu)
  half_kappa = kappa / 2
  chord_high, chord_low = _halves(chord)
  kappa_high, kappa_low = _halves(half_kappa)
  low = kappa_high * chord_low + kappa_low * chord + half_kappa * rest
  return kappa_high * chord_high, low


@jax.custom_jvp
@jax.jit
def _log_prob(x, mu, kappa):
  # The large parts of log kappa (exponent * ln 2) and kappa h cancel first, and
  # exactly; what is left has a rounding error of its own size.
  high, low = _exponent(x, mu, kappa)
  mantissa, exponent = jnp.frexp(kappa)
  small = kappa < SMALL_KAPPA
  exponent = jnp.where(small, 0, exponent).astype(kappa.dtype)
  ratio = jnp.where(small, peak_ratio(kappa), mantissa / -jnp.expm1(-2 * kappa))
  rest = jnp.log(ratio) - LOG_2PI + exponent * _LN2_LOW - low
  return (exponent * _LN2_HIGH - high) + rest


@_log_prob.defjvp
@jax.jit
def _log_prob_jvp(primals, tangents):
  x, mu, kappa = primals
  x_dot, mu_dot, kappa_dot = tangents
  difference = x - mu
  along = jnp.sum(difference * (x_dot - mu_dot), axis=-1)
  tangent = _kappa_score(x, mu, kappa) * kappa_dot - kappa * along
  return _log_prob(x, mu, kappa), tangent


@jax.custom_jvp
@jax.jit
def _kappa_score(x, mu, kappa):
  """Derivative of the log density by kappa: (mean of h) - h."""
  high, low = _exponent(x, mu, kappa)
  safe = jnp.where(kappa < SMALL_KAPPA, 1.0, kappa)
  # kappa * mean h = 1 - 2 kappa/(exp(2 kappa) - 1): near the mean of h, 1 and
  # kappa h cancel exactly.
  large = (1 - high) - (low + 2 * safe / jnp.expm1(2 * safe))
  chord, rest = _squared_chord(x, mu)
  small = (1 - chord / 2) - (rest / 2 + mean_resultant_length(kappa))
  return jnp.where(kappa < SMALL_KAPPA, small, large / safe)


@_kappa_score.defjvp
@jax.jit
def _kappa_score_jvp(primals, tangents):
  x, mu, kappa = primals
  x_dot, mu_dot, kappa_dot = tangents
  along = jnp.sum((x - mu) * (x_dot - mu_dot), axis=-1)
  tangent = -mean_slope(kappa) * kappa_dot - along
  return _kappa_score(x, mu, kappa), tangent


def _tangents(mu):
  """Two unit vectors that make a right-handed frame with mu, at every mu."""
  a, b, c = mu[..., 0], mu[..., 1], mu[..., 2]
  sign = jnp.where(c < 0, -1.0, 1.0).astype(mu.dtype)
  scale = -1 / (sign + c)
  mixed = a * b * scale
  east = [1 + sign * a * a * scale, sign * mixed, -sign * a]
  north = [mixed, sign + b * b * scale, -b]
  return jnp.stack(east, axis=-1), jnp.stack(north, axis=-1)
