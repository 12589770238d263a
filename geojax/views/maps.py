"""Maps: errors over the world, a mixture on the globe, centers and radii.

Nothing is fetched: land and coastlines are those of the climate map handed in.
"""

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from matplotlib import collections, colormaps, colors, lines

from geojax import sphere

DISTANCE_EDGES_KM = (0, 250, 750, 1500, 2500, 5000, 20016)
DISTANCE_NORM = colors.BoundaryNorm(DISTANCE_EDGES_KM, 256)
DISTANCE_COLOURS = "viridis_r"
# Credible regions from the densest out, in %, and their colours: dark to
# light, so that they are told apart in grey too.
REGIONS_PERCENT = (50, 80, 95)
REGION_COLOURS = ("#993404", "#ec7014", "#fed98e")
_LAND = colors.ListedColormap(["#ffffff", "#dcdcdc"])
_PLAIN = ccrs.PlateCarree()
_STAR = {
  "marker": "*",
  "s": 220,
  "color": "#ffffff",
  "edgecolors": "black",
  "linewidths": 1.2,
}
_RASTER_ROWS = 720
# Of the longer side of a drawn map.
_PIXELS = 1200


def distance_colour(step, **kwargs):
  """The colour of a step of `DISTANCE_EDGES_KM`, as of a matplotlib map."""
  middle = sum(DISTANCE_EDGES_KM[step : step + 2]) / 2
  return colormaps[DISTANCE_COLOURS](DISTANCE_NORM(middle), **kwargs)


