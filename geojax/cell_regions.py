"""Credible regions on a grid of cells of equal area.

The region of level 0.8 is the smallest set of cells that holds 80 % of the
mass: those of highest probability. On NumPy or JAX.
"""

import math

from geojax import sphere

EARTH_AREA_KM2 = 4 * math.pi * sphere.EARTH_RADIUS_KM**2


def cell_levels(probabilities):
  """Level from which on the credible region holds each cell.

  That is the mass of all cells that are more probable: 0 for the likeliest.
  So the region of level L is `cell_levels(probabilities) < L`.

  Args:
    probabilities: As of `mixture.probability_map`, shape `[..., cells]`.

  Returns:
    Values in [0, 1], shape `[..., cells]`.
  """
  xp, probabilities = sphere.as_floats(probabilities)
  order = xp.argsort(-probabilities, axis=-1)
  sorted_ = xp.take_along_axis(probabilities, order, axis=-1)
  before = xp.cumsum(sorted_, axis=-1) - sorted_
  # Where each cell went: the inverse of a permutation is its argsort.
  back = xp.argsort(order, axis=-1)
  return xp.clip(xp.take_along_axis(before, back, axis=-1), 0.0, 1.0)


def credible_area_km2(probabilities, levels):
  """Areas of credible regions.

  The last cell counts by the share of it that its level needs, so that areas
  grow with the level without steps.

  Args:
    probabilities: As of `mixture.probability_map`, shape `[..., cells]`.
    levels: Levels in (0, 1), one or more.

  Returns:
    Areas in km^2, shape `[..., len(levels)]`.
  """
  xp, probabilities = sphere.as_floats(probabilities)
  falling = -xp.sort(-probabilities, axis=-1)
  mass = xp.cumsum(falling, axis=-1)
  cells = [
    xp.sum(
      xp.clip(
        (level - (mass - falling)) / xp.where(falling > 0, falling, 1), 0, 1
      ),
      axis=-1,
    )
    for level in levels
  ]
  return xp.stack(cells, axis=-1) * (EARTH_AREA_KM2 / probabilities.shape[-1])
