"""BigEarthNet's patches of Sentinel-2, a folder each with a GeoTIFF a band.

References:
  Sumbul et al., BigEarthNet: a large-scale benchmark archive for remote
  sensing image understanding, IGARSS 2019.
"""

import dataclasses
import pathlib
import re
from typing import ClassVar

import numpy as np

from data_prep import products, tile_writer, tiles
from data_prep.sources import sentinel2

# Pixels of 10 m along a side of a patch.
_SIDE = 120


@dataclasses.dataclass(frozen=True)
class BigEarthNet(sentinel2.Sentinel2):
  """Patches anywhere below a folder; their tiles have no SCL."""

  reads_buckets: ClassVar[bool] = False
  looked_for: ClassVar[str] = "folder with *_B02.tif and the other bands"

  kind: str = "bigearthnet"

  def inputs_in(self, root, folders, files):
    """See `TileSource.inputs_in`."""
    is_patch = any(re.search(r"_B(\d\d|8A)\.tif$", name) for name in files)
    return [root] if is_patch else []

  def make_tile(self, path, directory):
    """Makes the tile of a patch's folder, unless it exists; returns a path."""
    with tiles.as_tile_error(path):
      product = self.describe(path)
      target = pathlib.Path(directory) / products.tile_name(product.name)
      if not target.exists():
        files = {
          band: path / f"{path.name}_{band}.tif" for band in products.BANDS
        }
        write_tile(target, files, _SIDE, product.date)
    return target

  def describe(self, path):
    """Returns the `products.Product` of a path's name."""
    name = pathlib.Path(path).name
    return products.parse_patch(name, self.default_baseline)


def write_tile(target, band_files, side, date):
  """Writes a tile of a patch that has a GeoTIFF a band.

  Args:
    target: The tile's path.
    band_files: Paths of the GeoTIFFs by band.
    side: Pixels of 10 m along a side of the patch.
    date: When it was seen.

  Raises:
    tiles.TileError: A band is missing, corrupt or lies elsewhere.
  """
  opened = {}
  for band, file in band_files.items():
    tile = tiles.open_tile(file, np.uint16)
    if not opened:
      grid = dataclasses.replace(
        tile.grid, height=side, width=side, pixel_width=10.0, pixel_height=10.0
      )
    factor = products.upsampling_factor(band)
    expected = dataclasses.replace(
      grid,
      height=side // factor,
      width=side // factor,
      pixel_width=10.0 * factor,
      pixel_height=10.0 * factor,
    )
    same = np.allclose(
      dataclasses.astuple(tile.grid),
      dataclasses.astuple(expected),
      rtol=0,
      atol=1e-3,  # a millimetre
    )
    if tile.num_bands != 1 or not same:
      raise tiles.TileError(
        file, f"{tile.num_bands} x {tile.grid}, expected 1 x {expected}"
      )
    opened[band] = tile

  def planes():
    for band, tile in opened.items():
      plane = tile.read(None)[..., 0]
      is_coarse = products.upsampling_factor(band) == 2
      yield products.upsample(plane) if is_coarse else plane

  tile_writer.write_planes(
    target,
    planes(),
    bands=tuple(band_files),
    grid=grid,
    dtype=np.uint16,
    date=date,
  )


CONFIG = dataclasses.replace(
  sentinel2.CONFIG,
  name="bigearthnet",
  description="BigEarthNet's patches, a folder each.",
  source=BigEarthNet(),
  patches=dataclasses.replace(sentinel2.CONFIG.patches, size=120, stride=120),
)
