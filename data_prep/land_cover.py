"""Maps of land cover that Python packages bring, with their legends.

References:
  Friedl & Sulla-Menashe, MCD12C1 MODIS/Terra+Aqua Land Cover Type Yearly L3
  Global 0.05Deg CMG, version 006, NASA LP DAAC, 2015.
"""

import dataclasses

from data_prep import grids, rasters


@dataclasses.dataclass(frozen=True)
class LandCover:
  """A map and its classes.

  Attributes:
    raster: The file.
    epsg: Its projection, which the file does not name by a code.
    classes: Name and colour of each code.
  """

  raster: rasters.PackageRaster
  epsg: int
  classes: dict[int, tuple[str, str]]


# The classes of the International Geosphere-Biosphere Programme.
_IGBP = {
  0: ("water", "#4682b4"),
  1: ("evergreen needleleaf forest", "#1b5e20"),
  2: ("evergreen broadleaf forest", "#2e7d32"),
  3: ("deciduous needleleaf forest", "#66a04b"),
  4: ("deciduous broadleaf forest", "#8bc34a"),
  5: ("mixed forest", "#4f8a4b"),
  6: ("closed shrubland", "#b5895c"),
  7: ("open shrubland", "#d9bf94"),
  8: ("woody savanna", "#c0ca33"),
  9: ("savanna", "#e6d96a"),
  10: ("grassland", "#f0b35b"),
  11: ("permanent wetland", "#26a69a"),
  12: ("cropland", "#f48fb1"),
  13: ("urban and built-up", "#d32f2f"),
  14: ("cropland and natural vegetation", "#ce93d8"),
  15: ("snow and ice", "#e3f2fd"),
  16: ("barren", "#bdbdbd"),
}

# By the name that `--class_map=NAME=...` takes instead of a file.
MAPS = {
  "modis_igbp_2019": LandCover(rasters.LAND_COVER, grids.WGS84, _IGBP),
}
