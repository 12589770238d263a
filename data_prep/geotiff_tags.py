"""What the tags of a GeoTIFF say: location, names, date, no data and scale.

A tile lies north up, by tags 33550 and 33922 (or an unrotated 34264) and the
GeoKeys. Names and scales of bands are those of GDAL's metadata tag.

References:
  OGC GeoTIFF Standard 1.1, 2019.
  TIFF Revision 6.0, 1992.
"""

import datetime
import xml.etree.ElementTree as ElementTree

import numpy as np

from data_prep import grids
from data_prep.tile_blocks import UnusableError

# TIFF tags.
PIXEL_SCALE = 33550
TIEPOINT = 33922
TRANSFORMATION = 34264
GEO_KEYS = 34735
GDAL_METADATA = 42112
GDAL_NO_DATA = 42113
_AFFINE_TAGS = (PIXEL_SCALE, TIEPOINT, TRANSFORMATION)

_DATE_FORMAT = "%Y:%m:%d %H:%M:%S"
# The GeoTIFF standard's code for "defined by the user": no EPSG code.
_USER_DEFINED = 32767


def read_grid(page, spot=None, epsg=0):
  """The grid of a page, and whether its pixels are areas.

  Args:
    page: A `tifffile.TiffPage`.
    spot: See `tiles.opened`.
    epsg: See `tiles.opened`.
  """
  if spot is not None and not any(tag in page.tags for tag in _AFFINE_TAGS):
    return grids.Spot(page.imagelength, page.imagewidth, *spot), True
  west, north, pixel_width, pixel_height = _read_affine(page)
  keys = page.geotiff_tags or {}
  code = int(
    keys.get("ProjectedCSTypeGeoKey")
    or keys.get("GeographicTypeGeoKey")
    or _USER_DEFINED
  )
  if code != _USER_DEFINED:
    epsg = code
  if not epsg:
    raise UnusableError(
      "no georeference: no EPSG code among its GeoKeys; gdal_edit.py -a_srs"
      " EPSG:CODE writes one"
    )
  is_area = int(keys.get("GTRasterTypeGeoKey", 1)) == 1
  if not is_area:
    # The tie point is the upper left pixel's centre.
    west -= pixel_width / 2
    north += pixel_height / 2
  return (
    grids.Grid(
      height=page.imagelength,
      width=page.imagewidth,
      west=west,
      north=north,
      pixel_width=pixel_width,
      pixel_height=pixel_height,
      epsg=epsg,
    ),
    is_area,
  )


def _read_affine(page):
  """Upper left corner and pixel size."""
  tags = {
    code: page.tags[code].value for code in _AFFINE_TAGS if code in page.tags
  }
  if TRANSFORMATION in tags:
    a, b, _, x, d, e, _, y = tags[TRANSFORMATION][:8]
    if b or d:
      raise UnusableError("rotated transform, expected north up")
    pixel_width, pixel_height, west, north = a, -e, x, y
  elif PIXEL_SCALE in tags and TIEPOINT in tags:
    pixel_width, pixel_height = tags[PIXEL_SCALE][:2]
    col, row, _, x, y, _ = tags[TIEPOINT][:6]
    west, north = x - col * pixel_width, y + row * pixel_height
  else:
    raise UnusableError("no georeference: GeoTIFF tags 33550 and 33922 missing")
  if not (pixel_width > 0 and pixel_height > 0):
    raise UnusableError(
      f"pixel size ({pixel_width}, {pixel_height}), expected north up"
    )
  return west, north, pixel_width, pixel_height


def read_bands(page):
  """Band names from GDAL's metadata, or () unless each band has its own."""
  names = _read_items(page, "description")
  if set(names) != set(range(page.samplesperpixel)):
    return ()
  # Exporters of chips repeat one text for each band.
  if len(names) != len(set(names.values())):
    return ()
  return tuple(names[i] for i in range(page.samplesperpixel))


def read_date(page):
  """The TIFF's DateTime, or None."""
  if "DateTime" not in page.tags:
    return None
  return datetime.datetime.strptime(page.tags["DateTime"].value, _DATE_FORMAT)


def read_no_data(page):
  """GDAL's no-data value as a pixel has it; None if no pixel can."""
  if GDAL_NO_DATA not in page.tags:
    return None
  value = float(page.tags[GDAL_NO_DATA].value.strip(" \0"))
  if page.dtype.kind == "f":
    # The lowest double, which GDAL writes, is -inf in single precision.
    with np.errstate(over="ignore"):
      return float(page.dtype.type(value))
  if page.dtype.kind in "iu" and value.is_integer():
    limits = np.iinfo(page.dtype)
    if limits.min <= value <= limits.max:
      return int(value)
  return None


def read_scale(page):
  """Scale and offset of the first band: value = scale * pixel + offset."""
  scale, offset = (
    float(_read_items(page, role).get(0, default))
    for role, default in (("scale", 1.0), ("offset", 0.0))
  )
  return scale, offset


def _read_items(page, role):
  """Texts of GDAL's metadata of one role, by band."""
  if GDAL_METADATA not in page.tags:
    return {}
  root = ElementTree.fromstring(page.tags[GDAL_METADATA].value)
  return {
    int(item.get("sample")): item.text or ""
    for item in root.iter("Item")
    if item.get("role") == role and item.get("sample") is not None
  }
