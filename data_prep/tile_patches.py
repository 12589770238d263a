"""Patches of a tile: where they lie, their pixels and all that is known."""

import dataclasses

import numpy as np

from data_prep import labels, places, scenes, terrain, tiles

# Rows of a tile that are read at once, or more where they are compressed so.
_ROWS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class TilePatches:
  """The patches of a tile that may become records.

  Attributes:
    tile: The `tiles.Tile`.
    scene: The `scenes.Scene` that it shows.
    chosen: Its `places.Places`.
    size: Rows and columns of a patch.
    dem: GeoTIFF of elevations, or "".
  """

  tile: tiles.Tile
  scene: scenes.Scene
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
    """Groups patches that lie in the same rows, which are decoded together.

    Args:
      index: Indices of patches, shape `[m]`.

    Yields:
      Parts of `index`.
    """
    together = self.size * -(
      -max(self.tile.block_height, _ROWS_AT_ONCE) // self.size
    )
    strip = self.chosen.rows[index] // together
    for number in np.unique(strip):
      yield index[strip == number]

  def read(self, index):
    """Reads some patches as the tile has them.

    Args:
      index: Indices of patches, shape `[m]`, m > 0.

    Returns:
      Pixels of the scene's bands, shape `[m, size, size, bands]`.

    Raises:
      tiles.TileError: If the tile cannot be read.
    """
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
    # Band by band in memory, where the tile is so.
    return np.moveaxis(windows[rows - top, cols - left], 1, -1)

  def cut(self, index, pixels=None):
    """Cuts some patches.

    Args:
      index: Indices of patches, shape `[m]`, m > 0.
      pixels: As of `read`, where that was done already.

    Returns:
      A dict of the features of a record, each with a leading axis of patches,
      and a Counter of the patches left out for what they show.

    Raises:
      tiles.TileError: If the tile or the DEM cannot be read.
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
    same = {"date": date.isoformat(), **self.scene.about}
    return {
      **features,
      "label": labels.geo_labels(chosen.climate[index], lat_deg, lon_deg, date),
      "lat": lat_deg.astype(np.float32),
      "lon": lon_deg.astype(np.float32),
      "row": rows.astype(np.int32),
      "col": cols.astype(np.int32),
      "id": ids,
      **{name: [value] * len(ids) for name, value in same.items()},
    }, left_out


def open_tile(path, config):
  """Opens a tile that can become records.

  Args:
    path: The tile's file.
    config: A `geo_tiles.GeoTilesConfig`.

  Returns:
    Its `TilePatches`.

  Raises:
    tiles.TileError: If the tile cannot be used.
  """
  map_files = (config.climate_map, config.legend, config.water_mask)
  with tiles.as_tile_error(path):
    tile = tiles.open_tile(path, config.dtype)
    scene = config.source.open_scene(tile)
    if not tile.bands and len(scene.order) == tile.num_bands:
      tile = dataclasses.replace(tile, bands=scene.order)
    tile.band_indices(scene.bands)
    chosen = places.select_places(tile.grid, config.patches, map_files)
  return TilePatches(tile, scene, chosen, config.patches.size, config.dem)
