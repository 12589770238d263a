"""Patches of many images at once, as `tile_patches` has those of one tile."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import pickle

import numpy as np

from data_prep import (
  band_files,
  climate_maps,
  grids,
  labels,
  places,
  splits,
  tables,
  tile_patches,
  tiles,
)
from geojax import climate, files

# Patches of one list, and those that are read together.
_PATCHES, _TOGETHER = 1024, 256


@dataclasses.dataclass(frozen=True)
class Image:
  """An image and what is known of it, before its pixels are read.

  Attributes:
    row: Its `tables.Row`.
    grid: A `grids.Grid`, or a `grids.Spot` if its extent is unknown.
    dtype: Name of the pixels' NumPy dtype.
    bands: Names of its bands, or ().
    num_bands: Number of its bands.
  """

  row: tables.Row
  grid: grids.Grid | grids.Spot
  dtype: str
  bands: tuple[str, ...]
  num_bands: int

  @property
  def has_place(self):
    """Whether it is known where the image lies."""
    return not math.isnan(self.center()[0])

  def center(self):
    """Latitude and longitude, NaN if they are unknown."""
    if isinstance(self.grid, grids.Spot):
      return self.grid.lat_deg, self.grid.lon_deg
    lat, lon = self.grid.pixel_to_latlon(
      (self.grid.height - 1) / 2, (self.grid.width - 1) / 2
    )
    return float(lat), float(lon)

  def longitudes(self, rule):
    """Longitudes of its patches, `[n]`, NaN if they are unknown."""
    rows, cols = places.patch_corners(self.grid, rule)
    if isinstance(self.grid, grids.Spot):
      return np.full(len(rows), self.grid.lon_deg)
    middle = (rule.size - 1) / 2
    _, lon = self.grid.pixel_to_latlon(rows + middle, cols + middle)
    return lon

  def num_patches(self, rule):
    """Number of patches that a `places.PatchRule` cuts."""
    return math.prod(
      (side - rule.size) // rule.stride + 1
      for side in (self.grid.height, self.grid.width)
    )


def write_parts(folder, images, rule) -> list[pathlib.Path]:
  """Writes lists of images to files, for `opened`.

  Args:
    folder: Where they lie.
    images: `Image`s.
    rule: The `places.PatchRule` that cuts them.

  Returns:
    Paths of the files, named by their content.
  """
  parts, count = [[]], 0
  for image in images:
    number = image.num_patches(rule)
    if parts[-1] and count + number > _PATCHES:
      parts.append([])
      count = 0
    parts[-1].append(image)
    count += number
  paths = []
  for index, part in enumerate(parts):
    content = pickle.dumps(part)
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    path = folder / f"{index:06d}-{digest}.pickle"
    # A file that is there stays: shards are known by its time.
    if not path.exists():
      with files.atomic(path) as temporary:
        temporary.write_bytes(content)
    paths.append(path)
  return paths


@dataclasses.dataclass(frozen=True)
class ImagePatches:
  """The patches of some images, like the `tile_patches.TilePatches` of a tile.

  Attributes:
    images: The `Image`s.
    image: Index of each patch's image, shape `[n]`.
    chosen: The patches' `places.Places`, those of all images joined.
    config: A `configs.GeoTilesConfig`.
    classes: Bands of classes, see `band_files.opened`.
    errors: `tiles.TileError`s of images that could not be read.
  """

  images: list[Image]
  image: np.ndarray
  chosen: places.Places
  config: object
  classes: tuple[str, ...]
  errors: list[tiles.TileError] = dataclasses.field(default_factory=list)

  @property
  def num_files(self):
    """Number of images."""
    return len(self.images)

  @property
  def split(self):
    """Indices into `splits.SPLITS`, shape `[n]`."""
    return self.chosen.split

  @property
  def left_out(self):
    """How many patches were left out by place, by reason."""
    return self.chosen.left_out

  @property
  def num_cropped(self):
    """Number of images with pixels at the edges that no patch covers."""
    rule = self.config.patches
    return sum(
      places.has_edges(image.grid, rule.size, rule.stride)
      for image in self.images
    )

  def ids(self, index):
    """The `id` of some patches."""
    return [
      f"{self.images[number].row.name}/{row}_{col}"
      for number, row, col in zip(
        self.image[index],
        self.chosen.rows[index],
        self.chosen.cols[index],
        strict=True,
      )
    ]

  def read_together(self, index):
    """Yields parts of `index` that fit in memory easily."""
    for start in range(0, len(index), _TOGETHER):
      yield index[start : start + _TOGETHER]

  def cut(self, index):
    """See `tile_patches.TilePatches.cut`; `errors` has images left out."""
    pixels, sampled, kept = [], [], []
    for number in np.unique(self.image[index]):
      mine = index[self.image[index] == number]
      image = self.images[number]
      with (
        tiles.collect_errors(self.errors, image.row.files[0]),
        band_files.opened(
          image.row.files, self.config.bands, self.classes
        ) as tile,
      ):
        rows, cols = self.chosen.rows[mine], self.chosen.cols[mine]
        read = tile_patches.read_windows(
          tile, self.config.bands, rows, cols, self.config.patches.size
        )
        if not isinstance(image.grid, grids.Spot):
          for target in self.config.maps:
            target.check_covers(tile.path, image.grid)
        found = tile_patches.columns_of_maps(
          self.config, tile.path, image.grid, rows, cols
        )
        pixels.append(read)
        sampled.append(found)
        kept.append(mine)
    if not kept:
      return {}, collections.Counter()
    index = np.concatenate(kept)
    rows = [self.images[number].row for number in self.image[index]]
    days = [labels.day_of_year(row.date) for row in rows]
    columns = {
      "image": np.concatenate(pixels),
      **tile_patches.columns_of_places(self.chosen, index, np.array(days)),
      "id": self.ids(index),
      **{
        name: np.concatenate([found[name] for found in sampled])
        for name in sampled[0]
      },
      "acquired": [r.date.isoformat() if r.date else "" for r in rows],
    }
    for i, target in enumerate(self.config.targets):
      columns[target.name] = np.array(
        [row.targets[i] for row in rows], target.dtype
      )
    return columns, collections.Counter()


@contextlib.contextmanager
def opened(path, config, classes):
  """Opens the `ImagePatches` of a list of images.

  Args:
    path: A pickled list of `Image`s. Their places are kept next to it: counting
      patches and cutting those of each split need the same.
    config: A `configs.GeoTilesConfig`.
    classes: Bands of classes, see `band_files.opened`.

  Yields:
    An `ImagePatches`.
  """
  path = pathlib.Path(path)
  images = pickle.loads(path.read_bytes())
  kept = path.with_suffix(f".{_digest(config)}")
  if kept.exists():
    image, chosen, errors = pickle.loads(kept.read_bytes())
  else:
    image, chosen, errors = _select_places(images, config)
    with files.atomic(kept) as temporary:
      temporary.write_bytes(pickle.dumps((image, chosen, errors)))
  yield ImagePatches(images, image, chosen, config, classes, errors)


def _digest(config):
  """Of all that the choice of places depends on, but for the images."""
  stats = {name: os.stat(file) for name, file in config.files.items()}
  origin = [
    config.settings(),
    {name: (s.st_size, s.st_mtime_ns) for name, s in stats.items()},
    [field.name for field in dataclasses.fields(places.Places)],
  ]
  origin = json.dumps(origin).encode()
  return hashlib.blake2b(origin, digest_size=8).hexdigest()


def _select_places(images, config):
  """Index of each patch's image, the `places.Places`, and errors."""
  errors, parts, owners = [], [], [np.zeros(0, int)]
  spots = [i for i, x in enumerate(images) if isinstance(x.grid, grids.Spot)]
  if spots:
    chosen, owner = _places_of_spots(images, spots, config)
    parts.append(chosen)
    owners.append(owner)
  for i, image in enumerate(images):
    if not isinstance(image.grid, grids.Spot):
      with tiles.collect_errors(errors, image.row.files[0]):
        chosen = places.select_places(
          image.grid,
          config.patches,
          config.climate_files,
          split=image.row.split,
        )
        parts.append(chosen)
        owners.append(np.full(len(chosen.rows), i))
  return np.concatenate(owners), places.join(parts), errors


