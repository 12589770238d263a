"""What a build asks of a source, and the part that sources of tiles share.

A source of GeoTIFF tiles extends `TileSource`, often by `open_scene` alone. One
whose patches come from other files extends `Source`.
"""

import collections
import dataclasses
import datetime
import functools
import re
from typing import ClassVar

import numpy as np
import tqdm

from data_prep import tile_patches, tiles
from geojax import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """One acquisition of a tile, and how its pixels become a record's image.

  Sources whose images have clouds, scales or offsets extend `prepare`.

  Attributes:
    date: When the tile was seen, or None.
    bands: Names of the bands to read, in order; those of the config's images
      unless `with_bands` adds others.
    about: Features that all patches of the tile share, by name.
    order: Names of the tile's bands, if its file may name none.
  """

  date: datetime.datetime | None
  bands: tuple[str, ...]
  about: dict[str, str | int] = dataclasses.field(default_factory=dict)
  order: tuple[str, ...] = ()

  def with_bands(self, bands):
    """Returns the scene that reads what images of some bands are made of."""
    return dataclasses.replace(self, bands=tuple(bands))

  def prepare(self, patches):
    """Makes images of patches; here the pixels as they are.

    Args:
      patches: Pixels of `bands`, shape `[n, size, size, bands]`.

    Returns:
      A dict of features with a leading axis of patches, `image` among them;
      which patches to keep, bool `[n]`; and a Counter of the others by reason.
    """
    keep = np.ones(len(patches), bool)
    return {"image": patches}, keep, collections.Counter()


# Of how patches are cut and what is sampled where they lie.
OF_GRIDS = (
  *("stride", "climate_map", "legend", "water_mask"),
  *("class_map", "value_map", "dem"),
)


class Source:
  """Finds files and opens their patches; frozen dataclasses extend it.

  The fields of the dataclass are settings: they are kept with the data set.

  Attributes:
    bands: Names of the bands that images can have.
    features: Types (str, int or float) of further features, by name.
    contents: What `--source` holds, in words.
    unused: Settings of a build that change nothing for these patches, and are
      refused. `OF_GRIDS` are those of sources which do not know where pixels
      lie.
    reads_buckets: Whether `--source` and `--output` may be in a bucket.
    makes_tiles: Whether it makes files that depend on its settings, so that a
      folder of them cannot be used with others.
  """

  bands: ClassVar[tuple[str, ...]]
  features: ClassVar[dict[str, type]] = {}
  contents: ClassVar[str] = "tiles"
  unused: ClassVar[tuple[str, ...]] = ()
  reads_buckets: ClassVar[bool] = False
  makes_tiles: ClassVar[bool] = True

  def with_inputs(self, source_dir):
    """Returns the source with digests of files that it reads besides patches.

    Args:
      source_dir: The user's folder, `--source`, or None.

    Raises:
      ValueError: A file that has to be given is not.
      tiles.TileError: One cannot be read.
    """
    del source_dir
    return self

  def fetch(self, download_dir, source_dir):
    """Returns the folder to read from, or raises before any work begins.

    Args:
      download_dir: Folder for downloads; made if needed.
      source_dir: The user's folder, `--source`, or None.
    """
    del download_dir
    if source_dir is None or not files.path(source_dir).is_dir():
      raise tiles.TileError(
        source_dir or "--source",
        f"no such folder; pass --source=FOLDER, where you have the"
        f" {self.contents}",
      )
    return files.path(source_dir)

  def cut_tiles(self, directory, folder, executor_map=map):
    """Finds the files of patches, or makes those that are missing.

    Args:
      directory: Folder for files that have to be made; made if needed.
      folder: Result of `fetch`.
      executor_map: `map`, or one of `task_maps`.

    Returns:
      Paths, sorted, and a list of `tiles.TileError`, one per unusable input.
    """
    raise NotImplementedError

  def find_patches(self, config, directory, folder, executor_map=map):
    """Finds the files of patches, and completes the config by what they are.

    Args:
      config: The `configs.GeoTilesConfig` of the build.
      directory: See `cut_tiles`.
      folder: See `cut_tiles`.
      executor_map: See `cut_tiles`.

    Returns:
      A config, and the results of `cut_tiles`.
    """
    return config, *self.cut_tiles(directory, folder, executor_map)

  def open_patches(self, path, config):
    """Opens a path of `find_patches` for as long as a context lasts.

    Returns:
      A context manager of `tile_patches.TilePatches`, or of an object with its
      `num_files`, `num_cropped`, `split`, `left_out`, `ids`, `read_together`,
      `cut` and `errors`.
    """
    raise NotImplementedError

  def files_beside(self, path):
    """Other files that `open_patches` reads for a path."""
    del path
    return []


