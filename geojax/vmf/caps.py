"""Masses of caps about the mean direction, and the inverse functions."""

import jax
import jax.numpy as jnp

from geojax.arrays import widen
from geojax.vmf.moments import branches, mean_over_kappa, peak_ratio


def cap_mass(kappa, angle_rad):
  """Probability of a cap of a given radius about mu.

      (1 - exp(-kappa c)) / (1 - exp(-2 kappa)),   c = 1 - cos(angle)

  At kappa = 0 it is c/2, the cap's share of the sphere.

  Args:
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.
    angle_rad: Radii of the caps in radians, in [0, pi], shape `[...]`.

  Returns:
    Values in [0, 1], shape `[...]`.
  """
  kappa, angle_rad = jnp.broadcast_arrays(*widen(kappa, angle_rad))
  return _cap_mass(kappa, _depth(angle_rad))


def kappa_for_cap(angle_rad, mass):
  """Concentration at which a cap of a given radius holds a given mass.

  The inverse of `cap_mass`: half the mass within 83 km, 0.013 radians, is
  kappa = exp(9). 0 where the uniform density already holds the mass
  (mass <= sin^2(angle/2)), inf where mass is 1.

  Args:
    angle_rad: Radii of the caps in radians, in (0, pi), shape `[...]`.
    mass: Probabilities, in (0, 1), shape `[...]`.

  Returns:
    Concentrations, shape `[...]`.
  """
  angle_rad, mass = jnp.broadcast_arrays(*widen(angle_rad, mass))
  return _kappa_for_depth(_depth(angle_rad), mass)


@jax.custom_jvp
@jax.jit
def _cap_mass(kappa, depth):
  positive = kappa > 1e-30
  safe = jnp.where(positive, kappa, 1.0)
  ratio = jnp.expm1(-safe * depth) / jnp.expm1(-2 * safe)
  return jnp.where(positive, ratio, depth / 2)


@_cap_mass.defjvp
@jax.jit
def _cap_mass_jvp(primals, tangents):
  kappa, depth = primals
  kappa_dot, depth_dot = tangents
  mass = _cap_mass(kappa, depth)
  tangent = mass * _mass_score(kappa, depth) * kappa_dot
  density = peak_ratio(kappa) * jnp.exp(-kappa * depth)
  return mass, tangent + density * depth_dot


def _mass_score(kappa, depth):
  """Derivative of log cap_mass by kappa.

  c/(exp(kappa c) - 1) - 2/(exp(2 kappa) - 1); below kappa = 1, where both are
  about 1/kappa, (2 - c)/2 + c/2 A(kappa c/2) - A(kappa).
  """
  small, low, high = branches(kappa)
  half = depth / 2
  near = low * half
  series = (1 - half) + half * near * mean_over_kappa(near)
  series = series - low * mean_over_kappa(low)
  closed = _bose(high, depth) - _bose(high, jnp.full_like(depth, 2.0))
  return jnp.where(small, series, closed)


def _bose(kappa, depth):
  """c/(exp(kappa c) - 1) for kappa > 0; 1/kappa at c = 0."""
  product = kappa * depth
  positive = product > 1e-30
  safe = jnp.where(positive, product, 1.0)
  ratio = safe * jnp.exp(-safe) / -jnp.expm1(-safe)
  return jnp.where(positive, ratio, 1.0) / kappa


@jax.custom_jvp
@jax.jit
def depth_of_mass(kappa, mass):
  """The height c of the cap of a given mass."""
  positive = kappa > 1e-30
  safe = jnp.where(positive, kappa, 1.0)
  depth = -jnp.log1p(mass * jnp.expm1(-2 * safe)) / safe
  # Rounding may lead past the antipode.
  return jnp.minimum(jnp.where(positive, depth, 2 * mass), 2.0)


@depth_of_mass.defjvp
@jax.jit
def _depth_of_mass_jvp(primals, tangents):
  # Implicit function theorem: dc/dkappa = -(dmass/dkappa) / (dmass/dc).
  kappa, mass = primals
  kappa_dot, mass_dot = tangents
  depth = depth_of_mass(kappa, mass)
  positive = kappa > 1e-30
  safe = jnp.where(positive, kappa, 1.0)
  grown = jnp.where(positive, jnp.expm1(safe * depth) / safe, depth)
  tangent = -grown * _mass_score(kappa, depth) * kappa_dot
  density = peak_ratio(kappa) * jnp.exp(-kappa * depth)
  return depth, tangent + mass_dot / density


@jax.custom_jvp
@jax.jit
def _kappa_for_depth(depth, mass):
  # The solution of 1 - exp(-kappa c) = mass is an upper bound.
  upper = -jnp.log1p(-mass) / depth
  solvable = (mass > depth / 2) & (mass < 1)
  safe_depth = jnp.where(solvable, depth, 1.0)
  safe_mass = jnp.where(solvable, mass, 0.75)
  start = -jnp.log1p(-safe_mass) / safe_depth

  def improve(_, state):
    low, high, kappa = state
    error = jnp.log(_cap_mass(kappa, safe_depth) / safe_mass)
    low = jnp.where(error < 0, kappa, low)
    high = jnp.where(error < 0, high, kappa)
    newton = kappa - error / _mass_score(kappa, safe_depth)
    inside = (newton >= low) & (newton <= high)
    return low, high, jnp.where(inside, newton, (low + high) / 2)

  state = jnp.zeros_like(start), start, start
  _, _, kappa = jax.lax.fori_loop(0, 16, improve, state)
  edge = jnp.where(mass < 1, 0.0, upper)
  return jnp.where(solvable, kappa, edge)


@_kappa_for_depth.defjvp
@jax.jit
def _kappa_for_depth_jvp(primals, tangents):
  depth, mass = primals
  depth_dot, mass_dot = tangents
  kappa = _kappa_for_depth(depth, mass)
  inner = (kappa > 0) & (mass < 1)
  safe = jnp.where(inner, kappa, 1.0)
  by_kappa = mass * _mass_score(safe, depth)
  density = peak_ratio(safe) * jnp.exp(-safe * depth)
  tangent = (mass_dot - density * depth_dot) / by_kappa
  return kappa, jnp.where(inner, tangent, 0.0)


def _depth(angle_rad):
  """1 - cos(angle), the height of a cap, accurate for small ones."""
  return 2 * jnp.sin(angle_rad / 2) ** 2
