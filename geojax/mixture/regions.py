"""Credible regions of a mixture: where its mass is densest, and how large.

All take the logits and parameters of `mixture.log_prob` and run under jit; no
gradient flows through them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from geojax import arrays, vmf
from geojax.mixture.decoders import checked, log_joint

_GOLDEN = (math.sqrt(5) - 1) / 2


def credible_level(x, logits, mu, log_kappa, *, num_points=512):
  """Mass of all that is denser than the density at x.

  The least credible level whose region of highest density holds x: 0 at the
  mode, 1 where nothing is less dense. For x drawn from the mixture it is
  uniform in [0, 1], which tests a model's calibration.

  Taken over points of equal mass, see `credible_regions`; the error is below
  1/num_points for one component and of that order for several.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    logits: Mixture logits, shape `[batch, centers]`.
    mu: Centers, unit vectors, shape `[centers, 3]`.
    log_kappa: Logs of the concentrations, shape `[centers]`.
    num_points: Number of points, one at a time.

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

  Taken over points that stand for equal masses of the mixture itself: the
  weights laid end to end are cut into equal parts; a part's place within its
  weight gives the mass of the cap about that center, the golden ratio the
  azimuth. So narrow components are resolved as well as wide ones. A region's
  threshold is a quantile of the densities at the points, its area the mean of
  1/density over the points inside of it, times its mass: off by some percent
  for one example of many components, and by less in the mean of several.

  Args:
    x: Unit vectors, shape `[batch, 3]`.
    logits: Mixture logits, shape `[batch, centers]`.
    mu: Centers, unit vectors, shape `[centers, 3]`.
    log_kappa: Logs of the concentrations, shape `[centers]`.
    masses: The regions' masses, in (0, 1).
    num_points: Number of points, one at a time.

  Returns:
    `level`, as of `credible_level`, shape `[batch]`; `log_density`, the least
    in each region, in nats per steradian, shape `[batch, masses]`; `area_sr`,
    each region's area in steradians, at most 4 pi, shape `[batch, masses]`.
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
  denser = at_points > log_prob(x)[None, :]
  level = jnp.mean(denser, axis=0, dtype=mu.dtype)
  densest_first = -jnp.sort(-at_points, axis=0)
  last = (
    np.array([max(1, round(mass * num_points)) for mass in masses], int) - 1
  )
  log_density = densest_first[last]
  area_sr = jnp.cumsum(jnp.exp(-densest_first), axis=0)[last] / num_points
  return level, log_density.T, jnp.minimum(area_sr, 4 * math.pi).T


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
