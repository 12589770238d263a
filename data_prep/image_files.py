"""Images in common formats, opened as tiles: TIFF, PNG, JPEG and NumPy arrays.

They lie on disk or in a zip archive, and need no georeference. A zip archive is
read in place: `DIR/rgb.zip/Forest/1.jpg` is the member `Forest/1.jpg` of
`DIR/rgb.zip`.
"""

import contextlib
import dataclasses
import functools
import io
import pathlib
import warnings
import zipfile

import imagecodecs
import numpy as np
from PIL import Image

from data_prep import grids, tiles
from data_prep.tile_blocks import UnusableError

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy")

# Bytes of one member of an archive, which is decompressed as a whole: one that
# claims more may be made to fill the memory. Pillow has a limit of its own.
_MAX_MEMBER_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Picture(tiles.Tile):
  """An image that is decoded as a whole, when its pixels are first asked for.

  Attributes:
    load: Returns the pixels, shape `[height, width, num_bands]`.
  """

  load: object = dataclasses.field(default=None, compare=False, repr=False)

  def decode(self, row, col, height, width):
    """See `tiles.Tile.decode`."""
    return self.load()[row : row + height, col : col + width]


@contextlib.contextmanager
def opened(path, spot=(np.nan, np.nan)):
  """Opens an image for as long as the context lasts.

  Args:
    path: A file, or a member of a zip archive.
    spot: Latitude and longitude of an image that has no georeference.

  Yields:
    A `tiles.Tile`; its grid is a `grids.Spot` if the file has no georeference.

  Raises:
    tiles.TileError: The file is missing, corrupt or of no known format.
  """
  path = pathlib.Path(path)
  suffix = path.suffix.lower()
  with contextlib.ExitStack() as stack:
    with tiles.read_errors(path):
      file = stack.enter_context(_open_bytes(path))
      if suffix in (".tif", ".tiff"):
        tile = stack.enter_context(tiles.opened(path, file=file, spot=spot))
        if tile.page.photometric.name == "PALETTE":
          raise UnusableError(_PALETTE)
      elif suffix == ".npy":
        tile = _open_array(path, file, spot)
      elif suffix in SUFFIXES:
        tile = stack.enter_context(_open_picture(path, file, spot))
      else:
        raise UnusableError(
          f"{suffix or 'no suffix'}, expected one of {', '.join(SUFFIXES)}"
        )
    yield tile


@functools.lru_cache(maxsize=16)
def open_archive(path):
  """Opens a zip archive, once a process: its list of members may be long."""
  try:
    return zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise tiles.TileError(path, f"no zip archive: {error}") from error


def split_archive(path):
  """Splits a path into that of an archive and a member's name, or None."""
  archive, found, member = str(path).partition(".zip/")
  return (pathlib.Path(f"{archive}.zip"), member) if found else (path, None)


@contextlib.contextmanager
def _open_bytes(path):
  """Opens a file on disk, or a member of an archive in memory."""
  archive, member = split_archive(path)
  # A folder may be called so, too.
  if member is None or path.exists():
    with open(path, "rb") as file:
      yield file
    return
  try:
    info = open_archive(archive).getinfo(member)
  except KeyError:
    raise UnusableError(f"no such member of {archive}") from None
  if info.file_size > _MAX_MEMBER_BYTES:
    raise UnusableError(
      f"{info.file_size:,} bytes when decompressed, more than"
      f" {_MAX_MEMBER_BYTES:,}: if that is right, unzip the archive"
    )
  yield io.BytesIO(open_archive(archive).read(member))


_PALETTE = (
  "its pixels are indices of a palette; convert it to RGB (PIL:"
  " image.convert('RGB')) or, if they are classes, to gray"
)
# Pillow's modes whose bands are the file's own.
_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1, "I;16B": 1}


@contextlib.contextmanager
def _open_picture(path, file, spot):
  expected = ("PNG",) if path.suffix.lower() == ".png" else ("JPEG", "MPO")
  try:
    with warnings.catch_warnings(
      action="error", category=Image.DecompressionBombWarning
    ):
      image = Image.open(file, formats=("PNG", "JPEG"))
  except (Image.DecompressionBombError, Image.DecompressionBombWarning):
    raise UnusableError(
      f"more than {Image.MAX_IMAGE_PIXELS:,} pixels: if that is right, convert"
      " it to GeoTIFF (gdal_translate -co TILED=YES)"
    ) from None
  with image:
    if image.format not in expected:
      raise UnusableError(f"a {image.format} by its content")
    if getattr(image, "n_frames", 1) > 1:
      raise UnusableError(
        f"animated, {image.n_frames} frames; save the one that is meant"
      )
    if image.mode == "P":
      raise UnusableError(_PALETTE)
    if image.mode not in _MODES:
      raise UnusableError(
        f"colours of mode {image.mode}; convert it to RGB (PIL:"
        " image.convert('RGB'))"
      )
    # Pillow reads 16 bits of colours as 8.
    deep = image.format == "PNG" and _png_bits(file) == 16

    @functools.cache
    def load():
      if deep:
        file.seek(0)
        pixels = imagecodecs.png_decode(file.read())
      else:
        pixels = np.asarray(image)
      return pixels.reshape(image.height, image.width, -1)

    yield _picture(
      path,
      spot,
      (image.height, image.width, _MODES[image.mode]),
      np.dtype(np.uint16 if deep else np.uint8),
      load,
    )


def _png_bits(file):
  """Bits of a sample, from the header of a PNG."""
  position = file.tell()
  file.seek(24)
  bits = file.read(1)[0]
  file.seek(position)
  return bits


def _open_array(path, file, spot):
  if isinstance(file, io.BytesIO):
    array = np.load(file, allow_pickle=False)
  else:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
  if not isinstance(array, np.ndarray) or array.ndim not in (2, 3):
    found = getattr(array, "shape", type(array).__name__)
    raise UnusableError(
      f"an array of shape {found}, expected rows, columns and bands"
    )
  if array.dtype.kind not in "uif":
    raise UnusableError(f"an array of {array.dtype}, expected numbers")
  array = array.reshape(*array.shape[:2], -1)
  dtype = array.dtype.newbyteorder("=")
  return _picture(
    path, spot, array.shape, dtype, lambda: np.asarray(array, dtype)
  )


def _picture(path, spot, shape, dtype, load):
  height, width, num_bands = shape
  return Picture(
    path=path,
    grid=grids.Spot(height, width, *spot),
    dtype=dtype,
    num_bands=num_bands,
    bands=(),
    is_area=True,
    date=None,
    block_height=height,
    load=load,
  )
