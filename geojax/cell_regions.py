"""Credible regions: the smallest sets of cells that hold given masses.

The sphere is cut into cells, each with a mass and a density = mass/area. A grid
has cells of equal area (`cell_levels`, `credible_area_km2`); points of equal
mass are cells as well (`mixture.credible_regions`). For both:

    level_i    = sum of mass_j over all cells j denser than i
    share_i(L) = clip((L - level_i) / mass_i, 0, 1)
    area(L)    = sum_i share_i(L) mass_i / density_i

The region of level L holds the cells of level below L. Its last cell counts by
the share of it that L needs, so that mass and area grow with L without steps.
Of cells of equal density the first is treated as the denser one. On NumPy or
JAX.
"""

import math

from geojax import sphere

EARTH_AREA_KM2 = 4 * math.pi * sphere.EARTH_RADIUS_KM**2


def levels(mass):
  """Level of each cell.

  Args:
    mass: Masses of cells, the densest first, shape `[..., cells]`.

  Returns:
    Levels, rising from 0, shape `[..., cells]`.
  """
  xp, mass = sphere.as_floats(mass)
  return xp.cumsum(mass, axis=-1) - mass


def level_of_density(density, mass, cell_density):
  """Level of a place that has a density of its own.

  Args:
    density: Densities of places, or logs of them, shape `[...]`.
    mass: Masses of cells, shape `[..., cells]` or a scalar.
    cell_density: Densities of cells, or logs of them, in any order, shape
      `[..., cells]`.

  Returns:
    Levels, shape `[...]`.
  """
  xp, density, mass, cell_density = sphere.as_floats(
    density, mass, cell_density
  )
  denser = cell_density > density[..., None]
  return xp.sum(xp.where(denser, mass, xp.zeros_like(mass)), axis=-1)


def shares(mass, region_levels):
  """Share of each cell that lies in the region of each level.

  Args:
    mass: Masses of cells, the densest first, shape `[..., cells]`.
    region_levels: Levels in (0, 1), shape `[levels]`.

  Returns:
    Values in [0, 1], shape `[..., levels, cells]`.
  """
  xp, mass = sphere.as_floats(mass)
  region_levels = xp.asarray(region_levels, dtype=mass.dtype)
  shape = (1,) * (mass.ndim - 1) + (-1, 1)
  missing = region_levels.reshape(shape) - levels(mass)[..., None, :]
  # Clipped before the division, which tiny masses would overflow.
  inside = xp.clip(missing, 0, mass[..., None, :])
  return inside / xp.where(mass > 0, mass, 1)[..., None, :]


def cell_levels(probabilities):
  """Level of each cell of an equal-area grid.

  The credible region of level L is `cell_levels(probabilities) < L`.

  Args:
    probabilities: Output of `mixture.probability_map`, shape `[..., cells]`.

  Returns:
    Values in [0, 1], 0 for the most probable cell, shape `[..., cells]`.
  """
  xp, probabilities = sphere.as_floats(probabilities)
  order = xp.argsort(-probabilities, axis=-1)
  level = levels(xp.take_along_axis(probabilities, order, axis=-1))
  # The inverse of a permutation is its argsort.
  back = xp.argsort(order, axis=-1)
  return xp.clip(xp.take_along_axis(level, back, axis=-1), 0.0, 1.0)


def credible_area_km2(probabilities, region_levels):
  """Areas of credible regions on an equal-area grid.

  Args:
    probabilities: Output of `mixture.probability_map`, shape `[..., cells]`.
    region_levels: Levels in (0, 1), shape `[levels]`.

  Returns:
    Areas in km^2, shape `[..., levels]`.
  """
  xp, probabilities = sphere.as_floats(probabilities)
  share = shares(-xp.sort(-probabilities, axis=-1), region_levels)
  cell_area_km2 = EARTH_AREA_KM2 / probabilities.shape[-1]
  return xp.sum(share, axis=-1) * cell_area_km2