class TileSource(Source):
  """A source of GeoTIFF tiles: by default all `*.tif` below `--source`.

  Attributes:
    looked_for: Inputs that `inputs_in` finds, in words.
  """

  reads_buckets: ClassVar[bool] = True
  looked_for: ClassVar[str] = "*.tif"

  def inputs_in(self, root, folders, names):
    """Lists inputs, tiles or what tiles are made of, in one folder.

    Args:
      root: Path of the folder.
      folders: Names of its subfolders; those that remain are searched next.
      names: Names of its files, hidden ones excluded.
    """
    del folders
    return [root / name for name in names if name.endswith((".tif", ".tiff"))]

  def tile_name(self, path):
    """File name of an input's tile; None if it is known only afterwards."""
    return path.name

  def convert(self, path, directory):
    """Makes the tiles of one input, unless they exist; one task of a build.

    Args:
      path: An input; one that is a tile stays where it is.
      directory: Folder for tiles that have to be made; it exists.

    Returns:
      A list of paths and one of `tiles.TileError`.
    """
    del directory
    return [path], []

  def open_tile(self, path, config):
    """Returns a context manager of a path's `tiles.Tile`."""
    return tiles.opened(path, config.dtype)

  def open_scene(self, tile):
    """The `Scene` of a `tiles.Tile`; ValueError if its date is unknown."""
    if tile.date is None:
      raise ValueError("no date: TIFF tag DateTime is missing")
    return Scene(date=tile.date, bands=self.bands)

  def open_patches(self, path, config):
    """See `Source.open_patches`."""
    return tile_patches.opened(path, config)

  def cut_tiles(self, directory, folder, executor_map=map):
    """See `Source.cut_tiles`; tiles of the same name are used once."""
    directory = make_folder(directory)
    inputs = sorted(self._find_inputs(folder, files.absolute(directory)))
    if not inputs:
      raise tiles.TileError(folder, f"no {self.looked_for} in it or below")
    errors, tile_paths, origins, todo = [], {}, {}, []
    for path in inputs:
      name = self.tile_name(path)
      if name is None or _claim(origins, name, path, errors):
        todo.append(path)
    convert = functools.partial(self.convert, directory=directory)
    for path, (made, failed) in zip(
      todo,
      tqdm.tqdm(
        executor_map(convert, todo),
        total=len(todo),
        desc="making tiles",
        unit="input",
        disable=None,
      ),
      strict=True,
    ):
      errors += failed
      for tile_path in made:
        if _claim(origins, tile_path.name, path, errors):
          tile_paths[tile_path.name] = tile_path
    return [tile_paths[name] for name in sorted(tile_paths)], errors

  def _find_inputs(self, folder, directory):
    for root, folders, names in files.walk(folder):
      if files.absolute(root) == directory:
        folders.clear()
      else:
        names = [name for name in names if not name.startswith(".")]
        yield from self.inputs_in(root, folders, names)


def date_parser(pattern):
  """Returns a function from a file's name to the date in it, or None for "".

  Args:
    pattern: Regular expression. Its only group is the date in ISO 8601, also
      without hyphens, or its groups are called year, month and day.

  Raises:
    ValueError: The expression is invalid or has other groups.
  """
  if not pattern:
    return None
  try:
    expression = re.compile(pattern)
  except re.error as error:
    raise ValueError(f"date_from {pattern!r}: {error}") from None
  named = set(expression.groupindex) == {"year", "month", "day"}
  if expression.groups != (3 if named else 1):
    raise ValueError(
      f"date_from {pattern!r}, expected one group, such as _(\\d{{8}})_, or"
      " groups called year, month and day"
    )

  def parse(name):
    match = expression.search(str(name))
    if match is None:
      raise ValueError(f"no date in {name}: it does not match {pattern!r}")
    text = (
      "-".join(match[key] for key in ("year", "month", "day"))
      if named
      else match[1]
    )
    try:
      return datetime.datetime.fromisoformat(text)
    except ValueError:
      raise ValueError(f"date {text!r} of {name}, expected ISO 8601") from None

  return parse


def make_folder(directory):
  """Makes a folder for tiles, and deletes what a killed build left in it."""
  directory = files.path(directory)
  if files.is_local(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(".*.tmp"):
      leftover.unlink()
  return directory


def _claim(origins, name, path, errors):
  """Whether `path` is the first input that gives the tile of that name."""
  if origins.setdefault(name, path) == path:
    return True
  errors.append(
    tiles.TileError(path, f"gives {name}, as {origins[name]} does; left out")
  )
  return False
