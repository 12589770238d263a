"""Rasters as maps: codes and values at the pixels of patches.

A map, opened by `map_files`, has any projection and may be larger than memory.
A place has the code of the map's pixel it lies in. It has the mean value of the
pixels that it covers where these are smaller than its own, and is interpolated
bilinearly where they are larger.
"""

import functools

import numpy as np
import pyproj

from data_prep import grids, map_files

# A code without a class, and its absence from a map.
UNKNOWN = 255

# Pixels of a map that are read at once.
_WINDOW = 2**24


def positions(raster, lat_deg, lon_deg):
  """Rows and columns of places in a map, NaN beyond its projection.

  The upper left corner of the map is (0, 0), the center of the first pixel
  (0.5, 0.5). Columns of a map in degrees are shifted by whole turns to where
  the map is; of one of all 360 degrees they may lie beyond its edges.

  Args:
    raster: Result of `map_files.open_raster`.
    lat_deg: Latitudes in degrees, shape `[...]`.
    lon_deg: Longitudes in degrees, any turn, shape `[...]`; those of a patch
      within 180 degrees of one another.
  """
  grid = raster.grid
  row, col = project(raster, lat_deg, lon_deg)
  if not grid.is_projected:
    turn = 360 / grid.pixel_width
    col = col - np.round((np.mean(col) - grid.width / 2) / turn) * turn
  return row, col


def project(raster, lat_deg, lon_deg):
  """`positions`, but of the longitudes as they are.

  Raises:
    ValueError: The projection of the map is unknown.
  """
  grid = raster.grid
  x, y = lon_deg, lat_deg
  if grid.is_projected:
    x, y = _from_wgs84(grid.epsg).transform(lon_deg, lat_deg)
    x, y = (np.where(np.isinf(v), np.nan, v) for v in (x, y))
  return (
    (grid.north - y) / grid.pixel_height,
    (x - grid.west) / grid.pixel_width,
  )


@functools.lru_cache(maxsize=256)
def _from_wgs84(epsg):
  try:
    return pyproj.Transformer.from_crs(grids.WGS84, epsg, always_xy=True)
  except pyproj.exceptions.CRSError as error:
    raise ValueError(f"unknown projection EPSG:{epsg}") from error


def codes_at(raster, row, col, table):
  """Classes of the pixels of a map that places lie in.

  Args:
    raster: Result of `map_files.open_raster`.
    row: Rows, see `positions`, shape `[...]`.
    col: Columns, shape `[...]`.
    table: Class of each code, uint8; negative codes count from its end.

  Returns:
    Classes, uint8, shape `[...]`; `UNKNOWN` outside of the map.
  """

  def take(window, top, bottom, left, right):
    del bottom, right
    return window[top.astype(int), left.astype(int)]

  top, left = np.floor(row), np.floor(col)
  return _by_windows(
    raster,
    lambda codes: table[codes],
    UNKNOWN,
    take,
    (top, top + 1, left, left + 1),
  )


def values_at(raster, row, col):
  """Values at places, bilinear between the centers of a map's pixels.

  Pixels without a value do not count, but the nearest pixel must have one.

  Args:
    raster: Result of `map_files.open_raster`.
    row: Rows, see `positions`, shape `[...]`.
    col: Columns, shape `[...]`.

  Returns:
    Values, float64, shape `[...]`; NaN where there is none.
  """

  def take(window, top, bottom, left, right, down, across):
    del bottom, right
    y, x = top.astype(int), left.astype(int)
    total = weights = 0.0
    nearest = window[y + (down >= 0.5), x + (across >= 0.5)]
    for i, of_row in enumerate((1 - down, down)):
      for j, of_col in enumerate((1 - across, across)):
        value = window[y + i, x + j]
        weight = of_row * of_col * ~np.isnan(value)
        total = total + weight * np.nan_to_num(value)
        weights = weights + weight
    weights = np.where(np.isnan(nearest), np.nan, weights)
    return total / weights

  top, left = np.floor(row - 0.5), np.floor(col - 0.5)
  return _by_windows(
    raster,
    _as_values(raster),
    np.nan,
    take,
    (top, top + 2, left, left + 2),
    row - 0.5 - top,
    col - 0.5 - left,
  )