def draw_land(axes, climate_map, *, rows=_RASTER_ROWS):
  """Fills a GeoAxes with the land of a climate map.

  Args:
    axes: A GeoAxes.
    climate_map: Zones of the world, row 0 at 90 N, column 0 at 180 W, shape
      `[height, width]`; 0 is sea.
    rows: At most so many rows of the map are used.
  """
  axes.set_global()
  step = max(1, climate_map.shape[0] // rows)
  is_land = climate_map[::step, ::step] > 0
  extent = (*axes.get_xlim(), *axes.get_ylim())
  # Cartopy's own way seeks each pixel's neighbour in a tree of all the map's
  # cells, as if they lay anywhere: 1 s a map.
  lat_deg, lon_deg, on_earth = _places_of_pixels(axes.projection, extent)
  row = np.floor((90 - lat_deg) / 180 * is_land.shape[0]).astype(int)
  col = np.floor((lon_deg + 180) / 360 * is_land.shape[1]).astype(int)
  shown = is_land[np.clip(row, 0, is_land.shape[0] - 1), col % is_land.shape[1]]
  axes.imshow(
    np.ma.array(shown, mask=~on_earth),
    extent=extent,
    origin="lower",
    transform=axes.projection,
    cmap=_LAND,
    interpolation="nearest",
  )


def error_map(
  *, place_true, place_predicted, climate_map, max_lines=25
) -> matplotlib.figure.Figure:
  """Draws the error of each place, and where the worst were put.

  Args:
    place_true: Unit vectors, shape `[count, 3]`.
    place_predicted: Unit vectors, shape `[count, 3]`.
    climate_map: As of `draw_land`.
    max_lines: From so many of the worst places, but a fourth at most, a great
      circle leads to the predicted place, of the worst patch of each.

  Returns:
    The figure: a world map in Robinson's projection.
  """
  distance_km = sphere.great_circle_km(place_true, place_predicted)
  figure = matplotlib.figure.Figure(figsize=(7.2, 4.2), layout="constrained")
  axes = figure.add_subplot(projection=ccrs.Robinson())
  draw_land(axes, climate_map)
  order = np.argsort(distance_km)
  # Patches of one place at several dates lie upon each other.
  _, first = np.unique(
    np.round(place_true[order[::-1]], 5), axis=0, return_index=True
  )
  worst = order[::-1][np.sort(first)][: min(max_lines, -(-len(first) // 4))]
  draw_paths(
    axes,
    great_circles(place_true[worst], place_predicted[worst]),
    color="#555555",
    linewidth=0.6,
    alpha=0.7,
    zorder=2,
  )
  lat, lon = sphere.unit_to_latlon(place_predicted[worst])
  axes.scatter(
    lon, lat, s=12, marker="x", color="#d55e00", linewidths=1, transform=_PLAIN
  )
  lat, lon = sphere.unit_to_latlon(place_true[order])
  mappable = axes.scatter(
    lon,
    lat,
    c=distance_km[order],
    s=11,
    norm=DISTANCE_NORM,
    cmap=DISTANCE_COLOURS,
    edgecolors="black",
    linewidths=0.2,
    transform=_PLAIN,
    zorder=3,
  )
  axes.set_title(
    f"Error of {len(order):,} patches, median {np.median(distance_km):,.0f} km;"
    f"\nlines from the {len(worst)} worst places to where they were put (x)",
    fontsize=10,
  )
  bar = figure.colorbar(
    mappable,
    ax=axes,
    orientation="horizontal",
    shrink=0.8,
    pad=0.02,
    aspect=40,
    spacing="uniform",
    ticks=DISTANCE_EDGES_KM,
    format="{x:,.0f}",
  )
  bar.set_label("great-circle error, km", fontsize=9)
  bar.ax.tick_params(labelsize=8)
  return figure


def probability_map(
  *,
  probability,
  climate_map,
  place_true=None,
  place_predicted=None,
  centers=None,
  weights=None,
  title="",
  max_centers=12,
) -> matplotlib.figure.Figure:
  """Draws where a patch, or a tile, may have been taken, on the globe.

  Args:
    probability: Probability of each cell of `sphere.equal_area_grid`, of a
      patch, or of a tile the mean over its patches, shape `[cells]`.
    climate_map: As of `draw_land`.
    place_true: The true place, a unit vector, or None where it isn't known.
    place_predicted: The predicted place, likewise.
    centers: Centers of the mixture, unit vectors, `[centers, 3]`, or None.
    weights: Their weights, shape `[centers]`; the most active are drawn, with
      areas in proportion.
    title: What the map is of.
    max_centers: At most so many centers are drawn.

  Returns:
    The figure: a globe seen from above the densest region.
  """
  cells = sphere.equal_area_grid(len(probability))
  figure = matplotlib.figure.Figure(figsize=(5.2, 5.6), layout="constrained")
  above = cells[np.argmax(probability)] if place_true is None else place_true
  # From above the middle between truth and guess both are in sight.
  if place_true is not None:
    above = above + cells[np.argmax(probability)] * 0.999
  lat, lon = sphere.unit_to_latlon(above)
  globe = ccrs.Orthographic(float(lon), float(np.clip(lat, -70, 70)))
  axes = figure.add_subplot(projection=globe)
  draw_land(axes, climate_map)
  axes.gridlines(linewidth=0.3, color="#999999", xlocs=range(-180, 180, 30))
  _draw_regions(axes, globe, probability)
  handles = [
    lines.Line2D([], [], color=c, marker="s", linestyle="", label=f"{p} %")
    for p, c in zip(REGIONS_PERCENT, REGION_COLOURS, strict=True)
  ]
  if centers is not None:
    most = np.argsort(-weights)[:max_centers]
    lat, lon = sphere.unit_to_latlon(centers[most])
    axes.scatter(
      lon,
      lat,
      s=15 + 500 * weights[most],
      facecolors="none",
      edgecolors="#0072b2",
      linewidths=1.2,
      transform=_PLAIN,
      zorder=4,
    )
    handles.append(
      lines.Line2D(
        [],
        [],
        color="#0072b2",
        marker="o",
        fillstyle="none",
        linestyle="",
        label="most active centers",
      )
    )
  for place, look, name in (
    (
      place_predicted,
      {"marker": "X", "s": 70, "color": "#000000"},
      "predicted",
    ),
    (place_true, _STAR, "true place"),
  ):
    if place is None:
      continue
    lat, lon = sphere.unit_to_latlon(place)
    axes.scatter([lon], [lat], transform=_PLAIN, zorder=5, **look)
    handles.append(
      lines.Line2D(
        [],
        [],
        linestyle="",
        marker=look["marker"],
        color=look["color"],
        markeredgecolor="black",
        markersize=9,
        label=name,
      )
    )
  axes.set_title(title, fontsize=10)
  figure.legend(
    handles=handles,
    loc="outside lower center",
    ncols=3,
    fontsize=8.5,
    title="credible regions and places",
    title_fontsize=8.5,
  )
  return figure


def centers_map(*, centers, radius_km, climate_map) -> matplotlib.figure.Figure:
  """Draws the centers of a mixture with the radii that hold half their mass.

  Args:
    centers: Unit vectors, shape `[centers, 3]`.
    radius_km: Radius of each about its center, in km, shape `[centers]`.
    climate_map: As of `draw_land`.

  Returns:
    The figure: a world map in Robinson's projection.
  """
  figure = matplotlib.figure.Figure(figsize=(7.2, 4.0), layout="constrained")
  axes = figure.add_subplot(projection=ccrs.Robinson())
  draw_land(axes, climate_map)
  # More circles than these are a blot.
  shown = np.arange(len(centers))[:: -(-len(centers) // 600)]
  draw_paths(
    axes,
    circles(centers[shown], radius_km[shown]),
    color="#0072b2",
    linewidth=0.4,
    alpha=0.6,
    zorder=2,
  )
  lat, lon = sphere.unit_to_latlon(centers)
  size = np.clip(3000 / len(centers), 0.5, 8)
  axes.scatter(lon, lat, s=size, color="#d55e00", transform=_PLAIN, zorder=3)
  low, middle, high = np.percentile(radius_km, [0, 50, 100])
  spread = (
    f"{middle:,.0f} km"
    if high - low < 1
    else f"{low:,.0f} to {high:,.0f} km, median {middle:,.0f} km"
  )
  axes.set_title(
    f"{len(centers):,} centers; circles hold half of a component's mass:\n"
    f"radius {spread}",
    fontsize=10,
  )
  return figure


def great_circles(start, end, *, num_points=60):
  """Points along great circles.

  Args:
    start: Unit vectors, shape `[count, 3]`.
    end: Unit vectors, shape `[count, 3]`, not antipodal to `start`.
    num_points: Points a circle.

  Returns:
    Unit vectors, shape `[count, num_points, 3]`.
  """
  along = np.linspace(0, 1, num_points)[None, :, None]
  # Equal steps in angle: slerp; for coincident points any way is short.
  angle = sphere.great_circle_km(start, end) / sphere.EARTH_RADIUS_KM
  angle = np.maximum(angle, 1e-9)[:, None, None]
  points = np.sin((1 - along) * angle) * start[:, None]
  points = (points + np.sin(along * angle) * end[:, None]) / np.sin(angle)
  return points / np.linalg.norm(points, axis=-1, keepdims=True)


def circles(center, radius_km, *, num_points=60):
  """Points along small circles.

  Args:
    center: Unit vectors, shape `[count, 3]`.
    radius_km: Radii along the surface in km, shape `[count]`.
    num_points: Points a circle; the last is the first.

  Returns:
    Unit vectors, shape `[count, num_points, 3]`.
  """
  # Two directions at right angles to each center and to each other.
  axis = np.eye(3)[np.argmin(np.abs(center), axis=-1)]
  east = np.cross(axis, center)
  east /= np.linalg.norm(east, axis=-1, keepdims=True)
  north = np.cross(center, east)
  turn = np.linspace(0, 2 * np.pi, num_points)[None, :, None]
  ring = np.cos(turn) * east[:, None] + np.sin(turn) * north[:, None]
  angle = (np.asarray(radius_km) / sphere.EARTH_RADIUS_KM)[:, None, None]
  return np.cos(angle) * center[:, None] + np.sin(angle) * ring


def draw_paths(axes, points, **look):
  """Draws lines on a GeoAxes, cut where they leave the map's edge.

  Args:
    axes: A GeoAxes.
    points: Unit vectors, shape `[count, num_points, 3]`.
    **look: Of a matplotlib LineCollection.
  """
  lat, lon = sphere.unit_to_latlon(points)
  xy = axes.projection.transform_points(_PLAIN, lon, lat)[..., :2]
  left, right = axes.projection.x_limits
  jump = np.abs(np.diff(xy[..., 0], axis=-1)) > (right - left) / 3
  pieces = []
  for path, cut in zip(xy, jump, strict=True):
    pieces += np.split(path, np.flatnonzero(cut) + 1)
  axes.add_collection(collections.LineCollection(pieces, **look))


def region_of_cells(probability):
  """The smallest credible region that holds each cell.

  Args:
    probability: Probabilities of cells of equal area, shape `[cells]`.

  Returns:
    Index into `REGIONS_PERCENT`, and beyond it for cells outside of all,
    integers of shape `[cells]`.
  """
  order = np.argsort(-probability, kind="stable")
  # A cell belongs to a region whose mass is not reached before it.
  before = np.cumsum(probability[order]) - probability[order]
  masses = np.array(REGIONS_PERCENT) / 100 * probability.sum()
  region = np.empty(len(probability), int)
  region[order] = np.searchsorted(masses, before, side="right")
  return region


def _places_of_pixels(projection, extent):
  """Latitudes and longitudes of an image's pixels; and which show a place.

  The first row is the lowest. Beside the Earth there is no place: 0 stands for
  it.
  """
  left, right, bottom, top = extent
  sides = np.array([top - bottom, right - left])
  height, width = np.ceil(_PIXELS * sides / sides.max()).astype(int)
  x, y = np.meshgrid(
    left + (np.arange(width) + 0.5) * (right - left) / width,
    bottom + (np.arange(height) + 0.5) * (top - bottom) / height,
  )
  lon_lat = _PLAIN.transform_points(projection, x, y)[..., :2]
  on_earth = np.isfinite(lon_lat).all(axis=-1)
  lon_deg, lat_deg = np.moveaxis(
    np.where(on_earth[..., None], lon_lat, 0), -1, 0
  )
  return lat_deg, lon_deg, on_earth


def _draw_regions(axes, globe, probability):
  """Fills credible regions, cell by cell, on the side of the globe in sight."""
  extent = (*globe.x_limits, *globe.y_limits)
  lat_deg, lon_deg, on_earth = _places_of_pixels(globe, extent)
  index = sphere.equal_area_index(
    sphere.latlon_to_unit(lat_deg, lon_deg), len(probability)
  )
  region = region_of_cells(probability)[index]
  outside = ~on_earth | (region == len(REGIONS_PERCENT))
  axes.imshow(
    np.ma.array(region, mask=outside),
    extent=extent,
    origin="lower",
    transform=globe,
    cmap=colors.ListedColormap(REGION_COLOURS),
    vmin=-0.5,
    vmax=len(REGIONS_PERCENT) - 0.5,
    alpha=0.8,
    interpolation="nearest",
    zorder=1.5,
  )
