"""Patches of a tile: location, pixels and labels."""

import contextlib
import dataclasses
from typing import ClassVar

import numpy as np

from data_prep import grids, labels, map_files, places, terrain, tiles

# Rows of a tile that are read at once, or more if they are compressed together.
_ROWS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class TilePatches:
  """The patches of a tile that may become records.

  Attributes:
    tile: The `tiles.Tile`.
    scene: Its `tile_source.Scene`.
    chosen: Its `places.Places`.
    config: The `configs.GeoTilesConfig` they are cut by.
    errors: Always empty; an error ends the tile.
    num_files: 1.
  """

  tile: tiles.Tile
  scene: object
  chosen: places.Places
  config: object
  errors: ClassVar[tuple[tiles.TileError, ...]] = ()
  num_files: ClassVar[int] = 1

  @property
  def size(self):
    """Rows and columns of a patch."""
    return self.config.patches.size

  @property
  def split(self):
    """Indices into `splits.SPLITS`, shape `[n]`."""
    return self.chosen.split

  @property
  def num_cropped(self):
    """Number of files with pixels at the edges that no patch covers: 0 or 1."""
    rule = self.config.patches
    return int(places.has_edges(self.tile.grid, rule.size, rule.stride))

  @property
  def left_out(self):
    """How many patches were left out by place, by reason."""
    return self.chosen.left_out

  def read_together(self, index):
    """Yields parts of `index`, patches in the same rows, to be cut together."""
    together = self.size * -(
      -max(self.tile.block_height, _ROWS_AT_ONCE) // self.size
    )
    strip = self.chosen.rows[index] // together
    for number in np.unique(strip):
      yield index[strip == number]

  def read(self, index):
    """Pixels of the scene's bands of some patches, `[m, size, size, bands]`."""
    rows, cols = self.chosen.rows[index], self.chosen.cols[index]
    return read_windows(self.tile, self.scene.bands, rows, cols, self.size)

  def cut(self, index, pixels=None):
    """Makes records of some patches.

    Args:
      index: Indices of patches, shape `[m]`, m > 0.
      pixels: Result of `read`, or None to read them here.

    Returns:
      A dict of the features of a record, each with a leading axis of patches,
      and a Counter of the patches that the scene leaves out, by reason.
    """
    chosen = self.chosen
    rows, cols = chosen.rows[index], chosen.cols[index]
    features, keep, left_out = self.scene.prepare(
      self.read(index) if pixels is None else pixels
    )
    if not keep.all():
      features = {name: values[keep] for name, values in features.items()}
      rows, cols, index = rows[keep], cols[keep], index[keep]
    features |= columns_of_maps(
      self.config, self.tile.path, self.tile.grid, rows, cols
    )
    date = self.scene.date
    same = {"acquired": date.isoformat() if date else "", **self.scene.about}
    return {
      **features,
      **columns_of_places(chosen, index, labels.day_of_year(date)),
      "id": self.ids(index),
      **{name: [value] * len(index) for name, value in same.items()},
    }, left_out

  def ids(self, index):
    """The `id` of some patches."""
    return [
      f"{self.tile.path.stem}/{row}_{col}"
      for row, col in zip(
        self.chosen.rows[index], self.chosen.cols[index], strict=True
      )
    ]


def read_windows(tile, bands, rows, cols, size):
  """Pixels of some windows of a tile, which are read together.

  Args:
    tile: A `tiles.Tile`.
    bands: Names of the bands.
    rows: First rows, shape `[m]`, m > 0.
    cols: First columns, shape `[m]`.
    size: Rows and columns of a window.

  Returns:
    Pixels, `[m, size, size, bands]`.
  """
  top, left = rows.min(), cols.min()
  pixels = tile.read(
    bands, top, left, rows.max() + size - top, cols.max() + size - left
  )
  windows = np.lib.stride_tricks.sliding_window_view(
    pixels, (size, size), (0, 1)
  )
  # Keeps the memory layout of the tile, which may be band by band.
  return np.moveaxis(windows[rows - top, cols - left], 1, -1)


def columns_of_maps(config, path, grid, rows, cols):
  """Targets and terrain of some patches, sampled from the config's maps.

  Args:
    config: A `configs.GeoTilesConfig`.
    path: The tile's file, for errors.
    grid: The patches' `grids.Grid`; all is unknown on a `grids.Spot`.
    rows: First rows, shape `[m]`.
    cols: First columns, shape `[m]`.

  Returns:
    Arrays by name of the feature, each `[m, size, size, ...]`.
  """
  size = config.patches.size
  if isinstance(grid, grids.Spot):
    shape = (len(rows), size, size)
    found = {m.name: np.full(shape, m.unknown, m.dtype) for m in config.maps}
    if config.dem:
      found["terrain"] = np.full((*shape, 4), np.nan, np.float16)
    return found
  try:
    found = {m.name: m.sample(grid, rows, cols, size) for m in config.maps}
  except tiles.TileError as error:
    raise tiles.TileError(path, f"{error}") from error
  if config.dem:
    elevations = map_files.open_raster(config.dem)
    found["terrain"] = terrain.read_terrain(
      elevations, grid, rows, cols, size
    ).astype(np.float16)
  return found


def columns_of_places(chosen, index, day):
  """Labels and places of some patches, by name of the feature.

  Args:
    chosen: `places.Places`.
    index: Indices of the patches, shape `[m]`.
    day: Day of the year of each, shape `[m]` or `[]`, NaN if it is unknown.

  Returns:
    A dict of arrays with an axis of patches; `sides_deg` is no feature.
  """
  lat_deg, lon_deg = chosen.lat_deg[index], chosen.lon_deg[index]
  return {
    **labels.geo_labels(chosen.climate[index], lat_deg, lon_deg, day),
    "lat": lat_deg.astype(np.float32),
    "lon": lon_deg.astype(np.float32),
    "row": chosen.rows[index].astype(np.int32),
    "col": chosen.cols[index].astype(np.int32),
    "sides_deg": chosen.sides_deg[index],
  }


@contextlib.contextmanager
def opened(path, config):
  """Opens the `TilePatches` of a file for as long as the context lasts.

  Raises:
    tiles.TileError: The tile cannot be used.
  """
  with contextlib.ExitStack() as stack:
    with tiles.as_tile_error(path):
      tile = stack.enter_context(config.source.open_tile(path, config))
      scene = config.source.open_scene(tile).with_bands(config.bands)
      if not tile.bands and len(scene.order) == tile.num_bands:
        tile = dataclasses.replace(tile, bands=scene.order)
      tile.band_indices(scene.bands)
      chosen = places.select_places(
        tile.grid, config.patches, config.climate_files
      )
      for target in config.maps:
        target.check_covers(path, tile.grid)
    yield TilePatches(tile, scene, chosen, config)


def open_tile(path, config):
  """Returns `TilePatches` that open the file for each read; see `opened`."""
  with opened(path, config) as patches:
    tile = dataclasses.replace(patches.tile, page=None)
    return dataclasses.replace(patches, tile=tile)
