"""The Koppen-Geiger legend: 31 zones, 6 classes, their names and colours.

Zone 0 is the sea; zones 1 to 30 are numbered as in Beck et al. The zones of a
class are consecutive, so that a class is a slice of the zones.

References:
  Beck et al., Present and future Koppen-Geiger climate classification maps at
  1-km resolution, Scientific Data 5, 2018 (order and colours of the zones).
  Peel, Finlayson & McMahon, Updated world map of the Koppen-Geiger climate
  classification, Hydrology and Earth System Sciences 11, 2007.
"""

import numpy as np

from geojax import sphere

CLASSES = ("sea", "tropical", "arid", "temperate", "cold", "polar")

_LEGEND = (
  # zone, class, long name, RGB
  ("sea", 0, "Sea", (205, 219, 230)),
  ("Af", 1, "Tropical, rainforest", (0, 0, 255)),
  ("Am", 1, "Tropical, monsoon", (0, 120, 255)),
  ("Aw", 1, "Tropical, savannah", (70, 170, 250)),
  ("BWh", 2, "Arid, desert, hot", (255, 0, 0)),
  ("BWk", 2, "Arid, desert, cold", (255, 150, 150)),
  ("BSh", 2, "Arid, steppe, hot", (245, 165, 0)),
  ("BSk", 2, "Arid, steppe, cold", (255, 220, 100)),
  ("Csa", 3, "Temperate, dry summer, hot summer", (255, 255, 0)),
  ("Csb", 3, "Temperate, dry summer, warm summer", (200, 200, 0)),
  ("Csc", 3, "Temperate, dry summer, cold summer", (150, 150, 0)),
  ("Cwa", 3, "Temperate, dry winter, hot summer", (150, 255, 150)),
  ("Cwb", 3, "Temperate, dry winter, warm summer", (100, 200, 100)),
  ("Cwc", 3, "Temperate, dry winter, cold summer", (50, 150, 50)),
  ("Cfa", 3, "Temperate, no dry season, hot summer", (200, 255, 80)),
  ("Cfb", 3, "Temperate, no dry season, warm summer", (100, 255, 80)),
  ("Cfc", 3, "Temperate, no dry season, cold summer", (50, 200, 0)),
  ("Dsa", 4, "Cold, dry summer, hot summer", (255, 0, 255)),
  ("Dsb", 4, "Cold, dry summer, warm summer", (200, 0, 200)),
  ("Dsc", 4, "Cold, dry summer, cold summer", (150, 50, 150)),
  ("Dsd", 4, "Cold, dry summer, very cold winter", (150, 100, 150)),
  ("Dwa", 4, "Cold, dry winter, hot summer", (170, 175, 255)),
  ("Dwb", 4, "Cold, dry winter, warm summer", (90, 120, 220)),
  ("Dwc", 4, "Cold, dry winter, cold summer", (75, 80, 180)),
  ("Dwd", 4, "Cold, dry winter, very cold winter", (50, 0, 135)),
  ("Dfa", 4, "Cold, no dry season, hot summer", (0, 255, 255)),
  ("Dfb", 4, "Cold, no dry season, warm summer", (55, 200, 255)),
  ("Dfc", 4, "Cold, no dry season, cold summer", (0, 125, 125)),
  ("Dfd", 4, "Cold, no dry season, very cold winter", (0, 70, 95)),
  ("ET", 5, "Polar, tundra", (178, 178, 178)),
  ("EF", 5, "Polar, frost", (102, 102, 102)),
)

ZONES = tuple(row[0] for row in _LEGEND)
ZONE_TO_CLASS = np.array([row[1] for row in _LEGEND])
ZONE_NAMES = tuple(row[2] for row in _LEGEND)
ZONE_COLORS = np.array([row[3] for row in _LEGEND], np.uint8)

# The zones of each class, as a slice of the 31.
_EDGES = np.searchsorted(ZONE_TO_CLASS, np.arange(len(CLASSES) + 1)).tolist()
CLASS_SLICES = tuple(map(slice, _EDGES[:-1], _EDGES[1:]))

# Distinct with any colour vision: Okabe & Ito, Color Universal Design, 2008;
# sea and polar are greys of different lightness.
CLASS_COLORS = np.array(
  [
    (205, 219, 230),  # sea
    (0, 114, 178),  # tropical: blue
    (230, 159, 0),  # arid: orange
    (0, 158, 115),  # temperate: bluish green
    (204, 121, 167),  # cold: reddish purple
    (90, 90, 90),  # polar: dark grey
  ],
  np.uint8,
)


def class_fractions(zones):
  """Sums zone fractions or probabilities over each class.

  Args:
    zones: A value per zone, NumPy or JAX, shape `[..., 31]`.

  Returns:
    A value per class, shape `[..., 6]`.

  Raises:
    ValueError: If the last axis does not have 31 entries.
  """
  sphere.check_last_dim("zones", zones, len(ZONES))
  xp = zones.__array_namespace__()
  sums = [xp.sum(zones[..., s], axis=-1) for s in CLASS_SLICES]
  return xp.stack(sums, axis=-1)
