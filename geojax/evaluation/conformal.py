"""Calibrated levels: what share of new truths a region really holds.

A model's regions are nested: the region of level L holds what is less than L
from the answer, in the model's own measure (the mass that is denser, for a
density). Levels of validation truths say how often a region of each level held
the truth. `fit` turns them into a monotone map from a model's level to a
calibrated one; a region is then served at the model's level whose calibrated
one was asked for.

Patches of one block look alike, blocks less so. So the block is the unit that
is exchangeable, as in hierarchical conformal prediction: each of K validation
blocks weighs 1/(K + 1), and its patches share that evenly. A patch's level
counts as reached at the middle of its weight, and half of the weight that is
left over lies below all of them. Of blocks of one patch the i-th level is
reached at i/(K + 1), as in split-conformal prediction: over draws of the K + 1
blocks, of which one is new, its region holds the truth with just that
probability. Between two levels the map is a line. With all of the rest above
them, regions would hold at least what is asked for, and on average more where
blocks have many patches.

Nothing is promised of places unlike those of validation, such as a continent
that it lacks.

References:
  Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, Springer
  2005. Lee, Barber & Willett, Distribution-free inference with hierarchical
  data, 2023, arXiv:2306.06342. Sampson & Chan, Flexible conformal highest
  predictive conditional density sets, 2024, arXiv:2406.18052.
"""

import numpy as np

from geojax import sphere

# Steps of the calibrated levels that a map is kept at.
_NUM_STEPS = 256


def fit(level, block):
  """Fits calibrated levels.

  Args:
    level: The model's levels of the truths, in [0, 1], shape `[count]`.
    block: Which block each lies in, integers, shape `[count]`.

  Returns:
    `level_knots`, the model's level at each of 257 calibrated ones, evenly from
    0 to 1, float32; `num_blocks`, how many blocks that rests on. Without a
    truth the two kinds of levels are the same.
  """
  level = np.asarray(level, np.float64)
  _, block, count = np.unique(block, return_inverse=True, return_counts=True)
  order = np.argsort(level)
  weight = 1 / (count[block[order]] * (len(count) + 1))
  reached = 0.5 / (len(count) + 1) + np.cumsum(weight) - weight / 2
  knots = np.interp(
    np.linspace(0, 1, _NUM_STEPS + 1),
    np.concatenate([[0], reached, [1]]),
    np.concatenate([[0], level[order], [1]]),
  )
  return {
    "level_knots": knots.astype(np.float32),
    "num_blocks": np.int32(len(count)),
  }


def fit_table(table, *, level: str, where: tuple[str, ...]):
  """Fits calibrated levels to a column of a table, see `Task.fit`.

  Args:
    table: Arrays `[count]` by name, `block` among them.
    level: Name of the model's levels.
    where: Names of booleans; an example counts where all of them hold.

  Returns:
    See `fit`.
  """
  counts = np.logical_and.reduce([table[name] for name in where])
  return fit(table[level][counts], table["block"][counts])


def calibrate(level, knots):
  """Turns a model's levels into calibrated ones.

  Args:
    level: The model's levels in [0, 1], any shape, on NumPy or JAX.
    knots: `level_knots` of `fit`, or None, which changes nothing.

  Returns:
    Calibrated levels, of the same shape.
  """
  if knots is None:
    return level
  xp, level, knots = sphere.as_floats(level, knots)
  return xp.interp(level, knots, _steps(xp, knots)).astype(level.dtype)


def model_level(level, knots):
  """Turns calibrated levels into the model's: the inverse of `calibrate`.

  Args:
    level: Calibrated levels in [0, 1], any shape, on NumPy or JAX.
    knots: See `calibrate`.

  Returns:
    The model's levels, of the same shape.
  """
  if knots is None:
    return level
  xp, level, knots = sphere.as_floats(level, knots)
  return xp.interp(level, _steps(xp, knots), knots).astype(level.dtype)


def _steps(xp, knots):
  return xp.linspace(0, 1, len(knots), dtype=knots.dtype)