def means_within(raster, top, bottom, left, right):
  """Means of a map over rectangles of its own grid, pixels cut in parts.

  Pixels without a value do not count, but half of the area must have one.

  Args:
    raster: Result of `map_files.open_raster`.
    top: First rows, see `positions`, shape `[...]`.
    bottom: Rows where the rectangles end, > top.
    left: First columns.
    right: Columns where they end, > left.

  Returns:
    Values, float64, shape `[...]`; NaN where there is none.
  """

  def take(window, top, bottom, left, right):
    is_known = ~np.isnan(window)
    # Sums of differences from the mean are small: less is lost to rounding.
    mean = window[is_known].mean() if is_known.any() else 0.0
    sums = _integral(np.where(is_known, window - mean, 0))
    areas = _integral(is_known.astype(np.float64))

    def within(integral):
      return (
        _bilinear(integral, bottom, right)
        - _bilinear(integral, top, right)
        - _bilinear(integral, bottom, left)
        + _bilinear(integral, top, left)
      )

    area = within(areas)
    enough = area >= 0.5 * (bottom - top) * (right - left) - 1e-6
    return mean + within(sums) / np.where(enough, area, np.nan)

  bounds = (top, bottom, left, right)
  return _by_windows(raster, _as_values(raster), np.nan, take, bounds)


def _integral(values):
  """Sums of all pixels above and to the left of each corner."""
  sums = np.zeros(np.add(values.shape, 1))
  np.cumsum(np.cumsum(values, axis=0), axis=1, out=sums[1:, 1:])
  return sums


def _bilinear(corners, row, col):
  """Exact between the corners of pixels, each of which is even."""
  y = np.minimum(row.astype(int), corners.shape[0] - 2)
  x = np.minimum(col.astype(int), corners.shape[1] - 2)
  down, across = row - y, col - x
  return (
    corners[y, x] * (1 - down) * (1 - across)
    + corners[y, x + 1] * (1 - down) * across
    + corners[y + 1, x] * down * (1 - across)
    + corners[y + 1, x + 1] * down * across
  )


def _as_values(raster):
  scale, offset = raster.scale

  def convert(pixels):
    values = scale * pixels.astype(np.float64) + offset
    if raster.no_data is not None:
      values[pixels == raster.no_data] = np.nan
    return values

  return convert


def _by_windows(raster, convert, unknown, take, bounds, *others):
  """Samples a map, a window that fits into memory at a time.

  Args:
    raster: Result of `map_files.open_raster`.
    convert: Function of a window's pixels.
    unknown: What is outside of the map, after `convert`.
    take: Function of a window, the bounds in it, and the other arrays.
    bounds: First and last rows and columns of the map that each place needs,
      shape `[...]`; NaN where a place has none.
    *others: Arrays `[...]`.
  """
  shape = bounds[0].shape
  is_known = np.all([np.isfinite(x) for x in bounds], axis=0)
  dtype = np.uint8 if unknown == UNKNOWN else np.float64
  if not is_known.any():
    return np.full(shape, unknown, dtype)
  top, left = (int(np.floor(x[is_known].min())) for x in bounds[::2])
  bottom, right = (int(np.ceil(x[is_known].max())) for x in bounds[1::2])
  if (bottom - top) * (right - left) > _WINDOW and is_known.size > 1:
    axis = next(i for i, count in enumerate(shape) if count > 1)
    halves = (np.array_split(x, 2, axis) for x in (*bounds, *others))
    return np.concatenate(
      [
        _by_windows(raster, convert, unknown, take, half[:4], *half[4:])
        for half in zip(*halves, strict=True)
      ],
      axis,
    )
  window = np.full((bottom - top, right - left), unknown, dtype)
  _fill(window, raster, convert, top, left)
  inside = (
    np.where(is_known, x - first, 0)
    for x, first in zip(bounds, (top, top, left, left), strict=True)
  )
  others = (np.where(is_known, x, 0) for x in others)
  return np.where(is_known, take(window, *inside, *others), unknown)


def _fill(window, raster, convert, top, left):
  """Fills the part of a window that lies on the map, in place."""
  grid = raster.grid
  first, last = max(top, 0), min(top + window.shape[0], grid.height)
  start, end = left, left + window.shape[1]
  if not map_files.is_all_around(grid):
    start, end = max(start, 0), min(end, grid.width)
  if first < last and start < end:
    window[first - top : last - top, start - left : end - left] = convert(
      map_files.read_window(raster, first, last, start, end)
    )
