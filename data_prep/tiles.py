"""GeoTIFF tiles: pixels, location, date and names of the bands.

A tile is one TIFF page with its bands last, north up; `geotiff_tags` reads its
tags. The date is the TIFF's DateTime. Band names are those that GDAL, QGIS and
rasterio show. The no-data value fills the blocks of a sparse file that were
never written.
"""

import contextlib
import dataclasses
import datetime
import logging
import pathlib

import numpy as np
import tifffile

from data_prep import geotiff_tags, grids, rasters, tile_blocks
from data_prep.tile_blocks import UnusableError
from geojax import files


class TileError(Exception):
  """A tile, or another input, that cannot be used: the file and the reason."""

  def __init__(self, path, reason):
    super().__init__(path, reason)
    self.path = path
    self.reason = reason

  def __str__(self):
    return f"{self.path}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Tile:
  """A tile's header; `read` returns pixels.

  Attributes:
    path: The file.
    grid: Where its pixels lie.
    dtype: NumPy dtype of the pixels.
    num_bands: Number of bands.
    bands: Names of the bands in the file's order; empty if it names none.
    is_area: Whether the file counts pixels as areas, or else as points; the
      edges of the grid are the pixels' edges in either case.
    date: When the tile was seen, or None.
    block_height: Rows that are decoded together; 1 without compression.
    no_data: Value of pixels without data, or None.
    scale: Scale and offset that the file gives its first band: value = scale *
      pixel + offset.
    page: The page of the file while it is open, see `opened`, or None.
  """

  path: pathlib.Path
  grid: grids.Grid
  dtype: np.dtype
  num_bands: int
  bands: tuple[str, ...]
  is_area: bool
  date: datetime.datetime | None
  block_height: int = 1
  no_data: float | None = None
  scale: tuple[float, float] = (1.0, 0.0)
  page: tifffile.TiffPage | None = dataclasses.field(
    default=None, compare=False, repr=False
  )

  def band_indices(self, bands):
    """Returns indices of named bands; raises TileError if one is missing."""
    missing = [band for band in bands if band not in self.bands]
    if missing:
      has = ", ".join(self.bands) or "no named band"
      raise TileError(
        self.path, f"band {', '.join(missing)} missing, it has {has}"
      )
    return [self.bands.index(band) for band in bands]

  def read(
    self, bands, row=0, col=0, height=None, width=None, *, allow_nan=False
  ):
    """Reads a window, decoding only the strips or blocks that it touches.

    Args:
      bands: Names of the bands to read, in order; None for all.
      row: First row.
      col: First column.
      height: Number of rows; by default all to the tile's end.
      width: Number of columns; by default all to the tile's end.
      allow_nan: Whether pixels may be NaN.

    Returns:
      The pixels, shape `[height, width, len(bands)]`.

    Raises:
      ValueError: The window leaves the tile.
      TileError: A band is missing, the file is corrupt or a pixel is NaN.
    """
    grid = self.grid
    height = grid.height - row if height is None else height
    width = grid.width - col if width is None else width
    if not (
      0 <= row <= row + height <= grid.height
      and 0 <= col <= col + width <= grid.width
    ):
      raise ValueError(
        f"window of {height} x {width} at ({row}, {col}) leaves "
        f"{self.path} of {grid.height} x {grid.width}"
      )
    every = list(range(self.num_bands))
    indices = every if bands is None else self.band_indices(bands)
    with read_errors(self.path):
      pixels = self.decode(row, col, height, width)
    if indices != every:
      pixels = pixels[..., indices]
    may_be_nan = pixels.dtype.kind == "f" and not allow_nan
    if may_be_nan and np.isnan(pixels).any():
      raise TileError(self.path, "NaN among the pixels")
    return pixels

  def decode(self, row, col, height, width):
    """Decodes all bands of a window, `[height, width, num_bands]`."""
    with contextlib.ExitStack() as stack:
      page = self.page
      if page is None:
        page = stack.enter_context(_open_page(self.path))
      return tile_blocks.read_window(
        page, row, col, height, width, self.no_data or 0
      )


