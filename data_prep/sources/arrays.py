"""Patches and labels as NumPy arrays: `<tile>_train_s2.npy` and its labels.

Beside the patches, `[n, 128, 128, 10]`, lie their labels: either one file
`<tile>_train_label_geo.npy`, `[n, 36]`, or its parts `_label_kg` `[n, 31]`,
`_label_coords` `[n, 3]` and `_label_time` `[n, 2]`. All are memory-mapped.
Pixels are taken as they are: offsets and clouds have been dealt with.
"""

import collections
import contextlib
import dataclasses
import glob
import pathlib
from typing import ClassVar

import numpy as np

from data_prep import array_files, places, products, splits, tile_source, tiles
from data_prep.sources import sentinel2
from geojax import encodings, sphere

_IMAGES, _LABEL = "_s2.npy", "_label_"
# Names of the label files: of all labels, and of each of `encodings.LABELS`.
_WHOLE, _PARTS = "geo", ("kg", "coords", "time")
# Patches that are read together.
_TOGETHER = 256
# Half of a patch of 128 pixels of 10 m.
_HALF_SIDE_KM = 0.64


@dataclasses.dataclass(frozen=True)
class Arrays(tile_source.Source):
  """Arrays of patches anywhere below a folder."""

  bands: ClassVar[tuple[str, ...]] = products.BANDS
  contents: ClassVar[str] = "arrays"
  unused: ClassVar[tuple[str, ...]] = tile_source.OF_GRIDS

  def cut_tiles(self, directory, folder, executor_map=map):
    """Finds the arrays; see `Source.cut_tiles`."""
    del directory, executor_map
    paths = sorted(pathlib.Path(folder).rglob(f"*{_IMAGES}"))
    if not paths:
      raise tiles.TileError(folder, f"no *{_IMAGES} in it or below")
    return paths, []

  @contextlib.contextmanager
  def open_patches(self, path, config):
    """See `Source.open_patches`; patches near another split are left out."""
    path, size = pathlib.Path(path), config.patches.size
    images = array_files.load(path, (size, size, len(config.bands)))
    if images.dtype != np.dtype(config.dtype):
      raise tiles.TileError(
        path, f"dtype {images.dtype}, expected {config.dtype}"
      )
    labels = _load_labels(path, len(images))
    lat, lon = encodings.decode_coordinates(labels["coords"])
    lat, lon = np.float64(lat), np.float64(lon)
    half = np.rad2deg(_HALF_SIDE_KM / sphere.EARTH_RADIUS_KM)
    half_lon = half / np.maximum(np.cos(np.deg2rad(lat)), 0.01)
    split = config.patches.split.assign(
      lat - half, lon - half_lon, lat + half, lon + half_lon
    )
    dropped = int(np.count_nonzero(split == splits.DROPPED))
    sides = np.stack([np.full(len(lat), 2 * half), 2 * half_lon], axis=-1)
    left_out = {places.SPLIT: dropped}
    yield ArrayPatches(path, images, labels, split, sides, left_out)

  def files_beside(self, path):
    """The label files of an array, whole or in parts, sorted."""
    path = pathlib.Path(path)
    stem = glob.escape(path.name.removesuffix(_IMAGES))
    return sorted(path.parent.glob(f"{stem}{_LABEL}*.npy"))


@dataclasses.dataclass(frozen=True)
class ArrayPatches:
  """The patches of a file, like the `tile_patches.TilePatches` of a tile.

  Attributes:
    path: The patches' file.
    images: Memory-mapped, shape `[n, size, size, bands]`.
    labels: Labels by name, see `encodings.LABELS`, float32, `[n, numbers]`.
    split: Indices into `splits.SPLITS`, shape `[n]`.
    sides_deg: See `places.Places`.
    left_out: How many patches were left out by place, by reason.
    errors: Always empty; an error ends the file.
    num_files: 1.
    num_cropped: 0.
  """

  path: pathlib.Path
  images: np.ndarray
  labels: dict[str, np.ndarray]
  split: np.ndarray
  sides_deg: np.ndarray
  left_out: dict[str, int]
  errors: ClassVar[tuple[tiles.TileError, ...]] = ()
  num_files: ClassVar[int] = 1
  num_cropped: ClassVar[int] = 0

  def ids(self, index):
    """The `id` of some patches."""
    name = self.path.name.removesuffix(_IMAGES)
    return [f"{name}/{i}" for i in index]

  def read_together(self, index):
    """Yields parts of `index` that fit in memory easily."""
    for start in range(0, len(index), _TOGETHER):
      yield index[start : start + _TOGETHER]

  def cut(self, index):
    """See `tile_patches.TilePatches.cut`."""
    labels = {name: values[index] for name, values in self.labels.items()}
    lat, lon = encodings.decode_coordinates(labels["coords"])
    return {
      "image": np.asarray(self.images[index]),
      **labels,
      "lat": np.float32(lat),
      "lon": np.float32(lon),
      # There is no tile: the row is the patch's index in the file.
      "row": index.astype(np.int32),
      "col": np.zeros(len(index), np.int32),
      "id": self.ids(index),
      # The year is unknown; the label `date` has the day of the year.
      "acquired": [""] * len(index),
      "sides_deg": self.sides_deg[index],
    }, collections.Counter()


def _load_labels(path, count):
  """The labels of all patches by name, from one file or a file each."""
  stem = path.name.removesuffix(_IMAGES)
  whole, *parts = (
    path.with_name(f"{stem}{_LABEL}{name}.npy") for name in (_WHOLE, *_PARTS)
  )
  if whole.exists():
    found = encodings.split_label(
      array_files.load(whole, (encodings.LABEL_DIM,))
    )
  elif all(part.exists() for part in parts):
    found = {
      name: array_files.load(part, (width,))
      for part, (name, width) in zip(
        parts, encodings.LABELS.items(), strict=True
      )
    }
  else:
    raise tiles.TileError(
      path,
      f"no labels: neither {whole.name} nor"
      f" {', '.join(part.name for part in parts)}",
    )
  counts = {len(values) for values in found.values()}
  if counts != {count}:
    counts = ", ".join(map(str, sorted(counts)))
    raise tiles.TileError(path, f"{count} patches, but {counts} labels")
  found = {name: np.float32(values) for name, values in found.items()}
  valid = np.abs(found["climate"].sum(axis=1) - 1) < 1e-3
  for values in found.values():
    valid &= ((values >= -1e-5) & (values <= 1 + 1e-5)).all(axis=1)
  if not valid.all():
    raise tiles.TileError(
      path,
      f"{np.count_nonzero(~valid)} invalid labels, the first at"
      f" {np.argmin(valid)}: expected numbers in [0, 1], those of the climate"
      " summing to 1",
    )
  return found


CONFIG = dataclasses.replace(
  sentinel2.CONFIG,
  name="arrays",
  description="Patches and their labels as NumPy arrays.",
  source=Arrays(),
)
