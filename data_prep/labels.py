"""Labels of patches: climate fractions, place and date.

For all patches of a tile at once, and apart from the date once for all tiles
that show the same place.
"""

import dataclasses

import numpy as np

from geojax import climate, encodings

# Nodes a side at which a patch's places are exact.
_NODES = 5
# Patches that are counted together.
_PATCHES = 256


@dataclasses.dataclass(frozen=True)
class ClimateMap:
  """A global map of climate zones in EPSG:4326.

  Attributes:
    zones: Zones 0 to 30 as in `geojax.climate.ZONES`, uint8, shape `[H, W]`;
      row 0 lies at 90 N, column 0 at 180 W, pixels are areas.
  """

  zones: np.ndarray

  def lookup(self, lat_deg, lon_deg):
    """The zone at each place: that of the pixel it lies in.

    Args:
      lat_deg: Latitudes in degrees, shape `[...]`.
      lon_deg: Longitudes in degrees, any turn, shape `[...]`; broadcasts
        against the latitudes.

    Returns:
      Zones, uint8, shape `[...]`.
    """
    height, width = self.zones.shape
    rows = np.floor((90 - np.asarray(lat_deg)) * (height / 180)).astype(int)
    cols = np.floor((np.asarray(lon_deg) + 180) * (width / 360)).astype(int)
    # 90 S lies on the last row's lower edge; 180 E is 180 W.
    return self.zones[np.clip(rows, 0, height - 1), cols % width]

  def only_zone(self, south, west, north, east):
    """The zone of each box, where the map's pixels make sure that it is one.

    Args:
      south: Latitudes of the lower edges in degrees, shape `[n]`.
      west: Longitudes of the left edges, any turn, shape `[n]`.
      north: Latitudes of the upper edges, shape `[n]`.
      east: Longitudes of the right edges, >= west, shape `[n]`.

    Returns:
      Zones, int, shape `[n]`; -1 where a box may hold several zones.
    """
    height, width = self.zones.shape
    # A box that spans two pixels at most is told by its corners.
    small = (north - south < 180 / height) & (east - west < 360 / width)
    corners = np.stack(
      [self.lookup(lat, lon) for lat in (south, north) for lon in (west, east)]
    )
    alike = small & (corners == corners[0]).all(axis=0)
    return np.where(alike, corners[0].astype(int), -1)


def climate_fractions(grid, climate_map, rows, cols, patch_size):
  """Fraction of each patch in each climate zone.

  Each pixel counts for the zone that its centre lies in.

  Args:
    grid: The `grids.Grid` of the tile.
    climate_map: A `ClimateMap`.
    rows: First row of each patch, shape `[n]`.
    cols: First column of each patch, shape `[n]`.
    patch_size: Rows and columns of a patch.

  Returns:
    Fractions, float32, shape `[n, 31]`, each row summing to 1.
  """
  rows, cols = np.asarray(rows), np.asarray(cols)
  overlap = len(rows) * patch_size**2 > grid.height * grid.width
  count = _count_by_sums if overlap else _count_by_patch
  return count(grid, climate_map, rows, cols, patch_size)


def _count_by_sums(grid, climate_map, top, left, patch_size):
  """Counts each pixel of a tile once, however many patches share it."""
  bottom, right = top + patch_size, left + patch_size
  fractions = np.zeros((len(top), len(climate.ZONES)), np.float32)
  zones = climate_map.lookup(
    *grid.pixel_to_latlon(
      np.arange(grid.height)[:, None], np.arange(grid.width)[None, :]
    )
  )
  # Few zones meet in one tile. Of each, a table of sums over the rectangles
  # from the corner gives all patches' counts, however much they overlap.
  sums = np.zeros((grid.height + 1, grid.width + 1), np.int64)
  for zone in np.flatnonzero(np.bincount(zones.ravel())):
    np.cumsum(zones == zone, axis=0, out=sums[1:, 1:])
    np.cumsum(sums, axis=1, out=sums)
    count = (
      sums[bottom, right]
      - sums[top, right]
      - sums[bottom, left]
      + sums[top, left]
    )
    fractions[:, zone] = count / patch_size**2
  return fractions


def _count_by_patch(grid, climate_map, rows, cols, patch_size):
  """Counts patch by patch, and pixel by pixel only where zones may meet.

  In a projection, places are exact at a few nodes of each patch and bilinear in
  between: a patch of a few km is flat to within a metre.
  """
  fractions = np.zeros((len(rows), len(climate.ZONES)), np.float32)
  nodes = np.linspace(0, patch_size - 1, _NODES)
  # Weights of the nodes at each pixel, [patch_size, nodes].
  position = np.arange(patch_size) * ((_NODES - 1) / (patch_size - 1))
  weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(_NODES)))
  for start in range(0, len(rows), _PATCHES):
    row, col = (x[start : start + _PATCHES, None, None] for x in (rows, cols))
    lat, lon = grid.pixel_to_latlon(row + nodes[:, None], col + nodes)
    lat, lon = np.broadcast_arrays(lat, lon)
    # Not torn apart by the antimeridian.
    first = lon[:, :1, :1]
    lon = first + (lon - first + 180) % 360 - 180
    zone = climate_map.only_zone(
      lat.min((1, 2)), lon.min((1, 2)), lat.max((1, 2)), lon.max((1, 2))
    )
    found = np.zeros((len(zone), len(climate.ZONES)), np.float32)
    (alike,) = np.nonzero(zone >= 0)
    found[alike, zone[alike]] = 1
    (mixed,) = np.nonzero(zone < 0)
    if grid.is_projected:
      lat, lon = (weights @ x[mixed] @ weights.T for x in (lat, lon))
    else:
      # Exact, as rows and columns are; also on the borders of the map's pixels.
      pixel = np.arange(patch_size)
      lat, lon = grid.pixel_to_latlon(
        row[mixed] + pixel[:, None], col[mixed] + pixel
      )
    zones = climate_map.lookup(lat, lon)
    index = np.arange(len(mixed))[:, None, None] * len(climate.ZONES) + zones
    counts = np.bincount(index.ravel(), minlength=found[mixed].size)
    found[mixed] = counts.reshape(found[mixed].shape) / patch_size**2
    fractions[start : start + len(found)] = found
  return fractions


def geo_labels(fractions, lat_deg, lon_deg, date):
  """Labels of patches seen on one date.

  Args:
    fractions: Fraction in each climate zone, shape `[n, 31]`.
    lat_deg: Latitudes of the patches' centres, shape `[n]`.
    lon_deg: Longitudes of the patches' centres, shape `[n]`.
    date: A `datetime.date` or `datetime.datetime`.

  Returns:
    Labels as of `geojax.encodings`, float32, shape `[n, 36]`.
  """
  day = np.full(len(fractions), date.timetuple().tm_yday)
  label = encodings.encode_label(fractions, lat_deg, lon_deg, day)
  return label.astype(np.float32)
