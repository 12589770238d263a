"""The report of a build: `report.json` and `places.png`."""

import json
import pathlib

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from matplotlib import colors

from data_prep import climate_maps
from geojax import files

_LAND = colors.ListedColormap(["#ffffff", "#e4e4e4"])
_COLOURS = {"train": "#4c8fc4", "validation": "#f5a742", "test": "#c4161c"}


def write_report(directory, *, config, figures, places, errors):
  """Writes `report.json` and `places.png`.

  Args:
    directory: Where to write them.
    config: Name of the builder config.
    figures: Numbers of the closing table by name.
    places: Latitude, longitude and day of year of the records by split, each
      `[n, 3]`.
    errors: A dict of file and reason for each input that could not be used.
  """
  directory = pathlib.Path(directory)
  report = {"config": config, "figures": figures, "errors": errors}
  files.write_text(
    directory / "report.json", json.dumps(report, indent=2) + "\n"
  )
  draw_places(places).savefig(directory / "places.png", dpi=100)


def draw_places(places):
  """Returns a Figure: a world map of the records above a histogram of days."""
  figure = matplotlib.figure.Figure(figsize=(9, 6.6), layout="constrained")
  grid = figure.add_gridspec(2, 1, height_ratios=[3, 1])
  world = figure.add_subplot(grid[0], projection=ccrs.Robinson())
  world.set_global()
  land = climate_maps.load().zones[::8, ::8] > 0
  world.imshow(
    land,
    extent=(-180, 180, -90, 90),
    transform=ccrs.PlateCarree(),
    cmap=_LAND,
    interpolation="nearest",
    regrid_shape=1000,
  )
  world.gridlines(linewidth=0.3)
  days = figure.add_subplot(grid[1])
  bins = np.linspace(0.5, 366.5, 62)
  total = np.zeros(len(bins) - 1)
  # Train first: it has most records, and must not cover the others.
  for split, rows in places.items():
    lat, lon = np.unique(np.round(rows[:, :2], 2), axis=0).T
    colour = _COLOURS[split]
    world.plot(
      lon,
      lat,
      ".",
      markersize=3,
      color=colour,
      transform=ccrs.PlateCarree(),
      label=f"{split}: {len(rows):,} records",
    )
    counts, _ = np.histogram(rows[:, 2], bins)
    days.bar(
      bins[:-1], counts, np.diff(bins), total, align="edge", color=colour
    )
    total += counts
  world.legend(loc="lower left", fontsize=9, markerscale=3)
  days.set_xlim(bins[0], bins[-1])
  days.set_xlabel("day of the year")
  days.set_ylabel("records")
  return figure
