"""Terrain of patches: aspect, slope and elevation from an elevation model.

With z(row, col) the elevation on the grid of the elevation model (DEM), and E
and N metres on the ground to the true east and north,

  dz/dE = dz/dcol dcol/dE + dz/drow drow/dE,   dz/dN = the same with N,
  slope = atan |(dz/dE, dz/dN)|,
  (sin, cos) of the aspect = -(dz/dE, dz/dN) / |(dz/dE, dz/dN)|.

dz/dcol and dz/drow are Horn's, on the DEM's own grid. dcol/dE and the other
three are finite differences of the DEM's own projection, on the WGS 84
ellipsoid: they include converging meridians and the projection's scale.

References:
  Horn, Hill shading and the reflectance map, Proceedings of the IEEE 69, 1981.
  Snyder, Map Projections - A Working Manual, USGS 1395, 1987, eq. 4-18 ff.
"""

import numpy as np

from data_prep import grids, map_files, maps, tiles

# Mount Everest, in metres.
MAX_ELEVATION_M = 8849

# Possible elevations in metres; beyond them are no-data values that the file
# does not name, and feet.
_LOWEST_M, _HIGHEST_M = -11500, 9000
# WGS 84: metres, and the eccentricity squared.
_SEMI_MAJOR_M = 6378137.0
_E2 = (2 - 1 / 298.257223563) / 298.257223563
# Step of the finite differences of the projection in degrees, about ten metres.
_STEP_DEG = 1e-4
# Pixels of the DEM around a bilinear sample of Horn's derivatives.
_BEFORE, _AFTER = 1, 2


def read_terrain(dem, grid, rows, cols, patch_size):
  """Aspect, slope and elevation at each pixel of an image's patches.

  Elevation and derivatives are bilinear between the DEM's pixels; a DEM much
  finer than the image is sampled, not averaged. The aspect is the direction of
  steepest descent, clockwise from true north: its sine is the east component.
  On flat ground sine and cosine are 0.

  Reads the DEM's window around all the patches and one more pixel on each side.
  A DEM in EPSG:4326 may lie on either side of the antimeridian; one of all 360
  degrees has no edge there.

  Args:
    dem: Result of `map_files.open_raster`, metres above the sea.
    grid: The `grids.Grid` of the image.
    rows: First row of each patch in the image, shape `[n]`.
    cols: First column of each patch, shape `[n]`.
    patch_size: Rows and columns of a patch.

  Returns:
    Sine and cosine of the aspect, slope / 90 degrees in [0, 1), and elevation /
    8849 m: float32, shape `[n, patch_size, patch_size, 4]`.

  Raises:
    tiles.TileError: The DEM cannot be read, has several bands or an unknown
      projection, a patch leaves it, or it has no elevation somewhere.
    ValueError: The projection of the image is unknown.
  """
  rows, cols = np.asarray(rows), np.asarray(cols)
  terrain = np.empty((len(rows), patch_size, patch_size, 4), np.float32)
  if not len(rows):
    return terrain
  lat, lon, spread = grid.patch_nodes(rows, cols, patch_size)
  lon = grids.unwrap(lon, lon[0, 0, 0])
  dem_row, dem_col, jacobian = _dem_places(dem, lat, lon)
  # First row and column that each patch needs, and those after the last.
  top, left = (
    np.floor(x.min((1, 2))).astype(int) - _BEFORE for x in (dem_row, dem_col)
  )
  bottom, right = (
    np.floor(x.max((1, 2))).astype(int) + _AFTER + 1 for x in (dem_row, dem_col)
  )
  _check_inside(dem, top, bottom, left, right, rows, cols, lat, lon)
  first_row, first_col = top.min(), left.min()
  window = map_files.read_window(
    dem, first_row, bottom.max(), first_col, right.max()
  )
  for i in range(len(rows)):
    z = window[
      top[i] - first_row : bottom[i] - first_row,
      left[i] - first_col : right[i] - first_col,
    ]
    is_good = (z != dem.no_data) & (z >= _LOWEST_M) & (z <= _HIGHEST_M)
    z = np.where(is_good, z, np.nan).astype(np.float64)
    # From the nodes to each pixel; clipped, as rounding must not lead to pixels
    # of the DEM that were not read.
    at_row, at_col, *to_metres = (
      np.clip(spread @ x[i] @ spread.T, x[i].min(), x[i].max())
      for x in (dem_row, dem_col, *jacobian)
    )
    terrain[i] = _terrain(z, at_row - top[i], at_col - left[i], to_metres)
    is_bad = np.isnan(terrain[i]).any(-1)
    if is_bad.any():
      at = tuple(np.argwhere(is_bad)[0])
      place = _place(*((spread @ x[i] @ spread.T)[at] for x in (lat, lon)))
      raise tiles.TileError(
        dem.path,
        f"no elevation at {place} and {is_bad.sum() - 1} more pixels of the"
        f" image's patch at row {rows[i]}, column {cols[i]}: the DEM has its"
        f" no-data value, NaN, or values outside of {_LOWEST_M} to {_HIGHEST_M}"
        " m; fill such holes (gdal_fillnodata)",
      )
  return terrain


