"""World maps and globes: land, credible regions, places and lines.

Nothing is downloaded: land and coastlines are those of the climate map, zones
of the world as integers of shape `[height, width]`, row 0 at 90 N, column 0 at
180 W, 0 for sea.
"""

import math

import cartopy.crs as ccrs
import numpy as np
from matplotlib import collections, colors, patches

from geojax import sphere
from geojax.views import scales

PLAIN = ccrs.PlateCarree()
_LAND = colors.ListedColormap(["#f4f7fa", "#d5d5d2"])
_REGIONS = colors.ListedColormap(scales.REGION_COLOURS)
# Pixels of the longer side of a map.
_PIXELS = 1200
_OPACITY = 0.8
# About 1,000 km around a place: coasts and cells of regions stay recognisable.
_MIN_VIEW_RAD = 0.15
_MARKS = {
  "predicted": {"marker": "X", "s": 90, "color": "black", "edgecolors": "w"},
  "true": {"marker": "*", "s": 180, "color": "w", "edgecolors": "black"},
}


def draw_world(axes, climate_map, cell_levels=None):
  """Fills the limits of a GeoAxes with land and credible regions.

  Args:
    axes: A GeoAxes.
    climate_map: Zones of the world, `[height, width]`.
    cell_levels: Level above which a credible region contains each cell of
      `sphere.equal_area_grid`, shape `[cells]`, or None.
  """
  extent = left, right, bottom, top = (*axes.get_xlim(), *axes.get_ylim())
  sides = np.array([top - bottom, right - left])
  height, width = np.ceil(_PIXELS * sides / sides.max()).astype(int)
  x, y = np.meshgrid(
    left + (np.arange(width) + 0.5) * (right - left) / width,
    bottom + (np.arange(height) + 0.5) * (top - bottom) / height,
  )
  # Cartopy's own warp searches a tree of all cells, 1 s per map.
  lon_lat = PLAIN.transform_points(axes.projection, x, y)[..., :2]
  outside = ~np.isfinite(lon_lat).all(axis=-1)
  lon, lat = np.moveaxis(np.where(outside[..., None], 0, lon_lat), -1, 0)
  rows, columns = climate_map.shape
  row = np.clip((90 - lat) / 180 * rows, 0, rows - 1).astype(int)
  column = ((lon + 180) / 360 * columns).astype(int) % columns
  look = {
    "extent": extent,
    "origin": "lower",
    "transform": axes.projection,
    "interpolation": "nearest",
  }
  is_land = np.ma.array(climate_map[row, column] > 0, mask=outside)
  axes.imshow(is_land, cmap=_LAND, vmin=0, vmax=1, **look)
  if cell_levels is None:
    return
  cell = sphere.equal_area_index(
    sphere.latlon_to_unit(lat, lon), len(cell_levels)
  )
  region = scales.region_of(cell_levels)[cell]
  outside = outside | (region == _REGIONS.N)
  look |= {"cmap": _REGIONS, "vmin": -0.5, "vmax": _REGIONS.N - 0.5}
  axes.imshow(
    np.ma.array(region, mask=outside), alpha=_OPACITY, zorder=1.5, **look
  )


def add_world(figure, position, climate_map):
  """Adds a GeoAxes of the world in Robinson's projection."""
  axes = figure.add_subplot(position, projection=ccrs.Robinson())
  axes.set_global()
  draw_world(axes, climate_map)
  return axes


