"""The files of PhilEO-Bench, paired by their names, and its labels.

`<region>_<tile>_<split>_s2.npy` holds patches, and
`<region>_<tile>_<split>_label_<label>.npy` next to it a label of each.
"""

import collections
import dataclasses
import pathlib
import re

from data_prep import land_cover, tiles
from data_prep.pixel_targets import CLASS_MAP, VALUE_MAP

IMAGES = "_s2.npy"
# Splits as the files name them, in the order of `splits.SPLITS`.
SPLITS = ("train", "val", "test")
# Labels of each pixel, and the classes of labels of each patch.
OF_PIXELS = {"roads": VALUE_MAP, "building": VALUE_MAP, "lc": CLASS_MAP}
OF_PATCHES = {
  "roads_classification": ("no roads", "roads"),
  "building_classification": tuple(
    f"{degree} urbanization"
    for degree in ("no", "sparse", "moderate", "significant", "extreme")
  ),
  "lc_classification": tuple(
    name for name, _ in land_cover.WORLD_COVER.values()
  ),
}
LABELS = (*OF_PIXELS, *OF_PATCHES)
# The benchmark draws its few shots from each of these, not from each region.
# Regions are spelled as the files are.
BUCKETS = {
  "europe": ("europe", "denmark-1", "denmark-2"),
  "east-africa": (
    "east-africa",
    *(f"tanzania-{i}" for i in range(1, 6)),
    "uganda-1",
  ),
  "northwest-africa": (
    *("eq-guinea", "ghana-1", "egypt-1", "isreal-1", "isreal-2"),
    *("nigeria", "senegal"),
  ),
  **{name: (name,) for name in ("north-america", "south-america", "japan")},
}
BUCKET_OF = {
  region: bucket for bucket, regions in BUCKETS.items() for region in regions
}
_NAME = re.compile(
  rf"(?P<stem>(?P<region>.+?)(_\d+)*_(?P<split>{'|'.join(SPLITS)}))"
  r"_(s2|label_(?P<label>\w+))\.npy"
)


@dataclasses.dataclass(frozen=True)
class Images:
  """A file of patches.

  Attributes:
    path: The file.
    stem: Begins its name and those of its labels.
    region: The region that it names, such as "denmark-1".
    split: One of `SPLITS`.
  """

  path: pathlib.Path
  stem: str
  region: str
  split: str

  def label(self, name):
    """Path of a label of the patches, which may be missing."""
    return self.path.with_name(f"{self.stem}_label_{name}.npy")


def parse(path):
  """The `Images` of a path of `find`."""
  path = pathlib.Path(path)
  match = _NAME.fullmatch(path.name)
  return Images(path, match["stem"], match["region"], match["split"])


def find(folder):
  """Finds all `*.npy` below a folder.

  Returns:
    `Images`, sorted; paths of their labels by name of the label; and a list of
    `tiles.TileError`, one for each other file.

  Raises:
    tiles.TileError: There are none.
  """
  first, present, of_labels, errors = {}, set(), [], []
  for path in sorted(pathlib.Path(folder).rglob("*.npy")):
    if path.name.startswith("."):
      continue
    match = _NAME.fullmatch(path.name)
    if match is None:
      reason = (
        f"expected a name <region>_<tile>_<split>{IMAGES} or"
        " <region>_<tile>_<split>_label_<label>.npy, and of splits"
        f" {', '.join(SPLITS)}"
      )
      errors.append(tiles.TileError(path, reason))
    elif match["label"]:
      of_labels.append((path, match["stem"], match["label"]))
    else:
      present.add((path.parent, match["stem"]))
      # Ids of records begin with the name.
      if first.setdefault(path.name, path) != path:
        reason = f"has the name of {first[path.name]}; left out"
        errors.append(tiles.TileError(path, reason))
  if not first:
    raise tiles.TileError(
      folder, f"no *{IMAGES} of these splits in it or below"
    )
  labels = collections.defaultdict(list)
  for path, stem, name in of_labels:
    if (path.parent, stem) in present:
      labels[name].append(path)
    else:
      reason = f"there is no {stem}{IMAGES} next to it"
      errors.append(tiles.TileError(path, reason))
  return [parse(path) for path in first.values()], dict(labels), errors


def pair(images, names):
  """Leaves out files without labels.

  Where no file of a region has a label, the label is unknown. Where others of
  the region have it, a file without it is an error, and so is a region without
  any label.

  Args:
    images: List of `Images`.
    names: Names of the labels.

  Returns:
    The `Images` that remain; names of their regions that have no label of a
    name, by that name; and a list of `tiles.TileError`.
  """
  having = {
    name: {image.region for image in images if image.label(name).exists()}
    for name in names
  }
  known = set().union(*having.values())
  kept, errors = [], []
  for image in images:
    missing = [
      image.label(name).name
      for name in names
      if image.region in having[name] and not image.label(name).exists()
    ]
    if missing:
      reason = (
        f"there is no {', '.join(missing)} next to it, which other files of"
        f" {image.region} have"
      )
      errors.append(tiles.TileError(image.path, reason))
    elif image.region in known:
      kept.append(image)
  unlabelled = collections.defaultdict(list)
  for image in images:
    if image.region not in known:
      unlabelled[image.region].append(image.path)
  for region, paths in unlabelled.items():
    reason = (
      f"one of {len(paths)} files of {region}, none of which has a label"
      f" {' or '.join(names)}; all are left out"
    )
    errors.append(tiles.TileError(paths[0], reason))
  without = {name: tuple(sorted(known - having[name])) for name in names}
  return kept, without, errors
