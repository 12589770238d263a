"""What maps are made of: land, credible regions, lines along the sphere.

Nothing is fetched: land and coastlines are those of the climate map handed in.
"""

import cartopy.crs as ccrs
import numpy as np
from matplotlib import collections, colormaps, colors

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


def draw_regions(axes, probability):
  """Fills a GeoAxes with credible regions, cell by cell.

  Args:
    axes: A GeoAxes.
    probability: Probability of each cell of `sphere.equal_area_grid`, shape
      `[cells]`.
  """
  globe = axes.projection
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
