"""Blocks of latitude and longitude, which splits are made of.

Columns wrap at 180 degrees. The blocks that meet at a pole are one block, of
column 0: neighbours there face each other across the pole.
"""

import numpy as np


def of_places(lat_deg, lon_deg, block_deg):
  """Finds the blocks of places.

  Args:
    lat_deg: Latitudes in degrees, shape `[...]`.
    lon_deg: Longitudes in degrees, of the same shape.
    block_deg: Side of a block in degrees; divides 180.

  Returns:
    Rows from the north and columns from 180 W, NumPy integers `[...]` each.
  """
  rows = np.floor((90 - np.asarray(lat_deg)) / block_deg).astype(int)
  cols = np.floor((np.asarray(lon_deg) + 180) / block_deg).astype(int)
  return wrap(rows, cols, round(180 / block_deg))


def numbers(lat_deg, lon_deg, block_deg):
  """Numbers the blocks of places.

  Args:
    lat_deg: Latitudes in degrees, NaN where unknown, shape `[count]`.
    lon_deg: Longitudes in degrees, shape `[count]`.
    block_deg: See `of_places`.

  Returns:
    The same integer >= 0 for places of one block, and one below 0 of its own
    for each unknown place, shape `[count]`.
  """
  number = -1 - np.arange(len(lat_deg))
  known = np.isfinite(lat_deg)
  rows, cols = of_places(lat_deg[known], lon_deg[known], block_deg)
  number[known] = rows * 2 * round(180 / block_deg) + cols
  return number


def wrap(rows, cols, num_rows):
  """Brings rows and columns beyond an edge back onto the sphere.

  Args:
    rows: Rows of blocks, integers `[...]`.
    cols: Columns, of the same shape.
    num_rows: Rows from pole to pole; there are twice as many columns.

  Returns:
    Rows in [0, num_rows) and columns in [0, 2 num_rows).
  """
  rows = np.clip(rows, 0, num_rows - 1)
  at_pole = (rows == 0) | (rows == num_rows - 1)
  return rows, np.where(at_pole, 0, cols % (2 * num_rows))