def add_globe(figure, position, climate_map, *, cell_levels, place, place_true):
  """Adds a globe with credible regions, zoomed in where these are small.

  Args:
    figure: A matplotlib Figure.
    position: Position of the subplot, such as 111 or a SubplotSpec.
    climate_map: Zones of the world, `[height, width]`.
    cell_levels: Level above which a credible region contains each cell of
      `sphere.equal_area_grid`, shape `[cells]`, or None.
    place: Predicted place, a unit vector, or None.
    place_true: True place, a unit vector, or None.

  Returns:
    The GeoAxes, and handles for `add_globe_legend`.
  """
  center, radius_rad = _view(cell_levels, place, place_true)
  lat, lon = (float(x) for x in sphere.unit_to_latlon(center))
  projection = ccrs.Orthographic(lon, lat)
  axes = figure.add_subplot(position, projection=projection)
  axes.set_global()
  if radius_rad < math.pi / 2:
    half = projection.x_limits[1] * math.sin(radius_rad)
    axes.set(xlim=(-half, half), ylim=(-half, half))
  draw_world(axes, climate_map, cell_levels)
  axes.gridlines(linewidth=0.3, color="#999999")
  handles = []
  if cell_levels is not None:
    handles += [
      patches.Patch(color=colour, alpha=_OPACITY, label=name)
      for name, colour in zip(
        scales.REGION_NAMES, scales.REGION_COLOURS, strict=True
      )
    ]
  for name, point in (("predicted", place), ("true", place_true)):
    if point is None:
      continue
    lat, lon = sphere.unit_to_latlon(point)
    label = f"{name} place"
    if point @ center < math.cos(radius_rad):
      label += " (far side)"
    handles.append(
      axes.scatter(
        lon, lat, transform=PLAIN, zorder=5, label=label, **_MARKS[name]
      )
    )
  return axes, handles


def add_globe_legend(axes, handles):
  """Adds a legend below a globe."""
  axes.legend(
    handles=handles,
    loc="upper center",
    bbox_to_anchor=(0.5, 0),
    ncols=3,
    fontsize=8.5,
    title="Credible regions and places" if len(handles) > 2 else None,
    title_fontsize=8.5,
  )


def add_error_map(
  figure, position, climate_map, place_true, place_predicted, *, lines, **bar
):
  """Adds a world map with a dot per patch in the colour of its error.

  Args:
    figure: A matplotlib Figure.
    position: Position of the subplot, such as 111 or a SubplotSpec.
    climate_map: Zones of the world, `[height, width]`.
    place_true: Unit vectors, shape `[count, 3]`.
    place_predicted: Unit vectors, shape `[count, 3]`.
    lines: Indices of the patches with a great circle to the predicted place.
    **bar: Properties of the colour bar.

  Returns:
    The GeoAxes.
  """
  axes = add_world(figure, position, climate_map)
  distance_km = sphere.great_circle_km(place_true, place_predicted)
  order = np.argsort(distance_km)  # the largest on top
  lat, lon = sphere.unit_to_latlon(place_true[order])
  dots = axes.scatter(
    lon,
    lat,
    c=distance_km[order],
    s=13,
    **scales.ERROR_SCALE,
    edgecolors="black",
    linewidths=0.3,
    transform=PLAIN,
    zorder=3,
  )
  lines = order[np.isin(order, lines)]
  ends = np.stack([place_true[lines], place_predicted[lines]], axis=1)
  axes.add_collection(
    collections.LineCollection(
      np.stack(sphere.unit_to_latlon(ends)[::-1], axis=-1),
      colors=dots.to_rgba(distance_km[lines]),
      linewidth=0.6,
      alpha=0.6,
      transform=ccrs.Geodetic(),
      zorder=2,
    )
  )
  bar = figure.colorbar(
    dots,
    ax=axes,
    pad=0.02,
    ticks=scales.ERROR_EDGES_KM,
    format="{x:,.0f}",
    label="great-circle error, km",
    **bar,
  )
  bar.ax.tick_params(labelsize=8)
  return axes


def first_of_each_place(places):
  """Indices, rising, of the first row of each distinct place."""
  _, first = np.unique(np.round(places, 5), axis=0, return_index=True)
  return np.sort(first)


def _view(cell_levels, place, place_true):
  """Center and angular radius of a view of regions and places."""
  points = [x for x in (place, place_true) if x is not None]
  if cell_levels is not None:
    cells = sphere.equal_area_grid(len(cell_levels))
    place = cells[np.argmin(cell_levels)]
    points += [*cells[cell_levels < scales.REGION_LEVELS[-1]]]
  center = place if place_true is None else place + place_true
  # More than 120 degrees apart, the middle shows neither.
  if np.linalg.norm(center) < 1:
    center = place
  center = center / np.linalg.norm(center)
  cosine = np.clip(np.array(points) @ center, -1, 1)
  radius_rad = max(1.25 * float(np.arccos(cosine.min())), _MIN_VIEW_RAD)
  # A whole hemisphere is easier to recognise than most of one.
  if cell_levels is None or radius_rad > math.pi / 4:
    radius_rad = math.pi / 2
  return center, radius_rad