def _terrain(z, row, col, to_metres):
  """Terrain at places of a piece of the DEM, `[..., 4]`.

  Args:
    z: Elevations in metres, NaN where there is no data, shape `[h, w]`.
    row: Rows in `z`, in [1, h - 2), shape `[...]`.
    col: Columns in `z`, in [1, w - 2), shape `[...]`.
    to_metres: dcol/dE, dcol/dN, drow/dE and drow/dN, each `[...]`.
  """
  col_east, col_north, row_east, row_north = to_metres
  # Horn: differences across, smoothed 1 2 1 along.
  along_col = z[:, 2:] - z[:, :-2]
  along_row = z[2:] - z[:-2]
  z_col = (along_col[:-2] + 2 * along_col[1:-1] + along_col[2:]) / 8
  z_row = (along_row[:, :-2] + 2 * along_row[:, 1:-1] + along_row[:, 2:]) / 8
  z_col, z_row, elevation = _sample(
    np.stack([z_col, z_row, z[1:-1, 1:-1]], axis=-1), row - 1, col - 1
  )
  east = z_col * col_east + z_row * row_east
  north = z_col * col_north + z_row * row_north
  steepness = np.hypot(east, north)
  # Flat ground divides by 1, not by 0.
  length = np.where(steepness == 0, 1, steepness)
  slope_deg = np.degrees(np.arctan(steepness))
  return np.stack(
    [-east / length, -north / length, slope_deg / 90]
    + [elevation / MAX_ELEVATION_M],
    axis=-1,
  )


def _sample(values, row, col):
  """Bilinear samples of `[h, w, k]` at places `[...]`: k arrays `[...]`."""
  y, x = np.floor(row).astype(int), np.floor(col).astype(int)
  down, right = (row - y)[..., None], (col - x)[..., None]
  # One index a pixel is faster than two.
  width = values.shape[1]
  values = values.reshape(-1, values.shape[-1])
  index = y * width + x

  def across(index):
    left = values.take(index, axis=0)
    return left + right * (values.take(index + 1, axis=0) - left)

  upper = across(index)
  return np.moveaxis(upper + down * (across(index + width) - upper), -1, 0)


def _dem_places(dem, lat, lon):
  """Rows and columns of places in the DEM, and their changes per metre."""
  row, col = _latlon_to_pixel(dem, lat, lon)
  phi = np.radians(lat)
  w = np.sqrt(1 - _E2 * np.sin(phi) ** 2)
  metres_per_rad = {
    "east": _SEMI_MAJOR_M * np.cos(phi) / w,
    "north": _SEMI_MAJOR_M * (1 - _E2) / w**3,
  }
  change = {}
  for way, step in (("east", (0, _STEP_DEG)), ("north", (_STEP_DEG, 0))):
    row1, col1 = _latlon_to_pixel(dem, lat + step[0], lon + step[1])
    row0, col0 = _latlon_to_pixel(dem, lat - step[0], lon - step[1])
    metres = 2 * np.radians(_STEP_DEG) * metres_per_rad[way]
    change["row", way] = (row1 - row0) / metres
    change["col", way] = (col1 - col0) / metres
  if not dem.grid.is_projected:
    # Shifts by whole turns to the DEM's own range of longitudes.
    turn = 360 / dem.grid.pixel_width
    col = col - np.round((col.mean() - dem.grid.width / 2) / turn) * turn
  jacobian = [change[x, way] for x in ("col", "row") for way in metres_per_rad]
  return row, col, jacobian


def _latlon_to_pixel(dem, lat, lon):
  """The inverse of `Grid.pixel_to_latlon`, but for whole turns."""
  try:
    row, col = maps.project(dem, lat, lon)
  except ValueError as error:
    raise tiles.TileError(dem.path, f"{error}") from error
  if not np.isfinite(row).all():
    raise tiles.TileError(
      dem.path, f"EPSG:{dem.grid.epsg} does not reach {_place(lat, lon)}"
    )
  return row - 0.5, col - 0.5


def _check_inside(dem, top, bottom, left, right, rows, cols, lat, lon):
  """Raises if a patch needs pixels that the DEM does not have."""
  outside = (top < 0) | (bottom > dem.grid.height)
  if not map_files.is_all_around(dem.grid):
    outside |= (left < 0) | (right > dem.grid.width)
  if outside.any():
    i = np.argmax(outside)
    raise tiles.TileError(
      dem.path,
      f"{outside.sum()} of {len(rows)} patches leave the DEM, such as that at"
      f" row {rows[i]}, column {cols[i]} of the image, {_place(lat[i], lon[i])}"
      f": needs rows {top[i]} to {bottom[i]} of {dem.grid.height}, columns"
      f" {left[i]} to {right[i]} of {dem.grid.width}; give a DEM that covers"
      " the image and 2 of its own pixels around (gdalbuildvrt and"
      " gdal_translate join several)",
    )


def _place(lat, lon):
  lat, lon = np.mean(lat), (np.mean(lon) + 180) % 360 - 180
  return f"{lat:.5f} N {lon:.5f} E"
