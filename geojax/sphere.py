"""Points on the unit sphere: conversions, distances and equal-area grids.

Functions use the array's own namespace: NumPy arrays stay NumPy (float64 stays
float64), JAX arrays trace, and importing this module does not load JAX.

The axes are geocentric: x points to 0N 0E, y to 0N 90E, z to the North Pole.
"""

import math

import numpy as np

# Mean radius R1 = (2a + b)/3 of the WGS 84 ellipsoid, in km: Moritz, Geodetic
# Reference System 1980, Journal of Geodesy 74, 2000.
EARTH_RADIUS_KM = 6371.0088


def as_floats(*values):
  """Returns the array namespace of the values, then the values as its floats.

  JAX wins over NumPy where both occur. float32 and float64 are kept; all else
  (integers, Python scalars, lists, narrower floats) becomes the default float.
  """
  spaces = [
    v.__array_namespace__() for v in values if hasattr(v, "__array_namespace__")
  ]
  xp = next((space for space in spaces if space is not np), np)
  arrays = [xp.asarray(v) for v in values]
  wide = (np.float32, np.float64)
  return xp, *[a if a.dtype in wide else a.astype(float) for a in arrays]


def check_last_dim(name, x, expected):
  """Raises a ValueError unless the last axis of `x` has `expected` entries."""
  if x.ndim == 0 or x.shape[-1] != expected:
    raise ValueError(
      f"{name} must have shape [..., {expected}], found {tuple(x.shape)}"
    )


def sin_cos_deg(angle_deg):
  """Sine and cosine of an angle in degrees, exact at multiples of 90.

  The angle is reduced to [-45, 45] before it is multiplied by the rounded pi,
  so that a pole is one point and 180E equals 180W, in float32 too.

  Args:
    angle_deg: Angles in degrees, shape `[...]`.

  Returns:
    `sin, cos`, each of shape `[...]`.
  """
  xp, angle_deg = as_floats(angle_deg)
  quarter = xp.round(angle_deg / 90)
  rest_rad = (angle_deg - 90 * quarter) * (math.pi / 180)
  sin, cos = xp.sin(rest_rad), xp.cos(rest_rad)
  quarter = quarter % 4
  odd = quarter % 2 == 1
  sin, cos = xp.where(odd, cos, sin), xp.where(odd, sin, cos)
  sin = xp.where(quarter >= 2, -sin, sin)
  cos = xp.where((quarter == 1) | (quarter == 2), -cos, cos)
  return sin, cos


def angle_deg(sin, cos):
  """Angle in degrees, in (-180, 180], of vectors `(cos, sin)` of any length.

  0 with gradient 0 where the length is 0 (a pole's longitude).
  """
  xp, sin, cos = as_floats(sin, cos)
  # arctan2 has no derivative at (0, 0) or where the squares in it underflow.
  # Guarding its inputs, not its output, keeps 0 * inf = NaN out of gradients.
  nowhere = sin * sin + cos * cos == 0
  sin, cos = xp.where(nowhere, 0.0, sin), xp.where(nowhere, 1.0, cos)
  angle = xp.arctan2(sin, cos) * (180 / math.pi)
  return xp.where(angle <= -180, angle + 360, angle)


def _norm(xp, x):
  """Euclidean length over the last axis, with gradient 0 at length 0."""
  squared = xp.sum(x * x, axis=-1)
  positive = squared > 0
  root = xp.sqrt(xp.where(positive, squared, 1.0))
  return xp.where(positive, root, 0.0)


def latlon_to_unit(lat_deg, lon_deg):
  """Unit vectors of places: (cos lat cos lon, cos lat sin lon, sin lat).

  Args:
    lat_deg: Latitudes in degrees north, in [-90, 90], shape `[...]`.
    lon_deg: Longitudes in degrees east, of any range, shape `[...]`.

  Returns:
    Unit vectors, shape `[..., 3]`.
  """
  xp, lat_deg, lon_deg = as_floats(lat_deg, lon_deg)
  lat_deg, lon_deg = xp.broadcast_arrays(lat_deg, lon_deg)
  sin_lat, cos_lat = sin_cos_deg(lat_deg)
  sin_lon, cos_lon = sin_cos_deg(lon_deg)
  return xp.stack([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat], axis=-1)


def unit_to_latlon(x):
  """Latitudes and longitudes of vectors of any length.

  At the poles the longitude is 0 with gradient 0.

  Args:
    x: Vectors, shape `[..., 3]`.

  Returns:
    `lat_deg` in [-90, 90] and `lon_deg` in (-180, 180], each `[...]`.

  Raises:
    ValueError: If the last axis of `x` does not have 3 entries.
  """
  xp, x = as_floats(x)
  check_last_dim("x", x, 3)
  lat_deg = angle_deg(x[..., 2], _norm(xp, x[..., :2]))
  return lat_deg, angle_deg(x[..., 1], x[..., 0])


