"""Where the pixels of a raster lie on the Earth."""

import dataclasses
import functools

import numpy as np
import pyproj

from geojax import sphere

WGS84 = 4326
_NODES = 5


@dataclasses.dataclass(frozen=True)
class Grid:
  """A projection and a regular grid of pixels in it, north up.

  Attributes:
    height: Rows of pixels.
    width: Columns of pixels.
    west: Map x of the left edge of the leftmost pixels; degrees in EPSG:4326.
    north: Map y of the upper edge of the uppermost pixels.
    pixel_width: Map units a pixel, > 0.
    pixel_height: Map units a pixel, > 0, southwards.
    epsg: EPSG code of the projection.
  """

  height: int
  width: int
  west: float
  north: float
  pixel_width: float
  pixel_height: float
  epsg: int

  @property
  def is_projected(self):
    """Whether map units are not degrees."""
    return self.epsg != WGS84

  def pixel_to_latlon(self, rows, cols):
    """Coordinates of pixels; (0, 0) is the upper left pixel's centre.

    Args:
      rows: Rows, fractions allowed, shape `[...]`.
      cols: Columns, fractions allowed; broadcast against the rows.

    Returns:
      `lat_deg` and `lon_deg` in [-180, 180), float64: of the broadcast shape in
      a projection, of the shape of the rows and of the columns in EPSG:4326.

    Raises:
      ValueError: The projection is unknown, or pixels lie outside of it.
    """
    return self._corner_to_latlon(np.asarray(rows) + 0.5, np.add(cols, 0.5))

  def patch_bounds(self, rows, cols, patch_size):
    """Bounds of square patches in degrees: south, west, north, east.

    In a projection, those of the corners and the edges' midpoints: accurate to
    a decimetre for a patch of a few km. `west` is below `east`, and either may
    lie beyond 180.

    Args:
      rows: First rows, shape `[n]`.
      cols: First columns, shape `[n]`.
      patch_size: Rows and columns of a patch.
    """
    rows, cols = np.asarray(rows), np.asarray(cols)
    if not self.is_projected:
      return (
        self.north - (rows + patch_size) * self.pixel_height,
        self.west + cols * self.pixel_width,
        self.north - rows * self.pixel_height,
        self.west + (cols + patch_size) * self.pixel_width,
      )
    down, right = np.divmod(np.delete(np.arange(9), 4), 3)
    lat, lon = self._corner_to_latlon(
      rows[:, None] + down * (patch_size / 2),
      cols[:, None] + right * (patch_size / 2),
    )
    lon = unwrap(lon, lon[:, :1])
    return lat.min(axis=1), lon.min(axis=1), lat.max(axis=1), lon.max(axis=1)

  def patch_sides(self, lat_deg, patch_size):
    """Degrees of latitude and longitude along the sides of square patches.

    Unlike the bounds, these do not grow where a projection's north is not true
    north. Measured in the middle of the grid.

    Args:
      lat_deg: Latitudes of the patches' centers, shape `[n]`.
      patch_size: Rows and columns of a patch.

    Returns:
      Height and width, shape `[n, 2]`.
    """
    if not self.is_projected:
      sides = [self.pixel_height * patch_size, self.pixel_width * patch_size]
      return np.broadcast_to(sides, (len(lat_deg), 2))
    half = patch_size / 2
    row, col = self.height / 2, self.width / 2
    lat, lon = self._corner_to_latlon(
      row + np.array([-half, half, 0, 0]), col + np.array([0, 0, -half, half])
    )
    stretch = np.cos(np.deg2rad(lat.mean()))
    lon = unwrap(lon, lon[0])
    height, width = (
      np.hypot(lat[i + 1] - lat[i], (lon[i + 1] - lon[i]) * stretch)
      for i in (0, 2)
    )
    return np.stack(
      [np.full(len(lat_deg), height), width / np.cos(np.deg2rad(lat_deg))],
      axis=-1,
    )

  def patch_pixels(self, rows, cols, patch_size, *, corners=False):
    """Coordinates of the centers of all pixels of patches.

    Exact in EPSG:4326; see `patch_nodes` for projections.

    Args:
      rows: First rows, shape `[n]`.
      cols: First columns, shape `[n]`.
      patch_size: Rows and columns of a patch.
      corners: Whether to return the pixels' corners instead, one more a side.

    Returns:
      `lat_deg` and `lon_deg` that broadcast to `[n, patch_size, patch_size]`;
      longitudes are within 180 degrees of the first one of the patch.
    """
    if self.is_projected:
      lat, lon, weights = self.patch_nodes(
        rows, cols, patch_size, corners=corners
      )
      lon = unwrap(lon, lon[:, :1, :1])
      return tuple(weights @ x @ weights.T for x in (lat, lon))
    pixel = np.arange(patch_size + corners) - 0.5 * corners
    row, col = (np.asarray(x)[:, None, None] for x in (rows, cols))
    lat, lon = self.pixel_to_latlon(row + pixel[:, None], col + pixel)
    first = lon[..., :1]
    # Unwrapping rounds, which matters on the border of a map's pixel.
    return lat, np.where(np.abs(lon - first) < 180, lon, unwrap(lon, first))

  def patch_nodes(self, rows, cols, patch_size, *, corners=False):
    """Coordinates of 5 x 5 nodes of each patch, exact, and weights to pixels.

    Bilinear coordinates in between are accurate to a metre for a patch of a few
    km.

    Args:
      rows: First rows, shape `[n]`.
      cols: First columns, shape `[n]`.
      patch_size: Rows and columns of a patch.
      corners: Whether the weights are to the pixels' corners, one more a side,
        instead of to their centers.

    Returns:
      `lat_deg` and `lon_deg`, each `[n, 5, 5]`, and weights `[patch_size, 5]`.
    """
    count = patch_size + corners
    last = max(count - 1, 1)
    nodes = np.linspace(0, last, _NODES) - 0.5 * corners
    position = np.arange(count) * ((_NODES - 1) / last)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(_NODES)))
    lat, lon = np.broadcast_arrays(
      *self.pixel_to_latlon(
        np.asarray(rows)[:, None, None] + nodes[:, None],
        np.asarray(cols)[:, None, None] + nodes,
      )
    )
    return lat, lon, weights

  def _corner_to_latlon(self, rows, cols):
    """`pixel_to_latlon`, but (0, 0) is the tile's upper left corner."""
    x = self.west + cols * self.pixel_width
    y = self.north - rows * self.pixel_height
    if self.is_projected:
      x, y = np.broadcast_arrays(x, y)
      try:
        x, y = _to_wgs84(self.epsg).transform(x, y, errcheck=True)
      except pyproj.exceptions.ProjError as error:
        raise ValueError(
          f"pixels lie outside of its projection EPSG:{self.epsg}: {error}"
        ) from error
    return y, (x + 180) % 360 - 180


