"""Strips and blocks of a TIFF page, and the pixels of a window in them."""

import numpy as np
import tifffile

# Bytes that decoding one strip or block may take.
_MAX_BLOCK_BYTES = 2**29


class UnusableError(ValueError):
  """A file that is not a usable tile; the message is the whole reason."""


def check_blocks(page):
  """Raises UnusableError if a page has fewer blocks than its size needs."""
  height, width = block_shape(page)
  blocks = -(-page.imagelength // height) * -(-page.imagewidth // width)
  if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
    blocks *= page.samplesperpixel
  if len(page.dataoffsets) < blocks:
    raise UnusableError(
      f"{page.imagelength} x {page.imagewidth} pixels need {blocks} blocks,"
      f" found {len(page.dataoffsets)}"
    )


def block_shape(page):
  """Returns the rows and columns of a page that are decoded together."""
  if page.is_tiled:
    return page.tilelength, page.tilewidth
  return min(page.rowsperstrip, page.imagelength), page.imagewidth


def read_window(page, row, col, height, width, no_data):
  """Decodes the strips or blocks of a page that touch a window.

  Args:
    page: A `tifffile.TiffPage` of an open file.
    row: First row.
    col: First column.
    height: Number of rows.
    width: Number of columns.
    no_data: Value of the blocks of a sparse file that were never written.

  Returns:
    The pixels, shape `[height, width, bands]`.
  """
  file = page.parent.filehandle
  ends = np.add(page.dataoffsets, page.databytecounts)
  if ends.max() > file.size:
    raise UnusableError(
      f"truncated: {file.size} bytes, expected {ends.max()} or more"
    )
  if page.is_memmappable and page.dataoffsets[0]:
    # Uncompressed: reads only the window, however large the strips.
    whole = page.asarray(out="memmap").reshape(page.shape)
    if page.axes == "SYX":
      whole = np.moveaxis(whole, 0, -1)
    rows, cols = slice(row, row + height), slice(col, col + width)
    window = np.array(whole[rows, cols], page.dtype)
    return window.reshape(height, width, page.samplesperpixel)
  block_height, block_width = block_shape(page)
  block_bytes = block_height * block_width * page.dtype.itemsize
  if page.planarconfig == tifffile.PLANARCONFIG.CONTIG:
    block_bytes *= page.samplesperpixel
  if block_bytes > _MAX_BLOCK_BYTES:
    raise UnusableError(
      f"compressed in blocks of {block_height} x {block_width} pixels,"
      f" {block_bytes >> 20} MiB each; write it with smaller ones, for"
      " instance by gdal_translate -co TILED=YES"
    )
  across = -(-page.imagewidth // block_width)
  down = -(-page.imagelength // block_height)
  # Planes of one band each, or a single one of all bands.
  planes = len(page.dataoffsets) // (across * down)
  # In memory as in the file, so that blocks are copied row by row.
  bands = page.samplesperpixel // planes
  window = np.empty((planes, height, width, bands), page.dtype)
  for plane in range(planes):
    for y in range(row // block_height, -(-(row + height) // block_height)):
      for x in range(col // block_width, -(-(col + width) // block_width)):
        index = (plane * down + y) * across + x
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        top, left = y * block_height, x * block_width
        upper, leftmost = max(top, row), max(left, col)
        bottom = min(top + block_height, row + height)
        right = min(left + block_width, col + width)
        target = window[
          plane, upper - row : bottom - row, leftmost - col : right - col
        ]
        if not count:
          target[:] = no_data
          continue
        file.seek(offset)
        block, _, _ = page.decode(
          file.read(count), index, jpegtables=page.jpegtables
        )
        target[:] = block[
          0, upper - top : bottom - top, leftmost - left : right - left
        ]
  return window[0] if planes == 1 else np.moveaxis(window[..., 0], 0, -1)
