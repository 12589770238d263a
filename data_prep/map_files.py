"""Rasters of one band: a GeoTIFF, or a folder of them on one grid."""

import dataclasses
import functools
import pathlib

import numpy as np

from data_prep import grids, tiles

# Maps of no more bytes are kept in memory.
_SMALL_BYTES = 2**25
# How far the grids of a folder's files may lie from one another, in pixels.
_TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Mosaic:
  """Files of one grid, read as one; it has what maps need of a `tiles.Tile`.

  Attributes:
    path: The folder.
    grid: The grid of all of them.
    dtype: NumPy dtype of the pixels.
    no_data: Value of pixels without data, also between the files.
    parts: For each file its first row and column, and its tile.
    scale: See `tiles.Tile`.
    num_bands: 1.
  """

  path: pathlib.Path
  grid: grids.Grid
  dtype: np.dtype
  no_data: float
  parts: tuple[tuple[int, int, tiles.Tile], ...]
  scale: tuple[float, float] = (1.0, 0.0)
  num_bands: int = 1

  def read(self, bands, row, col, height, width, *, allow_nan=False):
    """See `tiles.Tile.read`."""
    del bands
    pixels = np.full((height, width, 1), self.no_data, self.dtype)
    for first_row, first_col, tile in self.parts:
      top, left = max(row, first_row), max(col, first_col)
      bottom = min(row + height, first_row + tile.grid.height)
      right = min(col + width, first_col + tile.grid.width)
      if top < bottom and left < right:
        pixels[top - row : bottom - row, left - col : right - col] = tile.read(
          None,
          top - first_row,
          left - first_col,
          bottom - top,
          right - left,
          allow_nan=allow_nan,
        )
    return pixels


@functools.lru_cache(maxsize=8)
def open_raster(path, epsg=0):
  """Opens a map of one band: a `tiles.Tile` or a `Mosaic`.

  Args:
    path: A GeoTIFF, or a folder of them.
    epsg: Projection of files that name none by a code; 0: an error.

  Raises:
    tiles.TileError: A file cannot be used, has several bands, or the grids of
      a folder's files differ.
  """
  path = pathlib.Path(path)
  files = [path]
  if path.is_dir():
    files = sorted(p for p in path.rglob("*") if p.suffix in (".tif", ".tiff"))
    if not files:
      raise tiles.TileError(path, "no *.tif in it or below")
  parts = [tiles.open_tile(file, epsg=epsg) for file in files]
  for tile in parts:
    if tile.num_bands != 1:
      raise tiles.TileError(
        tile.path, f"{tile.num_bands} bands, expected one: a map"
      )
  raster = parts[0] if len(parts) == 1 else _join(path, parts)
  size = raster.grid.height * raster.grid.width * raster.dtype.itemsize
  if size > _SMALL_BYTES:
    return raster
  pixels = raster.read(
    None, 0, 0, raster.grid.height, raster.grid.width, allow_nan=True
  )
  return _Loaded(
    path, raster.grid, raster.dtype, raster.no_data, pixels, raster.scale
  )


@dataclasses.dataclass(frozen=True)
class _Loaded:
  """A map in memory, see `Mosaic`."""

  path: pathlib.Path
  grid: grids.Grid
  dtype: np.dtype
  no_data: float | None
  pixels: np.ndarray
  scale: tuple[float, float]
  num_bands: int = 1

  def read(self, bands, row, col, height, width, *, allow_nan=False):
    """See `tiles.Tile.read`; NaN is allowed."""
    del bands, allow_nan
    return self.pixels[row : row + height, col : col + width]


def _join(path, parts):
  first = parts[0]
  grid = first.grid
  size = np.array([grid.pixel_width, grid.pixel_height])
  west = min(tile.grid.west for tile in parts)
  north = max(tile.grid.north for tile in parts)
  placed = []
  for tile in parts:
    own = np.array([tile.grid.pixel_width, tile.grid.pixel_height])
    at = np.array([tile.grid.west - west, north - tile.grid.north]) / size
    off = np.abs(at - np.rint(at)).max()
    longest = max(tile.grid.height, tile.grid.width)
    if (
      tile.grid.epsg != grid.epsg
      or tile.dtype != first.dtype
      or (tile.no_data, tile.scale) != (first.no_data, first.scale)
      or off > _TOLERANCE
      or np.abs(own / size - 1).max() * longest > _TOLERANCE
    ):
      raise tiles.TileError(
        tile.path,
        "its projection, grid, dtype, scale or no-data value are not those"
        f" of {first.path.name}; gdalwarp makes one file of both",
      )
    col, row = (int(x) for x in np.rint(at))
    placed.append((row, col, tile))
  no_data = first.no_data
  if no_data is None:
    no_data = _unused(first.dtype)
  return Mosaic(
    path=path,
    grid=dataclasses.replace(
      grid,
      west=west,
      north=north,
      height=max(row + tile.grid.height for row, _, tile in placed),
      width=max(col + tile.grid.width for _, col, tile in placed),
    ),
    dtype=first.dtype,
    no_data=no_data,
    parts=tuple(placed),
    scale=first.scale,
  )


def _unused(dtype):
  """A value for the gaps between files that have no no-data value."""
  if dtype.kind == "f":
    return np.nan
  limits = np.iinfo(dtype)
  return limits.max if dtype.kind == "u" else limits.min


def is_all_around(grid):
  """Whether a map's last column borders on its first."""
  turn = 360 / grid.pixel_width
  return not grid.is_projected and abs(grid.width - turn) < 0.5


def read_window(raster, top, bottom, left, right):
  """Pixels of a window, `[rows, columns]`; columns wrap around."""
  width = raster.grid.width
  parts = []
  while left < right:
    start = left % width
    count = min(right - left, width - start)
    part = raster.read(None, top, start, bottom - top, count, allow_nan=True)
    parts.append(part[..., 0])
    left += count
  return np.concatenate(parts, axis=1)