def _places_of_spots(images, spots, config):
  """Places of the patches of images whose extent is unknown."""
  rule = config.patches
  corners = [places.patch_corners(images[i].grid, rule) for i in spots]
  owner = np.repeat(spots, [len(rows) for rows, _ in corners])
  rows, cols = (np.concatenate(x) for x in zip(*corners, strict=True))
  lat, lon = (
    np.array([getattr(images[i].grid, name) for i in owner])
    for name in ("lat_deg", "lon_deg")
  )
  is_known = ~np.isnan(lat)
  split = np.empty(len(owner), np.int8)
  split[is_known] = rule.split.assign(
    *(x[is_known] for x in (lat, lon, lat, lon))
  )
  split[~is_known] = rule.split.name_split(
    [images[i].row.name for i in owner[~is_known]]
  )
  in_table = [images[i].row.split for i in owner]
  split = np.array(
    [
      own if own is not None else s
      for own, s in zip(in_table, split, strict=True)
    ],
    np.int8,
  )
  fractions = np.full((len(owner), len(climate.ZONES)), np.nan, np.float32)
  fractions[is_known] = labels.one_zone(
    climate_maps.load(*config.climate_files), lat[is_known], lon[is_known]
  )
  keep = split != splits.DROPPED
  left_out = dict.fromkeys(places.REASONS, 0)
  left_out[places.SPLIT] = int(np.count_nonzero(~keep))
  sides = np.full((len(owner), 2), np.nan)
  kept = [x[keep] for x in (rows, cols, split, fractions, lat, lon, sides)]
  return places.Places(*kept, left_out), owner[keep]
