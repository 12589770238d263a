"""Labels of patches: climate fractions, place and date.

For all patches of a tile at once, and apart from the date once for all tiles
that show the same place.
"""

import dataclasses

import numpy as np

from geojax import climate, encodings


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


def climate_fractions(grid, climate_map, rows, cols, patch_size):
  """Fraction of each patch in each climate zone.

  Each pixel counts for the zone that its centre lies in.

  Args:
    grid: The `tiles.Grid` of the tile.
    climate_map: A `ClimateMap`.
    rows: First row of each patch, shape `[n]`.
    cols: First column of each patch, shape `[n]`.
    patch_size: Rows and columns of a patch.

  Returns:
    Fractions, float32, shape `[n, 31]`, each row summing to 1.
  """
  top, left = np.asarray(rows), np.asarray(cols)
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
