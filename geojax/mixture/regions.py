"""Credible regions of a mixture, over points of equal mass.

All functions take the logits and parameters of `mixture.log_prob` and run under
jit; no gradient flows through them.
"""

import math

import jax
import jax.numpy as jnp

from geojax import arrays, cell_regions, sphere, vmf
from geojax.mixture.decoders import checked, log_joint

_GOLDEN = (math.sqrt(5) - 1) / 2


def credible_level(x, logits, mu, log_kappa, *, num_points=512):
  """Mass of all that is denser than the density at x.

  This is the least level whose credible region holds x: 0 at the mode, 1 where
  nothing is less dense. For x drawn from the mixture it is uniform in [0, 1],
  which tests a model's calibration. The error is below 1/num_points for one
  component and of that order for several.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    logits, mu, log_kappa: The mixtures, see `mixture.log_prob`.
    num_points: Number of points of equal mass, see `credible_regions`.

  Returns:
    Values in [0, 1], shape `[batch]`.
  """
  level, *_ = credible_regions(
    x, logits, mu, log_kappa, masses=(), num_points=num_points
  )
  return level


def credible_regions(
  x, logits, mu, log_kappa, *, masses=(0.5, 0.8, 0.95), num_points=512
):
  """Credible level of x, and the regions of highest density of given masses.

  `cell_regions` over points of equal mass. The weights laid end to end are cut
  into equal parts; a part's place within its weight gives the mass of the cap
  about that center, the golden ratio the azimuth. So narrow components are
  resolved as well as wide ones. An area is off by some percent for one example
  of many components, and by less in the mean of several.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    logits, mu, log_kappa: The mixtures, see `mixture.log_prob`.
    masses: The regions' masses (levels), in (0, 1).
    num_points: Number of points; the density is taken at one at a time.

  Returns:
    `level`, see `credible_level`, shape `[batch]`; `log_density`, the least
    in each region, in nats per steradian, shape `[batch, masses]`; `area_sr`,
    each region's area in steradians, at most 4 pi, shape `[batch, masses]`;
    `denser_sr`, the area of all that is denser than the density at x, shape
    `[batch]`, by as many points spread evenly over the sphere besides: points
    of equal mass are too few where the density is low.

  References:
    Veach & Guibas, Optimally combining sampling techniques for Monte Carlo
    rendering, SIGGRAPH 1995: both kinds of points by the balance heuristic.
  """
  logits, mu, log_kappa = checked(logits, mu, log_kappa)
  (x,) = arrays.widen(x)
  x = x.astype(mu.dtype)
  arrays.check_shape("x", x, (len(logits), 3))
  arrays.check_unit("x", x)
  kappa = jnp.exp(log_kappa)
  log_peak = jax.nn.log_softmax(logits) + vmf.log_peak(kappa)[None, :]

  def log_prob(points):
    joint = log_joint(points, log_peak, mu, kappa)
    return jax.nn.logsumexp(joint, axis=-1)

  point_at = _equal_masses(logits, mu, kappa, num_points)
  at_points = jax.lax.map(
    lambda j: log_prob(point_at(j)), jnp.arange(num_points, dtype=mu.dtype)
  )
  mass = jnp.full_like(at_points.T, 1 / num_points)
  at_x = log_prob(x)
  level = cell_regions.level_of_density(at_x, mass, at_points.T)
  densest_first = -jnp.sort(-at_points.T, axis=-1)
  share = cell_regions.shares(mass, masses)
  log_density = jnp.where(share > 0, densest_first[:, None], jnp.inf)
  area_sr = jnp.sum(share * (mass * jnp.exp(-densest_first))[:, None], axis=-1)
  spread = jnp.asarray(sphere.fibonacci_lattice(num_points), mu.dtype)
  at_spread = jax.lax.map(
    lambda point: log_prob(jnp.broadcast_to(point, x.shape)), spread
  )
  both = jnp.concatenate([at_points, at_spread])
  # Points of either kind a steradian there.
  number = num_points * (jnp.exp(both) + 1 / (4 * math.pi))
  denser_sr = jnp.sum(jnp.where(both > at_x[None], 1 / number, 0), axis=0)
  return (
    level,
    jnp.min(log_density, axis=-1),
    jnp.minimum(area_sr, 4 * math.pi),
    jnp.minimum(denser_sr, 4 * math.pi),
  )


def _equal_masses(logits, mu, kappa, num_points):
  """A function of j: the j-th of points of equal mass, `[batch, 3]`."""
  weight = jax.nn.softmax(logits)
  ends = jnp.cumsum(weight, axis=-1)
  ends = ends / ends[:, -1:]
  find = jax.vmap(lambda e, u: jnp.searchsorted(e, u, side="right"), (0, None))

  def point_at(j):
    place = (j + 0.5) / num_points
    chosen = jnp.minimum(find(ends, place), len(mu) - 1)[:, None]
    end = jnp.take_along_axis(ends, chosen, axis=1)[:, 0]
    share = jnp.take_along_axis(weight, chosen, axis=1)[:, 0]
    # Rounding in the running sum may carry it past either end.
    mass = jnp.clip(1 - (end - place) / share, 1e-6, 1 - 1e-6)
    turn = jnp.broadcast_to(j * _GOLDEN % 1, mass.shape)
    chosen = chosen[:, 0]
    return vmf.point_at(mu[chosen], kappa[chosen], mass, turn)

  return point_at
