"""Colours and scales shared by all pictures."""

import numpy as np
from matplotlib import colormaps, colors

from geojax import climate

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"

ERROR_EDGES_KM = (0, 250, 750, 1500, 2500, 5000, 20016)
ERROR_SCALE = {
  "norm": colors.BoundaryNorm(ERROR_EDGES_KM, 256),
  "cmap": "viridis_r",
}

# Levels of the credible regions and their colours, which also differ in grey.
REGION_LEVELS = (0.5, 0.8, 0.95)
REGION_COLOURS = ("#993404", "#ec7014", "#fed98e")
REGION_NAMES = tuple(f"{100 * level:.0f} %" for level in REGION_LEVELS)

ZONE_COLOURS = climate.ZONE_COLORS / 255
CLASS_COLOURS = climate.CLASS_COLORS / 255


def error_colours():
  """Colours of the steps of `ERROR_EDGES_KM`, RGB in 0..255, shape `[6, 3]`."""
  middle = np.add(ERROR_EDGES_KM[1:], ERROR_EDGES_KM[:-1]) / 2
  norm, cmap = ERROR_SCALE["norm"], colormaps[ERROR_SCALE["cmap"]]
  return cmap(norm(middle), bytes=True)[:, :3]


def region_of(cell_levels):
  """Index of the smallest credible region that contains each cell.

  Args:
    cell_levels: Level above which a credible region contains the cell, in
      [0, 1], any shape.

  Returns:
    Indices into `REGION_LEVELS`, and `len(REGION_LEVELS)` outside of all.
  """
  return np.searchsorted(REGION_LEVELS, cell_levels, side="right")
