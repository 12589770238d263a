"""The picture of one tile: what it shows, and what was said of it."""

import calendar
import math

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from matplotlib import patches, ticker

from geojax import climate, sphere

_TRUE, _PREDICTED = "#d55e00", "#000000"
_WATER, _LAND = (0.93, 0.95, 0.97), (0.80, 0.80, 0.78)
_NO_ANSWER = (1.0, 1.0, 1.0)
_MAP_PIXELS = 900
_ON_BARS = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
_DAYS = 365
_MONTH_STARTS = np.array(
  [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
)
_DAYS_PER_BIN = 7.3


def tile_prediction(
  *,
  title,
  picture,
  place,
  place_true,
  probabilities,
  levels,
  regions,
  patch_days,
  day,
  day_spread,
  date_true,
  zones_mapped,
  zones_predicted,
  zones_margin,
  shares_mapped,
  shares_predicted,
  climate_map,
) -> matplotlib.figure.Figure:
  """Draws what a tile shows and what was said of it.

  Args:
    title: What to call the tile.
    picture: RGB in [0, 1], NaN where nothing was seen, shape `[h, w, 3]`.
    place: Predicted place, unit vector, shape `[3]`.
    place_true: The tile's place, unit vector, shape `[3]`, or None.
    probabilities: Of the cells of `sphere.equal_area_grid`, shape `[cells]`, or
      None of a model that knows no density.
    levels: Levels of the credible regions to outline, falling or rising.
    regions: Level from which on a region holds each cell, shape `[cells]`, or
      None.
    patch_days: Predicted days of the patches, shape `[n]`.
    day: Predicted day of the tile, from 1.
    day_spread: Days before and after it that hold half of its probability.
    date_true: `datetime.datetime` at which the tile was seen, or None.
    zones_mapped: Zones by the climate map over the extent of the picture,
      integers, shape `[h', w']`.
    zones_predicted: Zones predicted, -1 where no patch was clear, `[r, c]`.
    zones_margin: Shares of the picture's height and width by which
      `zones_predicted` ends before each of its edges.
    shares_mapped: Fraction of the tile in each zone, shape `[31]`.
    shares_predicted: Predicted fraction, shape `[31]`.
    climate_map: Zones of the world, row 0 at 90 N, column 0 at 180 W, shape
      `[height, width]`; 0 is sea.

  Returns:
    The figure: the tile, the map and the days above, the climate below.
  """
  figure = matplotlib.figure.Figure(figsize=(13, 8.4), layout="constrained")
  figure.suptitle(title, fontsize=13)
  grid = figure.add_gridspec(2, 3, height_ratios=[1.15, 1])
  seen = figure.add_subplot(grid[0, 0])
  _show(seen, np.nan_to_num(picture, nan=1.0), (0, 0), picture.shape)
  seen.set_title("The tile in true colour")
  center, radius_rad = _view(place, place_true, regions, max(levels))
  lat, lon = (float(x) for x in sphere.unit_to_latlon(center))
  globe = figure.add_subplot(grid[0, 1], projection=ccrs.Orthographic(lon, lat))
  _draw_globe(
    globe,
    (center, lat, lon, radius_rad),
    (place, place_true),
    (probabilities, regions, levels),
    climate_map,
  )
  _draw_days(
    figure.add_subplot(grid[0, 2]), patch_days, day, day_spread, date_true
  )
  for column, (zones, margin, name) in enumerate(
    (
      (zones_mapped, (0, 0), "as mapped"),
      (zones_predicted, zones_margin, "as predicted"),
    )
  ):
    axes = figure.add_subplot(grid[1, column])
    _show(axes, _paint(zones), margin, picture.shape)
    axes.set_title(f"Climate {name}")
    if np.any(zones < 0):
      axes.set_xlabel("white: no clear patch")
  _draw_shares(figure.add_subplot(grid[1, 2]), shares_mapped, shares_predicted)
  return figure


def _show(axes, image, margin, shape):
  """Shows what lies over the tile, all on the same extent."""
  down, right = margin
  axes.imshow(
    image, interpolation="nearest", extent=(right, 1 - right, 1 - down, down)
  )
  axes.set_xlim(0, 1)
  axes.set_ylim(1, 0)
  axes.set_aspect(shape[0] / shape[1])
  axes.set_facecolor("#f2f2f2")
  axes.set_xticks([])
  axes.set_yticks([])


def _view(place, place_true, regions, level):
  """Center and radius of a view that holds all there is to see."""
  points = [place[None]]
  if place_true is not None:
    points.append(place_true[None])
  center = np.sum(points, axis=0)[0]
  if np.linalg.norm(center) < 1:  # more than 120 degrees apart
    center = place
  center = center / np.linalg.norm(center)
  if regions is not None:
    points.append(sphere.equal_area_grid(len(regions))[regions < level])
  angle = np.arccos(np.clip(np.concatenate(points) @ center, -1, 1))
  radius = 1.25 * float(np.max(angle))
  # From 45 degrees on all of the hemisphere: the globe is known at a glance.
  return center, math.pi / 2 if radius > math.pi / 4 else max(radius, 0.02)


def _draw_globe(axes, view, places, mass, climate_map):
  """The globe: land, probability, credible regions, predicted and true."""
  center, lat, lon, radius_rad = view
  probabilities, regions, levels = mass
  half = math.sin(radius_rad)
  side = (np.arange(_MAP_PIXELS) + 0.5) / _MAP_PIXELS * 2 - 1
  east, north = np.meshgrid(half * side, -half * side)
  x = _from_plane(center, lat, lon, east, north)
  on_globe = east**2 + north**2 <= 1
  pixel_lat, pixel_lon = sphere.unit_to_latlon(x)
  height, width = climate_map.shape
  rows = np.clip(((90 - pixel_lat) * height / 180).astype(int), 0, height - 1)
  columns = ((pixel_lon + 180) * width / 360).astype(int) % width
  is_land = climate_map[rows, columns] > 0
  image = np.where(is_land[..., None], _LAND, _WATER)
  if probabilities is not None:
    cell = sphere.equal_area_index(x, len(probabilities))
    density = np.sqrt(probabilities / probabilities.max())[cell]
    colour = np.array(matplotlib.colormaps["viridis_r"](density))[..., :3]
    opacity = np.clip(1.6 * density, 0, 0.85)[..., None]
    image = image * (1 - opacity) + colour * opacity
  image = np.concatenate([image, on_globe[..., None]], axis=-1)
  scale = axes.projection.globe.semimajor_axis or 6378137.0
  extent = scale * half * np.array([-1, 1, -1, 1])
  axes.set_global()
  axes.set_xlim(extent[:2])
  axes.set_ylim(extent[2:])
  axes.imshow(
    image, extent=extent, transform=axes.projection, origin="upper", zorder=0
  )
  axes.gridlines(linewidth=0.4, color="#777777", alpha=0.5)
  if regions is not None:
    shown = np.where(on_globe, regions[cell], 1.0)
    styles = ("solid", "dashed", "dotted")
    axes.contour(
      scale * east,
      scale * north,
      shown,
      levels=sorted(levels),
      colors="#222222",
      linewidths=0.9,
      linestyles=[styles[i % 3] for i in range(len(levels))],
      transform=axes.projection,
    )
  marks = [(places[0], "X", _PREDICTED, "predicted")]
  if places[1] is not None:
    marks.append((places[1], "*", _TRUE, "true"))
  for point, marker, colour, name in marks:
    at_lat, at_lon = sphere.unit_to_latlon(point[None])
    if point @ center <= math.cos(radius_rad) - 1e-6:
      name, at_lat, at_lon = f"{name}: on the far side", [], []
    axes.scatter(
      at_lon,
      at_lat,
      marker=marker,
      s=230 if marker == "*" else 90,
      color=colour,
      edgecolors="white",
      linewidths=1.0,
      transform=ccrs.PlateCarree(),
      zorder=4,
      label=name,
    )
  axes.legend(loc="upper left", fontsize=8, framealpha=0.9)
  words = "Where"
  if places[1] is not None:
    words += f": {float(sphere.great_circle_km(*places)):,.0f} km off"
  if regions is not None:
    names = ", ".join(f"{100 * level:.0f}" for level in sorted(levels))
    words += f"\noutlined: what holds {names} %"
  axes.set_title(words)


def _from_plane(center, lat, lon, east, north):
  """Points of the globe under a plane that looks down on its center."""
  lat, lon = np.deg2rad(lat), np.deg2rad(lon)
  to_east = np.array([-math.sin(lon), math.cos(lon), 0.0])
  to_north = np.cross(center, to_east)
  up = np.sqrt(np.maximum(1 - east**2 - north**2, 0))
  x = (
    east[..., None] * to_east
    + north[..., None] * to_north
    + up[..., None] * center
  )
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _draw_days(axes, patch_days, day, day_spread, date_true):
  """Days of the patches around that of the tile, which is in the middle."""

  def around(days):
    return day + (np.asarray(days) - day + _DAYS / 2) % _DAYS - _DAYS / 2

  bins = day - _DAYS / 2 + _DAYS_PER_BIN * np.arange(51)
  axes.hist(around(patch_days), bins, color="#56b4e9", label="patches")
  axes.axvspan(
    day - day_spread,
    day + day_spread,
    color="#999999",
    alpha=0.25,
    zorder=0,
    label=f"tile: half of it within ± {day_spread:.0f} days",
  )
  whole = min(int(day), _DAYS)
  month = int(np.searchsorted(_MONTH_STARTS, whole))
  name = f"{whole - _MONTH_STARTS[month - 1]} {calendar.month_abbr[month]}"
  axes.axvline(day, color=_PREDICTED, label=f"tile: {name}")
  words = "When"
  if date_true is not None:
    true = float(around(date_true.timetuple().tm_yday))
    name = f"{date_true.day} {calendar.month_abbr[date_true.month]}"
    axes.axvline(true, color=_TRUE, linestyle="--", label=f"true: {name}")
    words += f": {abs(true - day):.0f} days off"
  axes.set_xlim(day - _DAYS / 2, day + _DAYS / 2)
  starts = around(_MONTH_STARTS + 1)
  axes.xaxis.set_major_locator(ticker.FixedLocator(sorted(starts)))
  axes.set_xticklabels(
    ["JFMAMJJASOND"[i] for i in np.argsort(starts)], ha="left"
  )
  axes.set_xlabel("predicted day of the year, ticks where months begin")
  axes.set_ylabel("patches")
  axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  # Room for the legend above the bars.
  axes.set_ylim(0, axes.get_ylim()[1] * 1.5)
  axes.legend(loc="upper left", fontsize=8, framealpha=1)
  axes.set_title(words)


def _paint(zones):
  """Zones in the climate map's colours."""
  palette = np.vstack([climate.ZONE_COLORS / 255, [_NO_ANSWER]])
  return palette[zones]


def _draw_shares(axes, mapped, predicted, max_zones=8):
  """Bars of the largest zones: mapped above, predicted below."""
  order = np.argsort(-np.maximum(mapped, predicted))[:max_zones]
  order = order[np.maximum(mapped, predicted)[order] > 0.01]
  place = np.arange(len(order))
  colour = climate.ZONE_COLORS[order] / 255
  axes.barh(
    place - 0.2, 100 * mapped[order], 0.38, color=colour, edgecolor="#333333"
  )
  axes.barh(
    place + 0.2,
    100 * predicted[order],
    0.38,
    color=colour,
    edgecolor="#333333",
    hatch="////",
  )
  for y, zone in zip(place, order, strict=True):
    end = 100 * max(mapped[zone], predicted[zone])
    # Beside the bars, or on them where they are long.
    look = {"bbox": _ON_BARS} if end > 45 else {}
    axes.text(
      2 if look else end + 2,
      y,
      climate.ZONE_NAMES[zone],
      va="center",
      fontsize=8,
      **look,
    )
  axes.set_yticks(place, [climate.ZONES[zone] for zone in order])
  axes.invert_yaxis()
  axes.set_xlim(0, 100)
  axes.set_xlabel("% of the tile")
  plain = {"facecolor": "white", "edgecolor": "#333333"}
  axes.legend(
    handles=[
      patches.Patch(label="mapped", **plain),
      patches.Patch(label="predicted", hatch="////", **plain),
    ],
    loc="lower right",
    fontsize=8,
  )
  both = np.sum(np.minimum(mapped, predicted))
  axes.set_title(f"Which climate: {100 * both:.0f} % in common")


def true_colour(pixels):
  """Stretches pixels to colours: from the darkest 1 % to the brightest 1 %.

  All three bands alike, which keeps hues.

  Args:
    pixels: Red, green and blue of any scale, NaN where nothing was seen, shape
      `[h, w, 3]`.

  Returns:
    Values in [0, 1], NaN where `pixels` is, shape `[h, w, 3]`.
  """
  seen = pixels[np.isfinite(pixels)]
  low, high = np.percentile(seen, (1, 99)) if seen.size else (0, 1)
  return np.clip((pixels - low) / max(high - low, 1e-6), 0, 1)
