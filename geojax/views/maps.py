"""Maps of errors, of credible regions and of a mixture's centers."""

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from cartopy import geodesic
from matplotlib import collections

from geojax import sphere
from geojax.views import map_layers, scales


def error_map(
  *, place_true, place_predicted, climate_map, max_lines=25
) -> matplotlib.figure.Figure:
  """Draws the error at each place, and lines to the worst predictions.

  Args:
    place_true: Unit vectors, shape `[count, 3]`.
    place_predicted: Unit vectors, shape `[count, 3]`.
    climate_map: Zones of the world, `[height, width]`.
    max_lines: Number of places with the largest errors that get a line, at most
      a fourth of all; of each place the worst patch.

  Returns:
    The figure, a world map.
  """
  distance_km = sphere.great_circle_km(place_true, place_predicted)
  worst_first = np.argsort(-distance_km)
  # Patches of one place at several dates coincide.
  first = map_layers.first_of_each_place(place_true[worst_first])
  worst = worst_first[first[: min(max_lines, -(-len(first) // 4))]]
  figure = matplotlib.figure.Figure(figsize=(7.2, 4.2), layout="constrained")
  axes = map_layers.add_error_map(
    figure,
    111,
    climate_map,
    place_true,
    place_predicted,
    lines=worst,
    orientation="horizontal",
    shrink=0.8,
    aspect=40,
  )
  lat, lon = sphere.unit_to_latlon(place_predicted[worst])
  axes.scatter(
    lon,
    lat,
    s=14,
    marker="x",
    color=scales.ORANGE,
    linewidths=1,
    transform=map_layers.PLAIN,
  )
  axes.set_title(
    f"Error of {len(distance_km):,} patches, median"
    f" {np.median(distance_km):,.0f} km;\nlines from the {len(worst)} worst"
    " places to their predictions (x)",
    fontsize=10,
  )
  return figure


def probability_map(
  *,
  cell_levels,
  climate_map,
  place_true=None,
  place_predicted=None,
  centers=None,
  weights=None,
  title="",
  max_centers=12,
) -> matplotlib.figure.Figure:
  """Draws the credible regions of a patch, or of a tile, on a globe.

  Args:
    cell_levels: Level above which a credible region contains each cell of
      `sphere.equal_area_grid`, shape `[cells]`.
    climate_map: Zones of the world, `[height, width]`.
    place_true: True place, a unit vector, or None if unknown.
    place_predicted: Predicted place, a unit vector, or None.
    centers: Centers of the mixture, unit vectors, `[centers, 3]`, or None.
    weights: Their weights, shape `[centers]`; the largest are drawn, with areas
      in proportion.
    title: Title of the map.
    max_centers: Number of centers to draw.

  Returns:
    The figure, a globe.
  """
  figure = matplotlib.figure.Figure(figsize=(5.2, 5.7), layout="constrained")
  axes, handles = map_layers.add_globe(
    figure,
    111,
    climate_map,
    cell_levels=cell_levels,
    place=place_predicted,
    place_true=place_true,
  )
  if centers is not None:
    largest = np.argsort(-weights)[:max_centers]
    lat, lon = sphere.unit_to_latlon(centers[largest])
    rings = {"facecolors": "none", "edgecolors": scales.BLUE, "linewidths": 1.2}
    axes.scatter(
      lon,
      lat,
      s=15 + 500 * weights[largest],
      **rings,
      transform=map_layers.PLAIN,
      zorder=4,
    )
    name = "largest components"
    handles.append(axes.scatter([], [], s=40, label=name, **rings))
  axes.set_title(title, fontsize=10)
  map_layers.add_globe_legend(axes, handles)
  return figure


def centers_map(*, centers, radius_km, climate_map) -> matplotlib.figure.Figure:
  """Draws the centers of a mixture with circles of given radii.

  Args:
    centers: Unit vectors, shape `[centers, 3]`.
    radius_km: Radius that holds half of each component's mass, `[centers]`.
    climate_map: Zones of the world, `[height, width]`.

  Returns:
    The figure, a world map.
  """
  figure = matplotlib.figure.Figure(figsize=(7.2, 4.0), layout="constrained")
  axes = map_layers.add_world(figure, 111, climate_map)
  lat, lon = sphere.unit_to_latlon(centers)
  earth = geodesic.Geodesic(1000 * sphere.EARTH_RADIUS_KM, 0)
  # More circles than these merge into one blot.
  circles = [
    earth.circle(lon[i], lat[i], 1000 * radius_km[i], 36, endpoint=True)
    for i in range(0, len(centers), -(-len(centers) // 600))
  ]
  axes.add_collection(
    collections.LineCollection(
      circles,
      color=scales.BLUE,
      linewidth=0.4,
      alpha=0.6,
      transform=ccrs.Geodetic(),
      zorder=2,
    )
  )
  size = np.clip(3000 / len(centers), 0.5, 8)
  axes.scatter(
    lon, lat, s=size, color=scales.ORANGE, transform=map_layers.PLAIN, zorder=3
  )
  low, middle, high = np.percentile(radius_km, [0, 50, 100])
  spread = f"{middle:,.0f} km"
  if high - low >= 1:
    spread = f"{low:,.0f} to {high:,.0f} km, median {spread}"
  axes.set_title(
    f"{len(centers):,} centers; circles hold half of a component's mass:\n"
    f"radius {spread}",
    fontsize=10,
  )
  return figure