def great_circle_km(a, b):
  """Great-circle distance between unit vectors: 2 R atan2(|a - b|, |a + b|).

  Well conditioned up to coincident and antipodal points, where arccos(a.b)
  loses half the digits (5 km in float32) and has an infinite gradient; here the
  gradient is 0 at both.

  Args:
    a: Unit vectors, shape `[..., 3]`.
    b: Unit vectors, shape `[..., 3]`, broadcast against `a`.

  Returns:
    Distances on a sphere of the Earth's mean radius, in km, shape `[...]`.

  Raises:
    ValueError: If a last axis does not have 3 entries.

  References:
    Kahan, How Futile are Mindless Assessments of Roundoff, 2006, section 12.
  """
  xp, a, b = as_floats(a, b)
  check_last_dim("a", a, 3)
  check_last_dim("b", b, 3)
  chord, cochord = _norm(xp, a - b), _norm(xp, a + b)
  return 2 * EARTH_RADIUS_KM * xp.arctan2(chord, cochord)


def fibonacci_lattice(num_points):
  """Evenly spread points: one in each of n equal bands, a golden angle apart.

  Args:
    num_points: Number of points n, at least 1.

  Returns:
    Unit vectors from north to south, NumPy float64, shape `[n, 3]`.

  References:
    Gonzalez, Measurement of Areas on a Sphere Using Fibonacci and
    Latitude-Longitude Lattices, Mathematical Geosciences 42, 2010.
  """
  _check_count("num_points", num_points)
  i = np.arange(num_points)
  z = 1 - (2 * i + 1) / num_points
  turns = i * ((math.sqrt(5) - 1) / 2) % 1
  return _from_z_and_turns(z, turns)


def equal_area_grid(num_cells):
  """Centers of n cells of equal area, 4 pi/n steradian each.

  Bands of latitude are about as high as their cells are wide; the number of
  cells in a band sets its exact height, so that all areas are equal.

  Args:
    num_cells: Number of cells n, at least 1.

  Returns:
    Unit vectors from north to south and, in a band, from 180W eastwards;
    NumPy float64, shape `[n, 3]`.

  References:
    Leopardi, A Partition of the Unit Sphere into Regions of Equal Area and
    Small Diameter, Electronic Transactions on Numerical Analysis 25, 2006.
  """
  starts = _band_starts(num_cells)
  counts = np.diff(starts)
  middle = (starts[:-1] + starts[1:]) / 2
  z = np.repeat(1 - 2 * middle / num_cells, counts)
  place = np.arange(num_cells) - np.repeat(starts[:-1], counts)
  turns = (place + 0.5) / np.repeat(counts, counts) - 0.5
  return _from_z_and_turns(z, turns)


def equal_area_bounds(num_cells):
  """Bounds of the cells of `equal_area_grid(num_cells)`, which are rectangles.

  Args:
    num_cells: Number of cells of the grid, at least 1.

  Returns:
    South, west, north and east in degrees, NumPy float64, shape `[n, 4]`. Cells
    end at 180 degrees; neighbours share their numbers.
  """
  starts = _band_starts(num_cells)
  counts = np.diff(starts)
  edges = np.degrees(np.arcsin(1 - 2 * starts / num_cells))
  place = np.arange(num_cells) - np.repeat(starts[:-1], counts)
  width = 360 / np.repeat(counts, counts)
  return np.stack(
    [
      np.repeat(edges[1:], counts),
      place * width - 180,
      np.repeat(edges[:-1], counts),
      (place + 1) * width - 180,
    ],
    axis=-1,
  )


def equal_area_index(x, num_cells):
  """Index of the cell of `equal_area_grid(num_cells)` that holds each point.

  Args:
    x: Unit vectors, converted to NumPy, shape `[..., 3]`.
    num_cells: Number of cells of the grid, at least 1.

  Returns:
    NumPy integers in [0, num_cells), shape `[...]`.
  """
  x = np.asarray(x, np.float64)
  check_last_dim("x", x, 3)
  starts = _band_starts(num_cells)
  counts = np.diff(starts)
  depth = (1 - x[..., 2]) / 2 * num_cells
  band = np.searchsorted(starts, depth, side="right") - 1
  band = np.clip(band, 0, len(counts) - 1)
  turns = np.arctan2(x[..., 1], x[..., 0]) / (2 * math.pi) + 0.5
  place = np.minimum((turns * counts[band]).astype(int), counts[band] - 1)
  return starts[band] + place


def _band_starts(num_cells):
  """First cell of each band of the equal-area grid, then `num_cells`."""
  _check_count("num_cells", num_cells)
  side_rad = math.sqrt(4 * math.pi / num_cells)
  num_bands = max(1, round(math.pi / side_rad))
  colatitude = np.linspace(0, math.pi, num_bands + 1)
  return np.round(num_cells * (1 - np.cos(colatitude)) / 2).astype(int)


def _from_z_and_turns(z, turns):
  lon_rad = 2 * math.pi * turns
  rho = np.sqrt((1 - z) * (1 + z))
  return np.stack([rho * np.cos(lon_rad), rho * np.sin(lon_rad), z], axis=-1)


def _check_count(name, value):
  if value < 1:
    raise ValueError(f"{name} must be at least 1, found {value}")