def open_tile(path, dtype=None, **kwargs):
  """Reads a tile's header; see `opened`."""
  with opened(path, dtype, **kwargs) as tile:
    return dataclasses.replace(tile, page=None)


@contextlib.contextmanager
def opened(path, dtype=None, *, file=None, spot=None, epsg=0):
  """Reads a tile's header and keeps its file open for `Tile.read`.

  Args:
    path: A GeoTIFF file; one in a bucket is copied to this machine for as long
      as the context lasts.
    dtype: NumPy dtype that the pixels must have; any by default.
    file: The open file to read from, if it is not on disk at `path`.
    spot: For files of any origin: latitude and longitude of one that has no
      georeference, which is an error otherwise. The TIFF's DateTime, which may
      be when the file was made, is then not read.
    epsg: Code of the projection of a file that defines its own; 0: an error.

  Yields:
    A `Tile`.

  Raises:
    TileError: The file is missing, corrupt or no TIFF, has no georeference or a
      rotated one, an unreadable date or no-data value, or another dtype.
  """
  path = files.path(path)
  with contextlib.ExitStack() as stack:
    if file is None:
      file = stack.enter_context(files.local(path))
    # The caller's errors, raised at `yield`, are not those of the file.
    with read_errors(path):
      page = stack.enter_context(_open_page(file))
      tile = _read_header(path, page, dtype, spot, epsg)
    yield tile


def _read_header(path, page, dtype, spot, epsg):
  grid, is_area = geotiff_tags.read_grid(page, spot, epsg)
  if page.axes not in ("YX", "YXS", "SYX"):
    raise UnusableError(f"axes {page.axes}, expected rows, columns and bands")
  if page.dtype is None:
    raise UnusableError("its pixels are of a type that cannot be read")
  if dtype is not None and page.dtype != np.dtype(dtype):
    raise UnusableError(f"dtype {page.dtype}, expected {np.dtype(dtype)}")
  tile_blocks.check_blocks(page)
  return Tile(
    path=path,
    grid=grid,
    dtype=page.dtype,
    num_bands=page.samplesperpixel,
    bands=geotiff_tags.read_bands(page),
    is_area=is_area,
    date=geotiff_tags.read_date(page) if spot is None else None,
    block_height=1 if page.is_memmappable else tile_blocks.block_shape(page)[0],
    no_data=geotiff_tags.read_no_data(page),
    scale=geotiff_tags.read_scale(page),
    page=page,
  )


@contextlib.contextmanager
def as_tile_error(path, where=""):
  """Turns whatever is raised inside into the TileError of one file.

  Decoders and projections raise errors of many types, and so does a full disk.
  A `rasters.RasterError` passes unchanged: all tiles need that raster. So does
  a `files.StorageError`: the tile may be good.

  Args:
    path: The tile, or the input that a tile is made of.
    where: Prefix of the reason.
  """
  try:
    yield
  except (TileError, rasters.RasterError, files.StorageError):
    raise
  except Exception as error:
    text = " ".join(str(error).split())
    # Texts of other errors, such as a KeyError, are not sentences.
    if not (isinstance(error, ValueError | OSError) and " " in text):
      text = _cannot_be_read(error)
    raise TileError(path, where + text) from error


@contextlib.contextmanager
def collect_errors(errors, path, where=""):
  """`as_tile_error`, but appends the error to a list instead of raising it."""
  try:
    with as_tile_error(path, where):
      yield
  except TileError as error:
    errors.append(error)


@contextlib.contextmanager
def _open_page(path):
  # tifffile logs each tag that it cannot read, before reading the page fails.
  logging.getLogger("tifffile").setLevel(logging.CRITICAL)
  with tifffile.TiffFile(path) as tif:
    yield tif.pages.first


@contextlib.contextmanager
def read_errors(path):
  """Turns whatever reading a file raises into a TileError."""
  try:
    yield
  except TileError:
    raise
  except UnusableError as error:
    raise TileError(path, str(error)) from error
  except FileNotFoundError:
    raise TileError(path, "no such file") from None
  except Exception as error:
    raise TileError(path, _cannot_be_read(error)) from error


def _cannot_be_read(error):
  text = " ".join(str(error).split())
  return f"cannot be read ({type(error).__name__}: {text})"
