"""Targets that are maps: a class or a value of each pixel of a patch."""

import dataclasses
import functools

import numpy as np

from data_prep import grids, land_cover, legends, map_files, maps, tiles
from data_prep.pixel_targets import CLASS_MAP, VALUE_MAP, PixelTarget

# A code that the legend lacks.
_NO_CLASS = 254
_EXAMPLE = '{"10": "forest", "20": {"name": "water", "color": "#0000ff"}}'


@dataclasses.dataclass(frozen=True)
class MapTarget(PixelTarget):
  """A target that is sampled from a map.

  Attributes:
    path: A GeoTIFF or a folder of them, see `map_files.open_raster`; or the
      name of one of `land_cover.MAPS`, which has a legend of its own.
    legend: JSON file of the classes by the map's codes, such as `{"10":
      "forest", "20": {"name": "water", "color": "#0000ff"}}`, or "": then the
      codes are the classes.
  """

  path: str
  legend: str = ""

  @property
  def files(self):
    """The user's files that it is sampled from."""
    if self.path in land_cover.MAPS:
      return []
    return [path for path in (self.path, self.legend) if path]

  @property
  def about(self):
    """See `PixelTarget.about`."""
    return {"map": self.path}

  def open(self):
    """Opens the map; see `map_files.open_raster`."""
    if self.path in land_cover.MAPS:
      known = land_cover.MAPS[self.path]
      return map_files.open_raster(known.raster.path(), known.epsg)
    return map_files.open_raster(self.path)

  def check(self):
    """Raises ValueError or `tiles.TileError` if a file cannot be used."""
    raster = self.open()
    if self.kind == CLASS_MAP:
      if raster.dtype.kind not in "iu" or raster.dtype.itemsize > 2:
        raise tiles.TileError(
          self.path,
          f"{raster.dtype} pixels, expected codes of 8 or 16 bits;"
          " gdal_translate -ot Byte writes them",
        )
      self.classes()
    elif raster.dtype.kind not in "iuf":
      raise tiles.TileError(
        self.path, f"{raster.dtype} pixels, expected values"
      )

  def classes(self):
    """Names and colours of the classes, see `_read_legend`."""
    _, names, colors = _read_legend(self)
    return names, colors

  def classes_of(self, total):
    """Without a legend, the codes that occur and those below."""
    names, colors = self.classes()
    if not self.legend and self.path not in land_cover.MAPS:
      names = names[: int(np.flatnonzero(total[:-1])[-1:].sum()) + 1]
    return names, colors[: len(names)]

  def check_covers(self, path, grid):
    """Raises the TileError of a tile that lies wholly outside of the map."""
    if not _meets_map(self, grid):
      raise tiles.TileError(
        path,
        f"lies outside of the map {self.name}, {self.path}; leave it out, or"
        " give a map that covers it",
      )

  def sample(self, grid, rows, cols, patch_size):
    """Samples the map at all pixels of a tile's patches.

    Args:
      grid: The `grids.Grid` of the tile.
      rows: First rows, shape `[n]`.
      cols: First columns, shape `[n]`.
      patch_size: Rows and columns of a patch.

    Returns:
      Classes or values, shape `[n, patch_size, patch_size]`.

    Raises:
      tiles.TileError: The map cannot be read, or has a code without a class or
        a value beyond float16.
    """
    rows, cols = np.asarray(rows), np.asarray(cols)
    top, left = rows.min(), cols.min()
    height, width = (
      x.max() + patch_size - first for x, first in ((rows, top), (cols, left))
    )
    if grid.is_projected or len(rows) * patch_size**2 <= height * width:
      return self._sample(
        functools.partial(grid.patch_pixels, rows, cols, patch_size)
      )
    # Patches overlap: each pixel is looked up once. In a projection all pixels
    # would be transformed, which takes longer.
    whole = _sample_window(self, grid, top, left, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(
      whole, (patch_size, patch_size)
    )
    return windows[rows - top, cols - left]

  def _sample(self, places):
    """Samples the map, at a function's latitudes and longitudes `[n, h, w]`."""
    raster = self.open()
    lat, lon = np.broadcast_arrays(*places())
    row, col = _positions(raster, lat, lon)
    if self.kind == CLASS_MAP:
      table, *_ = _read_legend(self)
      found = maps.codes_at(raster, row, col, table)
      if (found == _NO_CLASS).any():
        at = tuple(np.argwhere(found == _NO_CLASS)[0])
        raise tiles.TileError(
          self.path,
          f"the map {self.name} has a code at {lat[at]:.5f} N {lon[at]:.5f} E"
          f" that {self.legend or 'the range 0 to 253'} does not name; add it"
          " to the legend",
        )
      return found
    corners = _positions(raster, *np.broadcast_arrays(*places(corners=True)))
    values = _values(raster, row, col, corners)
    limit = np.finfo(np.float16).max
    if (np.abs(np.nan_to_num(values)) > limit).any():
      raise tiles.TileError(
        self.path,
        f"the map {self.name} has the value {np.nanmax(np.abs(values)):g}, but"
        f" records hold float16, up to {limit:g}; scale the map (gdal_calc.py)",
      )
    return values.astype(np.float16)


# The dates of one place follow one another.
# The months of a place share their grid.
@functools.lru_cache(maxsize=64)
def _meets_map(target, grid):
  """Whether the box around a tile, on the map, meets the map."""
  raster = target.open()
  nodes = [np.linspace(0, side, 9) - 0.5 for side in (grid.height, grid.width)]
  lat, lon = np.broadcast_arrays(
    *grid.pixel_to_latlon(nodes[0][:, None], nodes[1])
  )
  row, col = maps.positions(raster, lat, grids.unwrap(lon, lon[0, 0]))
  known = np.isfinite(row) & np.isfinite(col)
  if not (known.any() and _meets(row[known], raster.grid.height)):
    return False
  return map_files.is_all_around(raster.grid) or _meets(
    col[known], raster.grid.width
  )


@functools.lru_cache(maxsize=8)
def _sample_window(target, grid, top, left, height, width):
  """Samples a window of a tile, `[height, width]`."""
  window = functools.partial(_window, grid, top, left, height, width)
  return target._sample(window)[0]


def _window(grid, top, left, height, width, *, corners=False):
  """As `grids.Grid.patch_pixels`, of one window of any shape, exact."""
  row, col = (
    np.arange(start, start + count + corners) - 0.5 * corners
    for start, count in ((top, height), (left, width))
  )
  lat, lon = np.broadcast_arrays(*grid.pixel_to_latlon(row[:, None], col))
  return lat[None], grids.unwrap(lon, lon[0, 0])[None]


def _positions(raster, lat, lon):
  """`maps.positions` of the pixels of patches, `[n, h, w]`."""
  # A tile may lie across the antimeridian, and a map on either side.
  parts = [maps.positions(raster, *p) for p in zip(lat, lon, strict=True)]
  return tuple(np.stack(x) for x in zip(*parts, strict=True))


def _meets(positions, side):
  """Whether positions reach into [0, side]."""
  return positions.min() < side and positions.max() > 0


def _values(raster, row, col, corners):
  """Area means of patches that the map is finer than, else bilinear.

  A pixel's area is the rectangle around its corners in the map's own grid.
  """
  bounds = []
  for x in corners:
    four = np.stack(
      [x[:, :-1, :-1], x[:, 1:, :-1], x[:, :-1, 1:], x[:, 1:, 1:]]
    )
    bounds += [four.min(axis=0), four.max(axis=0)]
  top, bottom, left, right = bounds
  # Pixels of the map in one of the patch, in its middle. Pixels of one size are
  # not mixed by rounding errors.
  middle = row.shape[1] // 2, row.shape[2] // 2
  is_finer = ((bottom - top) * (right - left))[:, *middle] > 1 + 1e-3
  values = np.empty(row.shape)
  values[is_finer] = maps.means_within(raster, *(x[is_finer] for x in bounds))
  values[~is_finer] = maps.values_at(raster, row[~is_finer], col[~is_finer])
  return values


@functools.lru_cache(maxsize=16)
def _read_legend(target):
  """Classes of a map.

  Returns:
    Class of each code, uint8, with `maps.UNKNOWN` for the no-data value and
    `_NO_CLASS` for codes without one; names of the classes; and their colours
    as "#rrggbb", or ().

  Raises:
    ValueError: The legend cannot be understood.
  """
  raster, legend = target.open(), target.legend
  table = np.full(1 << (8 * raster.dtype.itemsize), _NO_CLASS, np.uint8)
  limits = np.iinfo(raster.dtype)
  if legend:
    classes = _parse_legend(legend)
  elif target.path in land_cover.MAPS:
    classes = land_cover.MAPS[target.path].classes
  else:
    classes = {code: (str(code), None) for code in range(_NO_CLASS)}
  names, colors = [], []
  for code, (name, color) in sorted(classes.items()):
    if name not in names:
      names.append(name)
      colors.append(color)
    # A code that the file's type cannot hold does not occur.
    if limits.min <= code <= limits.max:
      table[code] = names.index(name)
  if raster.no_data is not None:
    table[int(raster.no_data)] = maps.UNKNOWN
  elif not legend:
    table[maps.UNKNOWN] = maps.UNKNOWN
  if len(names) > _NO_CLASS:
    raise ValueError(f"legend {legend}: {len(names)} classes, at most 254")
  return table, tuple(names), tuple(colors) if all(colors) else ()


def _parse_legend(path):
  """A legend as a dict from code to name and colour."""
  classes = {}
  for code, entry in legends.read(path, _EXAMPLE).items():
    if not isinstance(entry, dict):
      entry = {"name": entry}
    name = entry.get("name")
    if not (isinstance(name, str) and name):
      raise ValueError(
        f"legend {path}: class {name!r} of code {code}, expected a name as in"
        f" {_EXAMPLE}"
      )
    classes[code] = name, entry.get("color")
  return classes


def parse(text, kind):
  """Parses `--class_map` and `--value_map`, NAME=FILE[,LEGEND], to a MapTarget.

  Raises:
    ValueError: The text is of another form.
  """
  name, found, files = text.partition("=")
  path, _, legend = files.partition(",")
  if not (name.isidentifier() and found and path) or (
    legend and kind == VALUE_MAP
  ):
    form = "NAME=FILE.tif" + ("[,legend.json]" if kind == CLASS_MAP else "")
    raise ValueError(f"--{kind}={text}, expected {form}")
  return MapTarget(name, kind, path, legend)
