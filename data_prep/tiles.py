"""GeoTIFF tiles: pixels, location, date and names of the bands.

A tile is one TIFF page with its bands last, north up, with the GeoTIFF tags of
its location: 33550 and 33922 (or an unrotated 34264) and the GeoKeys. The date
is the TIFF's DateTime. Band names are those that GDAL, QGIS and rasterio show:
items DESCRIPTION of GDAL's metadata tag. The no-data value is GDAL's tag 42113;
it fills the blocks of a sparse file that were never written.

References:
  OGC GeoTIFF Standard 1.1, 2019.
  TIFF Revision 6.0, 1992.
"""

import contextlib
import dataclasses
import datetime
import logging
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import tifffile

from data_prep import grids, rasters, tile_blocks
from data_prep.tile_blocks import UnusableError

# TIFF tags.
PIXEL_SCALE = 33550
TIEPOINT = 33922
TRANSFORMATION = 34264
GEO_KEYS = 34735
GDAL_METADATA = 42112
GDAL_NO_DATA = 42113
_AFFINE_TAGS = (PIXEL_SCALE, TIEPOINT, TRANSFORMATION)

_DATE_FORMAT = "%Y:%m:%d %H:%M:%S"
# The GeoTIFF standard's code for "defined by the user": no EPSG code.
_USER_DEFINED = 32767


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
    with contextlib.ExitStack() as stack, _read_errors(self.path):
      page = self.page
      if page is None:
        page = stack.enter_context(_open_page(self.path))
      pixels = tile_blocks.read_window(
        page, row, col, height, width, self.no_data or 0
      )
    if indices != every:
      pixels = pixels[..., indices]
    may_be_nan = pixels.dtype.kind == "f" and not allow_nan
    if may_be_nan and np.isnan(pixels).any():
      raise TileError(self.path, "NaN among the pixels")
    return pixels


def open_tile(path, dtype=None):
  """Reads a tile's header; see `opened`."""
  with opened(path, dtype) as tile:
    return dataclasses.replace(tile, page=None)


@contextlib.contextmanager
def opened(path, dtype=None):
  """Reads a tile's header and keeps its file open for `Tile.read`.

  Args:
    path: A GeoTIFF file.
    dtype: NumPy dtype that the pixels must have; any by default.

  Yields:
    A `Tile`.

  Raises:
    TileError: The file is missing, corrupt or no TIFF, has no georeference or a
      rotated one, an unreadable date or no-data value, or another dtype.
  """
  path = pathlib.Path(path)
  with contextlib.ExitStack() as stack:
    # The caller's errors, raised at `yield`, are not those of the file.
    with _read_errors(path):
      tile = _read_header(path, stack.enter_context(_open_page(path)), dtype)
    yield tile


def _read_header(path, page, dtype):
  west, north, pixel_width, pixel_height = _read_affine(page)
  keys = page.geotiff_tags or {}
  epsg = int(
    keys.get("ProjectedCSTypeGeoKey")
    or keys.get("GeographicTypeGeoKey")
    or _USER_DEFINED
  )
  if epsg == _USER_DEFINED:
    raise UnusableError("no georeference: no EPSG code among its GeoKeys")
  is_area = int(keys.get("GTRasterTypeGeoKey", 1)) == 1
  if not is_area:
    # The tie point is the upper left pixel's centre.
    west -= pixel_width / 2
    north += pixel_height / 2
  if page.axes not in ("YX", "YXS", "SYX"):
    raise UnusableError(f"axes {page.axes}, expected rows, columns and bands")
  if page.dtype is None:
    raise UnusableError("its pixels are of a type that cannot be read")
  if dtype is not None and page.dtype != np.dtype(dtype):
    raise UnusableError(f"dtype {page.dtype}, expected {np.dtype(dtype)}")
  tile_blocks.check_blocks(page)
  return Tile(
    path=path,
    grid=grids.Grid(
      height=page.imagelength,
      width=page.imagewidth,
      west=west,
      north=north,
      pixel_width=pixel_width,
      pixel_height=pixel_height,
      epsg=epsg,
    ),
    dtype=page.dtype,
    num_bands=page.samplesperpixel,
    bands=_read_bands(page),
    is_area=is_area,
    date=_read_date(page),
    block_height=1 if page.is_memmappable else tile_blocks.block_shape(page)[0],
    no_data=_read_no_data(page),
    page=page,
  )


@contextlib.contextmanager
def as_tile_error(path, where=""):
  """Turns whatever is raised inside into the TileError of one file.

  Decoders and projections raise errors of many types, and so does a full disk.
  A `rasters.RasterError` passes unchanged: all tiles need that raster.

  Args:
    path: The tile, or the input that a tile is made of.
    where: Prefix of the reason.
  """
  try:
    yield
  except (TileError, rasters.RasterError):
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
def _read_errors(path):
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


def _read_affine(page):
  """Upper left corner and pixel size."""
  tags = {
    code: page.tags[code].value for code in _AFFINE_TAGS if code in page.tags
  }
  if TRANSFORMATION in tags:
    a, b, _, x, d, e, _, y = tags[TRANSFORMATION][:8]
    if b or d:
      raise UnusableError("rotated transform, expected north up")
    pixel_width, pixel_height, west, north = a, -e, x, y
  elif PIXEL_SCALE in tags and TIEPOINT in tags:
    pixel_width, pixel_height = tags[PIXEL_SCALE][:2]
    col, row, _, x, y, _ = tags[TIEPOINT][:6]
    west, north = x - col * pixel_width, y + row * pixel_height
  else:
    raise UnusableError("no georeference: GeoTIFF tags 33550 and 33922 missing")
  if not (pixel_width > 0 and pixel_height > 0):
    raise UnusableError(
      f"pixel size ({pixel_width}, {pixel_height}), expected north up"
    )
  return west, north, pixel_width, pixel_height


def _read_bands(page):
  """Band names from GDAL's metadata, or ()."""
  if GDAL_METADATA not in page.tags:
    return ()
  root = ElementTree.fromstring(page.tags[GDAL_METADATA].value)
  names = {
    int(item.get("sample")): item.text or ""
    for item in root.iter("Item")
    if item.get("role") == "description" and item.get("sample") is not None
  }
  if set(names) != set(range(page.samplesperpixel)):
    return ()
  return tuple(names[i] for i in range(page.samplesperpixel))


def _read_date(page):
  if "DateTime" not in page.tags:
    return None
  return datetime.datetime.strptime(page.tags["DateTime"].value, _DATE_FORMAT)


def _read_no_data(page):
  """GDAL's no-data value as a pixel has it; None if no pixel can."""
  if GDAL_NO_DATA not in page.tags:
    return None
  value = float(page.tags[GDAL_NO_DATA].value.strip(" \0"))
  if page.dtype.kind == "f":
    # The lowest double, which GDAL writes, is -inf in single precision.
    with np.errstate(over="ignore"):
      return float(page.dtype.type(value))
  if page.dtype.kind in "iu" and value.is_integer():
    limits = np.iinfo(page.dtype)
    if limits.min <= value <= limits.max:
      return int(value)
  return None
