"""Patches and labels as NumPy arrays: `<tile>_train_s2.npy` and its labels.

Beside the patches, `[n, 128, 128, 10]`, lie their labels: either one file
`<tile>_train_label_geo.npy`, `[n, 36]`, or `_label_kg` `[n, 31]`,
`_label_coords` `[n, 3]` and `_label_time` `[n, 2]`, which are put together. All
are memory-mapped. Pixels are taken as they are: who wrote the arrays knows of
offsets and clouds.
"""

import collections
import dataclasses
import glob
import pathlib
from typing import ClassVar

import numpy as np

from data_prep import products, sources, splits, tiles
from geojax import encodings, sphere

_IMAGES, _LABEL = "_s2.npy", "_label_"
_WHOLE, _PARTS = "geo", {"kg": 31, "coords": 3, "time": 2}
# Patches that are read together.
_TOGETHER = 256
# Half of a patch of 128 pixels of 10 m.
_HALF_SIDE_KM = 0.64


@dataclasses.dataclass(frozen=True)
class ArrayFiles:
  """Arrays of patches below a folder, as a source of `geo_tiles`."""

  bands: ClassVar[tuple[str, ...]] = products.BANDS
  # What records tell beside image, label, place and date.
  features: ClassVar[dict[str, type]] = {}

  def fetch(self, download_dir, manual_dir):
    """Makes sure that the folder is there; see `sources.require_folder`."""
    del download_dir
    return sources.require_folder(manual_dir, "arrays")

  def cut_tiles(self, directory, folder, executor_map=map):
    """Finds the arrays; there is nothing to cut.

    Args:
      directory: Where other sources put their tiles.
      folder: As of `fetch`.
      executor_map: `map`, or that of an executor of processes.

    Returns:
      Paths of the patches' files, sorted, and a list of errors: none.

    Raises:
      tiles.TileError: If there is none.
    """
    del directory, executor_map
    paths = sorted(pathlib.Path(folder).rglob(f"*{_IMAGES}"))
    if not paths:
      raise tiles.TileError(folder, f"no *{_IMAGES} in it or below")
    return paths, []


@dataclasses.dataclass(frozen=True)
class ArrayPatches:
  """The patches of a file, as `tile_patches.TilePatches` has those of a tile.

  Attributes:
    path: The patches' file.
    images: Memory-mapped, shape `[n, size, size, bands]`.
    label: Geo labels, float32, shape `[n, 36]`.
    split: Indices into `splits.SPLITS`, shape `[n]`.
    left_out: How many patches were left out by place, by reason.
  """

  path: pathlib.Path
  images: np.ndarray
  label: np.ndarray
  split: np.ndarray
  left_out: dict[str, int]

  def read_together(self, index):
    """Yields parts of `index`, as many patches as memory holds with ease."""
    for start in range(0, len(index), _TOGETHER):
      yield index[start : start + _TOGETHER]

  def cut(self, index):
    """Cuts some patches; see `tile_patches.TilePatches.cut`."""
    label = self.label[index]
    lat, lon = encodings.decode_coordinates(label[:, encodings.COORDS])
    name = self.path.name.removesuffix(_IMAGES)
    return {
      "image": np.asarray(self.images[index]),
      "label": label,
      "lat": np.float32(lat),
      "lon": np.float32(lon),
      # Arrays tell neither; the row is the patch's place in the file.
      "row": index.astype(np.int32),
      "col": np.zeros(len(index), np.int32),
      "id": [f"{name}/{i}" for i in index],
      # Nobody knows the year; the day of it is in the label.
      "date": [""] * len(index),
    }, collections.Counter()


def open_arrays(path, config):
  """Opens a file of patches and its labels.

  Args:
    path: The patches' file.
    config: A `geo_tiles.GeoTilesConfig`.

  Returns:
    Its `ArrayPatches`. Patches that come too near to another split's block are
    left out.

  Raises:
    tiles.TileError: If a file is missing or corrupt, shapes or types are not as
      expected, numbers differ, or a label is none.
  """
  path, size = pathlib.Path(path), config.patches.size
  images = _load(path, (size, size, len(config.bands)))
  if images.dtype != np.dtype(config.dtype):
    raise tiles.TileError(
      path, f"dtype {images.dtype}, expected {config.dtype}"
    )
  label = _load_label(path, len(images))
  lat, lon = encodings.decode_coordinates(label[:, encodings.COORDS])
  lat, lon = np.float64(lat), np.float64(lon)
  half = np.rad2deg(_HALF_SIDE_KM / sphere.EARTH_RADIUS_KM)
  half_lon = half / np.maximum(np.cos(np.deg2rad(lat)), 0.01)
  split = config.patches.split.assign(
    lat - half, lon - half_lon, lat + half, lon + half_lon
  )
  dropped = int(np.count_nonzero(split == splits.DROPPED))
  return ArrayPatches(
    path, images, label, split, {"near another split": dropped}
  )


def _load_label(path, count):
  """The label of each patch, whole or put together."""
  stem = path.name.removesuffix(_IMAGES)
  whole = path.with_name(f"{stem}{_LABEL}{_WHOLE}.npy")
  if whole.exists():
    label = np.array(_load(whole, (encodings.LABEL_DIM,)), np.float32)
  else:
    parts = {
      path.with_name(f"{stem}{_LABEL}{name}.npy"): (width,)
      for name, width in _PARTS.items()
    }
    missing = [str(part.name) for part in parts if not part.exists()]
    if missing:
      raise tiles.TileError(
        path, f"no labels: neither {whole.name} nor {', '.join(missing)}"
      )
    arrays = [_load(part, shape) for part, shape in parts.items()]
    if len({len(array) for array in arrays}) > 1:
      counts = ", ".join(str(len(array)) for array in arrays)
      raise tiles.TileError(path, f"labels differ in number: {counts}")
    label = np.concatenate(arrays, axis=1, dtype=np.float32)
  if len(label) != count:
    raise tiles.TileError(path, f"{count} patches, but {len(label)} labels")
  fractions = label[:, encodings.CLIMATE]
  wrong = ~(
    ((label >= -1e-5) & (label <= 1 + 1e-5)).all(axis=1)
    & (np.abs(fractions.sum(axis=1) - 1) < 1e-3)
  )
  if wrong.any():
    raise tiles.TileError(
      path,
      f"{np.count_nonzero(wrong)} labels that are none, the first at"
      f" {np.argmax(wrong)}: expected numbers in [0, 1], the climate's"
      " summing to 1",
    )
  return label


def _load(path, shape):
  """Maps an array of rows of a shape into memory."""
  try:
    array = np.load(path, mmap_mode="r")
  except (OSError, ValueError, EOFError) as error:
    raise tiles.TileError(path, f"{error}") from error
  if array.shape[1:] != shape or array.ndim == 0:
    raise tiles.TileError(
      path, f"shape {array.shape}, expected [n, {', '.join(map(str, shape))}]"
    )
  return array


def find_labels(path):
  """Finds all labels beside a file of patches.

  Args:
    path: The patches' file.

  Returns:
    Paths of the label files that are there, whole or parts, sorted.
  """
  path = pathlib.Path(path)
  stem = glob.escape(path.name.removesuffix(_IMAGES))
  return sorted(path.parent.glob(f"{stem}{_LABEL}*.npy"))
