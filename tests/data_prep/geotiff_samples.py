"""Writes GeoTIFFs of one band, as other programs do."""

import tifffile

from data_prep import geotiff_tags


def write_band(path, pixels, grid, no_data=None, **kwargs):
  """Writes pixels `[grid.height, grid.width]`; returns the path."""
  model, code = (1, 3072) if grid.is_projected else (2, 2048)
  keys = (1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, 1, code, 0, 1, grid.epsg)
  scale = (grid.pixel_width, grid.pixel_height, 0.0)
  tags = [
    (geotiff_tags.PIXEL_SCALE, "d", 3, scale, True),
    (
      geotiff_tags.TIEPOINT,
      "d",
      6,
      (0, 0, 0, grid.west, grid.north, 0.0),
      True,
    ),
    (geotiff_tags.GEO_KEYS, "H", len(keys), keys, True),
  ]
  if no_data is not None:
    tags.append((geotiff_tags.GDAL_NO_DATA, "s", 0, str(no_data), True))
  tifffile.imwrite(
    path,
    pixels,
    photometric="minisblack",
    metadata=None,
    extratags=tags,
    **kwargs,
  )
  return path
