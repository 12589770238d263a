"""The von Mises distribution on the circle, by its mean length.

The squared error is least at the mean sine and cosine over all possible days.
The length R of that mean measures how far apart these lie; the von Mises
distribution has the largest entropy of those with that mean. R = 0 is the
uniform one, R = 1 a point.

References:
  Mardia & Jupp, Directional Statistics, Wiley 2000, sections 3.5.4 and 5.3.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from geojax import arrays

# Float32 does not resolve longer means: a spread of a tenth of a day.
_LONGEST = 1 - 1e-6
# Standard deviations beyond which no mass lies in float32.
_WIDTH = 8.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_HALVINGS = 40


def concentration(mean_length):
  """Concentration kappa of the distribution of a mean length.

  Args:
    mean_length: R, shape `[...]`; taken as 1 - 1e-6 above that.

  Returns:
    kappa >= 0 with I1(kappa)/I0(kappa) = R, shape `[...]`.
  """
  (length,) = arrays.widen(mean_length)
  length = jnp.clip(length, 0, _LONGEST)

  def is_short(log_kappa):
    kappa = jnp.exp(log_kappa)
    return jax.scipy.special.i1e(kappa) < length * jax.scipy.special.i0e(kappa)

  low = jnp.full_like(length, math.log(1e-4))
  log_kappa = _bisect(is_short, low, jnp.full_like(length, math.log(1e6)))
  return jnp.where(length > 5e-5, jnp.exp(log_kappa), 0)


def mass_within(angle, mean_length):
  """Probability that lies within an angle of the mean direction.

  Args:
    angle: Angles in [0, pi], shape `[...]`.
    mean_length: R, shape `[...]`.

  Returns:
    Values in [0, 1], shape `[...]`.
  """
  angle, length = arrays.widen(angle, mean_length)
  return _mass(angle, concentration(length))


def angle_of_mass(mass, mean_length):
  """Angle about the mean direction that holds a probability.

  Args:
    mass: Probabilities in [0, 1], shape `[...]`.
    mean_length: R, shape `[...]`.

  Returns:
    Angles in [0, pi], the inverse of `mass_within`, shape `[...]`.
  """
  mass, length = jnp.broadcast_arrays(*arrays.widen(mass, mean_length))
  kappa = concentration(length)
  # Inverting by logs keeps the digits of narrow ones.
  low = jnp.full_like(mass, math.log(1e-6))
  log_angle = _bisect(
    lambda log_angle: _mass(jnp.exp(log_angle), kappa) < mass,
    low,
    jnp.full_like(mass, math.log(math.pi)),
  )
  return jnp.where(mass < 1, jnp.exp(log_angle), math.pi)


def _mass(angle, kappa):
  end = jnp.minimum(angle, _WIDTH / jnp.sqrt(jnp.maximum(kappa, 1e-6)))
  nodes = jnp.asarray((_NODES + 1) / 2, end.dtype)
  weights = jnp.asarray(_WEIGHTS / 2, end.dtype)
  theta = end[..., None] * nodes.reshape((1,) * end.ndim + (-1,))
  # cos(theta) - 1 without cancellation.
  depth = 2 * jnp.square(jnp.sin(theta / 2))
  density = jnp.exp(-kappa[..., None] * depth) @ weights
  whole = math.pi * jax.scipy.special.i0e(kappa)
  return jnp.clip(end * density / whole, 0, 1)


def _bisect(is_below, low, high):
  """Where a function turns from True to False, between two ends."""

  def halve(_, ends):
    low, high = ends
    middle = (low + high) / 2
    below = is_below(middle)
    return jnp.where(below, middle, low), jnp.where(below, high, middle)

  low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
  return (low + high) / 2
