"""Legends of land cover, and the maps of it that Python packages bring.

References:
  Friedl & Sulla-Menashe, MCD12C1 MODIS/Terra+Aqua Land Cover Type Yearly L3
  Global 0.05Deg CMG, version 006, NASA LP DAAC, 2015.
  Zanaga et al., ESA WorldCover 10 m 2020 v100, Zenodo, 2021.
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

# Code 0 is no data.
WORLD_COVER = {
  10: ("Tree cover", "#006400"),
  20: ("Shrubland", "#ffbb22"),
  30: ("Grassland", "#ffff4c"),
  40: ("Cropland", "#f096ff"),
  50: ("Built-up", "#fa0000"),
  60: ("Bare / sparse vegetation", "#b4b4b4"),
  70: ("Snow and ice", "#f0f0f0"),
  80: ("Permanent water bodies", "#0064c8"),
  90: ("Herbaceous wetland", "#0096a0"),
  95: ("Mangroves", "#00cf75"),
  100: ("Moss and lichen", "#fae6a0"),
}

# By the name that `--class_map=NAME=...` takes instead of a file.
MAPS = {
  "modis_igbp_2019": LandCover(rasters.LAND_COVER, grids.WGS84, _IGBP),
}
