"""Patches of a tile: location, pixels and labels."""

import contextlib
import dataclasses

import numpy as np

from data_prep import labels, places, terrain, tiles

# Rows of a tile that are read at once, or more if they are compressed together.
_ROWS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class TilePatches:
  """The patches of a tile that may become records.

  Attributes:
    tile: The `tiles.Tile`.
    scene: Its `tile_source.Scene`.
    chosen: Its `places.Places`.
    size: Rows and columns of a patch.
    dem: GeoTIFF of elevations, or "".
  """

  tile: tiles.Tile
  scene: object
  chosen: places.Places
  size: int
  dem: str = ""

  @property
  def split(self):
    """Indices into `splits.SPLITS`, shape `[n]`."""
    return self.chosen.split

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
    size = self.size
    rows, cols = self.chosen.rows[index], self.chosen.cols[index]
    top, left = rows.min(), cols.min()
    pixels = self.tile.read(
      self.scene.bands,
      top,
      left,
      rows.max() + size - top,
      cols.max() + size - left,
    )
    windows = np.lib.stride_tricks.sliding_window_view(
      pixels, (size, size), (0, 1)
    )
    # Keeps the memory layout of the tile, which may be band by band.
    return np.moveaxis(windows[rows - top, cols - left], 1, -1)

  def cut(self, index, pixels=None):
    """Makes records of some patches.

    Args:
      index: Indices of patches, shape `[m]`, m > 0.
      pixels: Result of `read`, or None to read them here.

    Returns:
      A dict of the features of a record, each with a leading axis of patches,
      and a Counter of the patches that the scene leaves out, by reason.
    """
    chosen, size = self.chosen, self.size
    rows, cols = chosen.rows[index], chosen.cols[index]
    features, keep, left_out = self.scene.prepare(
      self.read(index) if pixels is None else pixels
    )
    if not keep.all():
      features = {name: values[keep] for name, values in features.items()}
      rows, cols, index = rows[keep], cols[keep], index[keep]
    if self.dem:
      features["terrain"] = terrain.read_terrain(
        tiles.open_tile(self.dem), self.tile.grid, rows, cols, size
      ).astype(np.float16)
    lat_deg, lon_deg = chosen.lat_deg[index], chosen.lon_deg[index]
    date, name = self.scene.date, self.tile.path.stem
    ids = [f"{name}/{r}_{c}" for r, c in zip(rows, cols, strict=True)]
    same = {"acquired": date.isoformat(), **self.scene.about}
    return {
      **features,
      **labels.geo_labels(chosen.climate[index], lat_deg, lon_deg, date),
      "lat": lat_deg.astype(np.float32),
      "lon": lon_deg.astype(np.float32),
      "row": rows.astype(np.int32),
      "col": cols.astype(np.int32),
      "id": ids,
      **{name: [value] * len(ids) for name, value in same.items()},
    }, left_out


@contextlib.contextmanager
def opened(path, config):
  """Opens the `TilePatches` of a file for as long as the context lasts.

  Raises:
    tiles.TileError: The tile cannot be used.
  """
  with contextlib.ExitStack() as stack:
    with tiles.as_tile_error(path):
      tile = stack.enter_context(tiles.opened(path, config.dtype))
      scene = config.source.open_scene(tile)
      if not tile.bands and len(scene.order) == tile.num_bands:
        tile = dataclasses.replace(tile, bands=scene.order)
      tile.band_indices(scene.bands)
      files = (config.climate_map, config.legend, config.water_mask)
      chosen = places.select_places(tile.grid, config.patches, files)
    yield TilePatches(tile, scene, chosen, config.patches.size, config.dem)


def open_tile(path, config):
  """Returns `TilePatches` that open the file for each read; see `opened`."""
  with opened(path, config) as patches:
    tile = dataclasses.replace(patches.tile, page=None)
    return dataclasses.replace(patches, tile=tile)
