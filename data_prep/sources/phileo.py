"""PhilEO-Bench: patches with labels of roads, buildings and land cover.

`phileo_files` describes the files. Pixels and labels are taken as they are, and
splits from the names. Place and date are unknown.

References:
  Fibaek et al., PhilEO Bench: Evaluating Geo-Spatial Foundation Models,
  arXiv:2401.04464, 2024.
"""

import collections
import contextlib
import dataclasses
from typing import ClassVar

import numpy as np

from data_prep import (
  array_files,
  phileo_files,
  phileo_patches,
  products,
  targets,
  tile_source,
  tiles,
)
from data_prep.array_targets import ArrayTarget
from data_prep.phileo_files import LABELS, OF_PATCHES, OF_PIXELS
from data_prep.sources import sentinel2

# Reflectance stays below it; digital numbers do not.
_MAX_REFLECTANCE = 10
# Patches of a file whose pixels are looked at for that.
_SAMPLE = 16


@dataclasses.dataclass(frozen=True)
class PhilEO(tile_source.Source):
  """The benchmark's arrays, anywhere below a folder.

  Attributes:
    target: Labels that become targets; () for all that there are.
  """

  bands: ClassVar[tuple[str, ...]] = products.BANDS
  contents: ClassVar[str] = "benchmark's arrays"
  unused: ClassVar[tuple[str, ...]] = (*tile_source.OF_GRIDS, "block_deg")
  makes_tiles: ClassVar[bool] = False

  target: tuple[str, ...] = ()

  def __post_init__(self):
    for name in self.target:
      if name not in LABELS:
        raise ValueError(
          f"--target={name}, expected one of {', '.join(LABELS)}"
        )

  def find_patches(self, config, directory, folder, executor_map=map):
    """See `Source.find_patches`; each `*.npy` is used or an error."""
    del executor_map
    tile_source.make_folder(directory)
    images, labels, errors = phileo_files.find(folder)
    names = self._settle_names(folder, labels, errors)
    images, dtype = _same_type(images, config, errors)
    images, without, unlabelled = phileo_files.pair(images, names)
    errors += unlabelled
    if not images:
      reasons = "; ".join(map(str, errors[:3]))
      raise tiles.TileError(folder, f"no file can be used: {reasons}")
    _check_scale(images, config, dtype)
    config = dataclasses.replace(
      config,
      dtype=dtype.name,
      labels=(),
      targets=(
        *_name_targets(images),
        *(
          _patch_target(name, [image.label(name) for image in images])
          for name in names
          if name in OF_PATCHES
        ),
      ),
      maps=tuple(
        ArrayTarget(name, OF_PIXELS[name], without[name])
        for name in names
        if name in OF_PIXELS
      ),
      has_split_column=True,
    )
    return config, [image.path for image in images], errors

  def _settle_names(self, folder, labels, errors):
    """Names of the labels that become targets."""
    for name in self.target:
      if name not in labels:
        raise tiles.TileError(folder, f"no *_label_{name}.npy in it or below")
    if self.target:
      return self.target
    for name, paths in sorted(labels.items()):
      if name not in LABELS:
        reason = (
          f"one of {len(paths)} files of the label {name}, which becomes no"
          " target; if that is right, pass --target for each label that does"
        )
        errors.append(tiles.TileError(paths[0], reason))
    names = tuple(name for name in LABELS if name in labels)
    if not names:
      raise tiles.TileError(
        folder, f"no label in it or below, none of {', '.join(LABELS)}"
      )
    return names

  def open_patches(self, path, config):
    """See `Source.open_patches`."""
    return phileo_patches.opened(path, config)

  def files_beside(self, path):
    """See `Source.files_beside`."""
    images = phileo_files.parse(path)
    return [file for n in LABELS if (file := images.label(n)).exists()]


def _same_type(images, config, errors):
  """The files whose pixels have the type of most, and that type."""
  size, types = config.patches.size, {}
  for image in images:
    with tiles.collect_errors(errors, image.path):
      shape = size, size, len(config.bands)
      types[image] = array_files.load(image.path, shape).dtype
  counts = collections.Counter(types.values())
  wanted = max(counts, key=counts.get, default=None)
  for image, dtype in types.items():
    if dtype != wanted:
      reason = f"dtype {dtype}, expected {wanted} as in most"
      errors.append(tiles.TileError(image.path, reason))
  return [image for image in types if types[image] == wanted], wanted


def _check_scale(images, config, dtype):
  """Raises if the scale is that of digital numbers, but the pixels are none."""
  if dtype.kind != "f" or max((d for _, d in config.scale), default=0) < 100:
    return
  for image in images:
    pixels = np.load(image.path, mmap_mode="r")[:_SAMPLE]
    highest = np.nan_to_num(pixels).max(initial=0)
    if highest > _MAX_REFLECTANCE:
      return
    if highest > 0:
      raise tiles.TileError(
        image.path,
        f"{dtype} pixels up to {highest:g}, which are no digital numbers; pass"
        " --scale=auto",
      )


def _name_targets(images):
  """Targets that the names of the files give."""
  regions = {image.region for image in images}
  buckets = {
    phileo_files.BUCKET_OF[region]
    for region in regions & phileo_files.BUCKET_OF.keys()
  }
  return [
    targets.Target(name, targets.CLASS, tuple(sorted(classes)))
    for name, classes in (
      (phileo_patches.REGION, regions),
      (phileo_patches.BUCKET, buckets),
    )
    if classes
  ]


def _patch_target(name, paths):
  """The target of a label of each patch, by what its arrays hold.

  Rows that add up to 1 have one class, that of their largest number; rows of 0
  and 1 have any number of classes.
  """
  classes, have_one, wrong = OF_PATCHES[name], True, None
  for path in paths:
    # Files that are missing or cannot be read are errors elsewhere.
    with contextlib.suppress(tiles.TileError):
      rows = np.asarray(array_files.load(path, (len(classes),)), np.float64)
      have_one &= bool((np.abs(rows.sum(axis=1) - 1) < 1e-3).all())
      is_wrong = ~np.isin(rows, (0, 1)).all(axis=1)
      if is_wrong.any():
        wrong = wrong or tiles.TileError(
          path,
          f"label {np.argmax(is_wrong)} is not of 0 and 1, as it must be where"
          f" those of {name} do not all add up to 1",
        )
  if wrong and not have_one:
    raise wrong
  kind = targets.CLASS if have_one else targets.CLASSES
  return targets.Target(name, kind, classes)


CONFIG = dataclasses.replace(
  sentinel2.CONFIG,
  name="phileo",
  description="PhilEO-Bench's patches and labels.",
  source=PhilEO(),
)
