"""Patches of a file of PhilEO-Bench, as `tile_patches` has those of a tile."""

import collections
import contextlib
import dataclasses
from typing import ClassVar

import numpy as np

from data_prep import array_files, phileo_files, targets, tiles
from data_prep.array_targets import ArrayTarget
from geojax import encodings

# Reasons for leaving patches out.
NO_DATA, HAS_NAN = "no data", "some pixels NaN"
# Targets by the name of the file.
REGION, BUCKET = "region", "bucket"

# Patches that are read together.
_TOGETHER = 256


@dataclasses.dataclass(frozen=True)
class PhilEOPatches:
  """The patches of a file, like the `tile_patches.TilePatches` of a tile.

  Attributes:
    images: The `phileo_files.Images`.
    pixels: Memory-mapped, shape `[n, size, size, bands]`.
    labels: Memory-mapped, by name, each `[n, ...]`; unknown ones are missing.
    split: Indices into `splits.SPLITS`, shape `[n]`.
    config: A `configs.GeoTilesConfig`.
    left_out: Always empty; pixels decide, once they are cut.
    errors: Always empty; an error ends the file.
    num_files: 1.
    num_cropped: 0.
  """

  images: phileo_files.Images
  pixels: np.ndarray
  labels: dict[str, np.ndarray]
  split: np.ndarray
  config: object
  left_out: ClassVar[dict[str, int]] = {}
  errors: ClassVar[tuple[tiles.TileError, ...]] = ()
  num_files: ClassVar[int] = 1
  num_cropped: ClassVar[int] = 0

  def ids(self, index):
    """The `id` of some patches."""
    return [f"{self.images.stem}/{i}" for i in index]

  def read_together(self, index):
    """Yields parts of `index` that fit in memory easily."""
    for start in range(0, len(index), _TOGETHER):
      yield index[start : start + _TOGETHER]

  def cut(self, index):
    """See `tile_patches.TilePatches.cut`; leaves out patches without data."""
    pixels = np.asarray(self.pixels[index])
    keep, left_out = _usable(pixels)
    if not keep.any():
      return {}, left_out
    pixels, index = pixels[keep], index[keep]
    count = len(index)

    def unknown(*shape):
      return np.full((count, *shape), np.nan, np.float32)

    return {
      "image": pixels,
      "lat": unknown(),
      "lon": unknown(),
      "date": unknown(encodings.LABELS["date"]),
      # There is no tile: the row is the patch's index in the file.
      "row": index.astype(np.int32),
      "col": np.zeros(count, np.int32),
      "id": self.ids(index),
      "acquired": [""] * count,
      "sides_deg": unknown(2),
      **{
        target.name: self._values(target, index)
        for target in (*self.config.maps, *self.config.targets)
      },
    }, left_out

  def _values(self, target, index):
    """Values of a target, shape `[m, ...]`."""
    if target.name in self.labels:
      found = np.asarray(self.labels[target.name][index])
      if isinstance(target, ArrayTarget):
        path = self.images.label(target.name)
        return target.convert(found, path, index)
      if target.kind == targets.CLASS:
        found = found.argmax(axis=1)
      return found.astype(target.dtype)
    region = self.images.region
    by_name = {REGION: region, BUCKET: phileo_files.BUCKET_OF.get(region, "")}
    if target.name in by_name:
      value, shape = target.parse(by_name[target.name]), ()
    elif isinstance(target, ArrayTarget):
      value, shape = target.unknown, (self.config.patches.size,) * 2
    else:
      value, shape = target.unknown, target.shape
    return np.broadcast_to(
      np.array(value, target.dtype), (len(index), *shape)
    ).copy()


@contextlib.contextmanager
def opened(path, config):
  """Opens the `PhilEOPatches` of a file.

  Raises:
    tiles.TileError: The file, or one of its labels, cannot be used.
  """
  images, size = phileo_files.parse(path), config.patches.size
  pixels = array_files.load(images.path, (size, size, len(config.bands)))
  shapes = {target.name: (size, size, 1) for target in config.maps} | {
    target.name: (len(target.classes),)
    for target in config.targets
    if target.name in phileo_files.OF_PATCHES
  }
  labels = {}
  for name, shape in shapes.items():
    if (file := images.label(name)).exists():
      labels[name] = label = array_files.load(file, shape)
      if label.dtype.kind not in "biuf":
        raise tiles.TileError(file, f"dtype {label.dtype}, expected numbers")
      if len(label) != len(pixels):
        raise tiles.TileError(
          images.path,
          f"{len(pixels)} patches, but {len(label)} labels in {file.name}",
        )
  split = phileo_files.SPLITS.index(images.split)
  split = np.full(len(pixels), split, np.int8)
  yield PhilEOPatches(images, pixels, labels, split, config)


def _usable(pixels):
  """Which patches to keep, and a Counter of the others by reason."""
  has_nan = np.zeros(len(pixels), bool)
  if pixels.dtype.kind == "f":
    has_nan = np.isnan(pixels).any(axis=(1, 2, 3))
    # NaN is no data, as 0 is.
    pixels = np.nan_to_num(pixels) if has_nan.any() else pixels
  is_empty = ~pixels.any(axis=(1, 2, 3))
  has_nan &= ~is_empty
  return ~is_empty & ~has_nan, collections.Counter(
    {NO_DATA: int(is_empty.sum()), HAS_NAN: int(has_nan.sum())}
  )
