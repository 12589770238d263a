"""Images as tiles, of one file or of a file a band.

The bands of a scene may have resolutions that differ by whole factors. They are
read on the grid of the finest one: bilinearly, and bands of classes as the
pixel they lie in.
"""

import contextlib
import dataclasses

import numpy as np

from data_prep import grids, image_files, tiles

# Grids agree if they differ by no more than this share of a pixel.
_TOLERANCE = 0.01


@contextlib.contextmanager
def opened(files, bands, classes=(), spot=(np.nan, np.nan)):
  """Opens an image for as long as the context lasts.

  Args:
    files: Path of the image, or of each of its bands.
    bands: Names of the bands, those of the files if there are several; empty
      to leave an image its own.
    classes: Those of the bands that hold classes.
    spot: Latitude and longitude of an image that has no georeference.

  Yields:
    A `tiles.Tile`.

  Raises:
    tiles.TileError: A file cannot be used, has another number of bands, or its
      grid does not fit that of the others.
  """
  with contextlib.ExitStack() as stack:
    tile, *others = (
      stack.enter_context(image_files.opened(path, spot)) for path in files
    )
    if len(files) > 1:
      tile = _stack((tile, *others), bands, classes)
    elif bands and not set(bands) <= set(tile.bands):
      if tile.num_bands != len(bands):
        raise tiles.TileError(
          tile.path,
          f"{tile.num_bands} bands, expected {len(bands)}: {', '.join(bands)}"
          " (--bands names them)",
        )
      tile = dataclasses.replace(tile, bands=tuple(bands))
    yield tile


@dataclasses.dataclass(frozen=True)
class _Stack(tiles.Tile):
  """A scene of a tile a band.

  Attributes:
    parts: The tiles.
    factors: For each, pixels of the scene along the side of one of its pixels.
    classes: Whether each holds classes.
  """

  parts: tuple[tiles.Tile, ...] = ()
  factors: tuple[int, ...] = ()
  classes: tuple[bool, ...] = ()

  def decode(self, row, col, height, width):
    """See `tiles.Tile.decode`."""
    pixels = np.empty((height, width, self.num_bands), self.dtype)
    for i, (tile, factor, is_class) in enumerate(
      zip(self.parts, self.factors, self.classes, strict=True)
    ):
      pixels[..., i] = (
        tile.read(None, row, col, height, width)[..., 0]
        if factor == 1
        else _read_finer(tile, factor, is_class, row, col, height, width)
      )
    return pixels


def _stack(parts, bands, classes):
  finest = max(parts, key=lambda tile: tile.grid.height)
  factors = []
  for tile, band in zip(parts, bands, strict=True):
    if tile.num_bands != 1:
      raise tiles.TileError(
        tile.path, f"{tile.num_bands} bands, expected one: column {band}"
      )
    factors.append(_factor(tile, finest))
  return _Stack(
    path=parts[0].path,
    grid=finest.grid,
    dtype=np.result_type(*(tile.dtype for tile in parts)),
    num_bands=len(parts),
    bands=tuple(bands),
    is_area=True,
    date=None,
    block_height=max(
      t.block_height * f for t, f in zip(parts, factors, strict=True)
    ),
    parts=tuple(parts),
    factors=tuple(factors),
    classes=tuple(band in classes for band in bands),
  )


def _factor(tile, finest):
  """How many times coarser a tile is; raises TileError if its grid differs."""
  grid, fine = tile.grid, finest.grid
  factor = round(fine.height / grid.height)

  def fail(found, expected):
    raise tiles.TileError(
      tile.path, f"{found}, but {finest.path.name} has {expected}"
    )

  if (grid.height * factor, grid.width * factor) != (fine.height, fine.width):
    fail(
      f"{grid.height} x {grid.width} pixels",
      f"{fine.height} x {fine.width}, no whole multiple of it",
    )
  if type(grid) is not type(fine):
    fail(_georeference(grid), _georeference(fine))
  if isinstance(grid, grids.Spot):
    return factor
  if grid.epsg != fine.epsg:
    fail(f"EPSG:{grid.epsg}", f"EPSG:{fine.epsg}")
  size = fine.pixel_width, fine.pixel_height
  off = max(
    abs(grid.west - fine.west) / size[0],
    abs(grid.north - fine.north) / size[1],
    abs(grid.pixel_width - factor * size[0]) * grid.width / size[0],
    abs(grid.pixel_height - factor * size[1]) * grid.height / size[1],
  )
  if off > _TOLERANCE:
    fail(
      f"upper left corner {grid.west:.10g}, {grid.north:.10g} and pixels of"
      f" {grid.pixel_width:.10g} x {grid.pixel_height:.10g}",
      f"{fine.west:.10g}, {fine.north:.10g} and {size[0]:.10g} x"
      f" {size[1]:.10g}",
    )
  return factor


def _georeference(grid):
  return "no georeference" if isinstance(grid, grids.Spot) else "one"


def _read_finer(tile, factor, is_class, row, col, height, width):
  """A window of a band on a grid that is `factor` times as fine."""
  if is_class:
    (top, bottom), (left, right) = (
      (start // factor, -(-(start + count) // factor))
      for start, count in ((row, height), (col, width))
    )
    pixels = tile.read(None, top, left, bottom - top, right - left)[..., 0]
    rows = np.arange(row, row + height) // factor - top
    cols = np.arange(col, col + width) // factor - left
    return pixels[np.ix_(rows, cols)]
  (top, down), (left, right) = (
    _between(start, count, factor, size)
    for start, count, size in (
      (row, height, tile.grid.height),
      (col, width, tile.grid.width),
    )
  )
  pixels = tile.read(None, top, left, down.shape[1], right.shape[1])[..., 0]
  fine = down @ pixels.astype(np.float64) @ right.T
  if tile.no_data is not None:
    # A mixture with no data would be a wrong value.
    empty = (pixels == tile.no_data).astype(np.float64)
    mixed = down @ empty @ right.T > 0
    nearest = pixels[np.ix_(down.argmax(1), right.argmax(1))]
    fine = np.where(mixed, nearest, fine)
  if tile.dtype.kind in "iu":
    # Halves up; rounding errors of the sums must not decide.
    fine = np.floor(fine + 0.5 + 1e-6)
  return fine.astype(tile.dtype)


def _between(start, count, factor, size):
  """First coarse pixel, and weights `[count, coarse]` of the fine ones."""
  position = (np.arange(start, start + count) + 0.5) / factor - 0.5
  position = np.clip(position, 0, size - 1)
  first, last = int(position[0]), int(np.ceil(position[-1]))
  coarse = np.arange(first, last + 1)
  return first, np.maximum(0, 1 - np.abs(position[:, None] - coarse))
