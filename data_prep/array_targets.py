"""Targets of each pixel that come with the images, as arrays of their own."""

import dataclasses
import functools

import numpy as np

from data_prep import land_cover, maps, tiles
from data_prep.pixel_targets import CLASS_MAP, VALUE_MAP, PixelTarget

_NO_DATA = 0
# A code that the legend lacks.
_NO_CLASS = 254
# Above it a pixel counts as built, or as a road, in the benchmark's scores.
_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True)
class ArrayTarget(PixelTarget):
  """A target that is read from arrays: WorldCover's classes, or values >= 0.

  Attributes:
    without: Names of the regions that have no such arrays: it is unknown there.
  """

  without: tuple[str, ...] = ()

  @property
  def about(self):
    """See `PixelTarget.about`."""
    about = {"without": list(self.without)} if self.without else {}
    if self.kind == VALUE_MAP:
      about["threshold"] = _THRESHOLD
    return about

  def classes(self):
    """See `PixelTarget.classes`."""
    return tuple(zip(*land_cover.WORLD_COVER.values(), strict=True))

  def convert(self, pixels, path, index):
    """Makes what records hold.

    Args:
      pixels: Codes or values of some patches, shape `[m, size, size, 1]`.
      path: Their file, for errors.
      index: Positions of the patches in the file, shape `[m]`.

    Returns:
      Classes or values, shape `[m, size, size]`.

    Raises:
      tiles.TileError: There is a code that no class has, or a value that is no
        share or density, or beyond float16.
    """
    pixels = np.asarray(pixels)[..., 0]
    if self.kind == CLASS_MAP:
      found, is_wrong = _classes(pixels)
      expected = f"a code of WorldCover, or {_NO_DATA} where it is unknown"
    else:
      limit = np.finfo(np.float16).max
      is_wrong = (pixels < 0) | (pixels > limit)
      found = np.where(is_wrong, 0, pixels).astype(np.float16)
      expected = f"0 to {limit:g}, or NaN where it is unknown"
    if is_wrong.any():
      patch, *at = np.argwhere(is_wrong)[0]
      raise tiles.TileError(
        path,
        f"{pixels[patch, *at]:g} at row {at[0]}, column {at[1]} of patch"
        f" {index[patch]}, expected {expected}",
      )
    return found


def _classes(codes):
  """Classes of codes, uint8, and which codes have none."""
  known = ~np.isnan(codes)
  # Other types than uint8 may hold more.
  whole = np.where(known, np.clip(codes, 0, 255), _NO_DATA).astype(np.uint8)
  found = _class_of_code()[whole]
  return found, (found == _NO_CLASS) | (known & (whole != codes))


@functools.cache
def _class_of_code():
  table = np.full(256, _NO_CLASS, np.uint8)
  table[_NO_DATA] = maps.UNKNOWN
  table[list(land_cover.WORLD_COVER)] = np.arange(len(land_cover.WORLD_COVER))
  return table
