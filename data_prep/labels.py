"""Labels of patches: climate fractions, place and date.

For all patches of a tile at once; fractions once for all tiles of one place.
"""

import numpy as np

from data_prep import grids
from geojax import climate, encodings

# Patches that are counted together.
_PATCHES = 256


def climate_fractions(grid, climate_map, rows, cols, patch_size):
  """Fraction of each patch in each climate zone.

  Each pixel counts for the zone that its centre lies in.

  Args:
    grid: The `grids.Grid` of the tile.
    climate_map: A `climate_maps.ClimateMap`.
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
  """Looks up each pixel of a tile once, for patches that overlap."""
  bottom, right = top + patch_size, left + patch_size
  fractions = np.zeros((len(top), len(climate.ZONES)), np.float32)
  zones = climate_map.lookup(
    *grid.pixel_to_latlon(
      np.arange(grid.height)[:, None], np.arange(grid.width)[None, :]
    )
  )
  # A tile has few zones. For each, a summed-area table gives all counts.
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
  """Looks up the pixels only of patches that may hold several zones."""
  fractions = np.zeros((len(rows), len(climate.ZONES)), np.float32)
  for start in range(0, len(rows), _PATCHES):
    row, col = (x[start : start + _PATCHES] for x in (rows, cols))
    lat, lon, _ = grid.patch_nodes(row, col, patch_size)
    lon = grids.unwrap(lon, lon[:, :1, :1])
    zone = climate_map.only_zone(
      lat.min((1, 2)), lon.min((1, 2)), lat.max((1, 2)), lon.max((1, 2))
    )
    part = fractions[start : start + len(zone)]
    (alike,) = np.nonzero(zone >= 0)
    part[alike, zone[alike]] = 1
    (mixed,) = np.nonzero(zone < 0)
    zones = climate_map.lookup(
      *grid.patch_pixels(row[mixed], col[mixed], patch_size)
    )
    index = np.arange(len(mixed))[:, None, None] * len(climate.ZONES) + zones
    counts = np.bincount(index.ravel(), minlength=part[mixed].size)
    part[mixed] = counts.reshape(part[mixed].shape) / patch_size**2
  return fractions


def one_zone(climate_map, lat_deg, lon_deg):
  """Fractions of patches that lie at one place each, float32, `[n, 31]`."""
  zones = climate_map.lookup(lat_deg, lon_deg)
  return np.eye(len(climate.ZONES), dtype=np.float32)[zones]


def day_of_year(date):
  """Day of the year of a date, from 1; NaN for None."""
  return np.nan if date is None else float(date.timetuple().tm_yday)


def geo_labels(fractions, lat_deg, lon_deg, day):
  """Encodes labels of patches; what is unknown is NaN.

  Args:
    fractions: Fraction in each climate zone, shape `[n, 31]`.
    lat_deg: Latitudes of the patches' centres, shape `[n]`.
    lon_deg: Longitudes of the patches' centres, shape `[n]`.
    day: Days of the year, from 1, shape `[n]` or `[]`.

  Returns:
    Labels by name, see `encodings.LABELS`, float32, each `[n, numbers]`.
  """
  day = np.broadcast_to(day, len(fractions))
  found = {
    "climate": fractions,
    "coords": encodings.encode_coordinates(lat_deg, lon_deg),
    "date": encodings.encode_day_of_year(day),
  }
  return {name: np.float32(values) for name, values in found.items()}
