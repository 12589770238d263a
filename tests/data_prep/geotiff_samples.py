"""Writes GeoTIFFs as other programs do."""

import tifffile

from data_prep import geotiff_tags

# Tags of a file in EPSG:4326 with its corner at 10 E 50 N, pixels of 0.25.
SCALE = (33550, "d", 3, (0.25, 0.25, 0.0), True)
TIEPOINT = (33922, "d", 6, (0.0, 0.0, 0.0, 10.0, 50.0, 0.0), True)


def geo_keys(*, raster_type=1, epsg=4326):
  """The tag of keys, of a file in degrees."""
  keys = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, raster_type, 2048, 0, 1, epsg)
  return (34735, "H", len(keys), keys, True)


def write_tagged(path, pixels, *tags, **kwargs):
  """Writes pixels with tags, and nothing else about them."""
  if getattr(pixels, "ndim", 0) == 3:
    kwargs.setdefault("planarconfig", "contig")
  tifffile.imwrite(
    path,
    pixels,
    photometric="minisblack",
    metadata=None,
    extratags=tags,
    **kwargs,
  )


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
  write_tagged(path, pixels, *tags, **kwargs)
  return path