@dataclasses.dataclass(frozen=True)
class Spot:
  """The pixels of an image whose extent is unknown: all lie at one place.

  Attributes:
    height: Rows of pixels.
    width: Columns of pixels.
    lat_deg: Latitude of the image, NaN if it is unknown too.
    lon_deg: Its longitude.
  """

  height: int
  width: int
  lat_deg: float
  lon_deg: float


def centered(height, width, lat_deg, lon_deg, pixel_m):
  """Grid in EPSG:4326 of an image that lies north up around a place.

  Accurate to a thousandth of the image's width for one of a few km.

  Args:
    height: Rows of pixels.
    width: Columns of pixels.
    lat_deg: Latitude of the image's center.
    lon_deg: Its longitude.
    pixel_m: Metres a pixel.

  Returns:
    A `Grid`.
  """
  pixel_height = np.rad2deg(pixel_m / (1e3 * sphere.EARTH_RADIUS_KM))
  # Next to a pole, an image spans more than a turn.
  pixel_width = min(
    pixel_height / max(np.cos(np.deg2rad(lat_deg)), 1e-9), 360 / width
  )
  return Grid(
    height=height,
    width=width,
    west=float(lon_deg - width / 2 * pixel_width),
    north=float(lat_deg + height / 2 * pixel_height),
    pixel_width=float(pixel_width),
    pixel_height=float(pixel_height),
    epsg=WGS84,
  )


def unwrap(lon_deg, reference_deg):
  """Shifts longitudes by whole turns to within 180 degrees of a reference."""
  return reference_deg + (lon_deg - reference_deg + 180) % 360 - 180


@functools.lru_cache(maxsize=256)
def _to_wgs84(epsg):
  try:
    return pyproj.Transformer.from_crs(epsg, WGS84, always_xy=True)
  except pyproj.exceptions.CRSError as error:
    raise ValueError(f"unknown projection EPSG:{epsg}") from error
