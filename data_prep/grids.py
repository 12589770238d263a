"""Where the pixels of a raster lie on the Earth."""

import dataclasses
import functools

import numpy as np
import pyproj

WGS84 = 4326


@dataclasses.dataclass(frozen=True)
class Grid:
  """Where a tile's pixels lie.

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
    """Places of pixels, (0, 0) being the centre of the upper left pixel.

    Args:
      rows: Rows, fractions allowed, shape `[...]`.
      cols: Columns, fractions allowed, shape `[...]`; broadcasts against the
        rows.

    Returns:
      `lat_deg` and `lon_deg` in [-180, 180), float64. In a projection, each has
      the shape of rows and columns broadcast; in EPSG:4326, where latitude
      hangs on the row alone, that of the rows and that of the columns.

    Raises:
      ValueError: If the projection is unknown, or pixels lie outside of it.
    """
    return self._corner_to_latlon(np.asarray(rows) + 0.5, np.add(cols, 0.5))

  def patch_bounds(self, rows, cols, patch_size):
    """Bounds of square patches in degrees.

    In a projection, those of the corners and the edges' midpoints: right to a
    decimetre for a patch of a few km.

    Args:
      rows: First rows, shape `[n]`.
      cols: First columns, shape `[n]`.
      patch_size: Rows and columns of a patch.

    Returns:
      `south`, `west`, `north` and `east`, each `[n]`; `west` is below `east`
      though either may lie beyond 180.

    Raises:
      ValueError: If the projection is unknown, or pixels lie outside of it.
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
    # Not torn apart by the antimeridian.
    first = lon[:, :1]
    lon = first + (lon - first + 180) % 360 - 180
    return lat.min(axis=1), lon.min(axis=1), lat.max(axis=1), lon.max(axis=1)

  def _corner_to_latlon(self, rows, cols):
    """Places on the map, (0, 0) being the tile's upper left corner."""
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


@functools.lru_cache(maxsize=256)
def _to_wgs84(epsg):
  """The transformation from map units to longitude and latitude."""
  try:
    return pyproj.Transformer.from_crs(epsg, WGS84, always_xy=True)
  except pyproj.exceptions.CRSError as error:
    raise ValueError(f"unknown projection EPSG:{epsg}") from error
