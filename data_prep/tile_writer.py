"""Writes GeoTIFF tiles atomically, as `tiles` reads them."""

from xml.sax import saxutils

import numpy as np
import tifffile

from data_prep import geotiff_tags, grids
from geojax import files

# Side of the blocks that `write_planes` writes.
_BLOCK = 512


def write_tile(path, pixels, *, bands, west, north, pixel_size, date):
  """Writes a small tile in EPSG:4326, deflated.

  Args:
    path: The file to write; its folder exists.
    pixels: Array, shape `[height, width, len(bands)]`.
    bands: Names of the bands.
    west: Longitude of the left edge in degrees.
    north: Latitude of the upper edge in degrees.
    pixel_size: Degrees a pixel.
    date: `datetime.datetime` at which the tile was seen, or None.
  """
  if pixels.ndim != 3 or pixels.shape[-1] != len(bands):
    raise ValueError(f"{len(bands)} bands for pixels of shape {pixels.shape}")
  grid = grids.Grid(
    *pixels.shape[:2], west, north, pixel_size, pixel_size, grids.WGS84
  )
  if len(bands) == 1:
    pixels, layout = pixels[..., 0], {}
  else:
    layout = {"planarconfig": "contig"}
  _write(path, pixels, bands, grid, date, dtype=pixels.dtype, **layout)


def write_planes(path, planes, *, bands, grid, dtype, date):
  """Writes a large tile on a `grids.Grid`, a band at a time.

  Args:
    path: The file to write; its folder exists.
    planes: Iterable of arrays `[grid.height, grid.width]`, one a band; each is
      dropped before the next is asked for.
    bands: Names of the bands.
    grid: Where the pixels lie.
    dtype: NumPy dtype of the pixels.
    date: See `write_tile`.
  """

  def blocks():
    for band, plane in zip(bands, planes, strict=True):
      if plane.shape != (grid.height, grid.width):
        raise ValueError(
          f"band {band} of {plane.shape}, expected {grid.height, grid.width}"
        )
      for row in range(0, grid.height, _BLOCK):
        for col in range(0, grid.width, _BLOCK):
          yield np.ascontiguousarray(
            plane[row : row + _BLOCK, col : col + _BLOCK], dtype
          )

  _write(
    path,
    blocks(),
    bands,
    grid,
    date,
    planarconfig="separate",
    shape=(len(bands), grid.height, grid.width),
    dtype=dtype,
    tile=(_BLOCK, _BLOCK),
    bigtiff=True,
  )


def write_codes(path, codes, *, band, grid, date, colors, no_data):
  """Writes a tile of codes that viewers show in colours.

  Args:
    path: The file to write; its folder exists.
    codes: Array of uint8, shape `[grid.height, grid.width]`.
    band: Name of the band.
    grid: Where the pixels lie.
    date: See `write_tile`.
    colors: RGB of codes 0, 1, ..., uint8, shape `[n, 3]`, n <= 256; all other
      codes are white.
    no_data: The code of pixels without a value.
  """
  if codes.shape != (grid.height, grid.width):
    raise ValueError(f"{codes.shape} codes on {grid.height, grid.width} pixels")
  palette = np.full((3, 256), 65535, np.uint16)
  # 255 times 257 is 65535.
  palette[:, : len(colors)] = np.transpose(colors).astype(np.uint16) * 257
  _write(
    path,
    codes,
    (band,),
    grid,
    date,
    photometric="palette",
    colormap=palette,
    dtype=np.uint8,
    more_tags=[(geotiff_tags.GDAL_NO_DATA, "s", 0, str(no_data), True)],
  )


def _write(path, pixels, bands, grid, date, more_tags=(), **layout):
  layout = {"photometric": "minisblack", **layout}
  names = "".join(
    f'<Item name="DESCRIPTION" sample="{i}" role="description">'
    f"{saxutils.escape(band)}</Item>"
    for i, band in enumerate(bands)
  )
  metadata = f"<GDALMetadata>{names}</GDALMetadata>"
  # Projected or geographic (key 1024 = 1 or 2), pixels are areas (1025 = 1),
  # and the EPSG code (3072 or 2048).
  model, code = (1, 3072) if grid.is_projected else (2, 2048)
  keys = (1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, 1, code, 0, 1, grid.epsg)
  scale = (grid.pixel_width, grid.pixel_height, 0.0)
  tie_point = (0.0, 0.0, 0.0, grid.west, grid.north, 0.0)
  extratags = [
    (geotiff_tags.PIXEL_SCALE, "d", 3, scale, True),
    (geotiff_tags.TIEPOINT, "d", 6, tie_point, True),
    (geotiff_tags.GEO_KEYS, "H", len(keys), keys, True),
    (geotiff_tags.GDAL_METADATA, "s", 0, metadata, True),
    *more_tags,
  ]
  with files.atomic(path) as temporary:
    tifffile.imwrite(
      temporary,
      pixels,
      compression="zlib",
      compressionargs={"level": 1},
      predictor=np.dtype(layout["dtype"]).kind in "iu",
      datetime=date,
      metadata=None,
      extratags=extratags,
      **layout,
    )
