"""Maps: errors over the world, a mixture on the globe, centers and radii."""

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from matplotlib import lines

from geojax import sphere
from geojax.views import map_layers

_PLAIN = ccrs.PlateCarree()
_STAR = {
  "marker": "*",
  "s": 220,
  "color": "#ffffff",
  "edgecolors": "black",
  "linewidths": 1.2,
}


def error_map(
  *, place_true, place_predicted, climate_map, max_lines=25
) -> matplotlib.figure.Figure:
  """Draws the error of each place, and where the worst were put.

  Args:
    place_true: Unit vectors, shape `[count, 3]`.
    place_predicted: Unit vectors, shape `[count, 3]`.
    climate_map: As of `map_layers.draw_land`.
    max_lines: From so many of the worst places, but a fourth at most, a great
      circle leads to the predicted place, of the worst patch of each.

  Returns:
    The figure: a world map in Robinson's projection.
  """
  distance_km = sphere.great_circle_km(place_true, place_predicted)
  figure = matplotlib.figure.Figure(figsize=(7.2, 4.2), layout="constrained")
  axes = figure.add_subplot(projection=ccrs.Robinson())
  map_layers.draw_land(axes, climate_map)
  order = np.argsort(distance_km)
  # Patches of one place at several dates lie upon each other.
  _, first = np.unique(
    np.round(place_true[order[::-1]], 5), axis=0, return_index=True
  )
  worst = order[::-1][np.sort(first)][: min(max_lines, -(-len(first) // 4))]
  map_layers.draw_paths(
    axes,
    map_layers.great_circles(place_true[worst], place_predicted[worst]),
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
    norm=map_layers.DISTANCE_NORM,
    cmap=map_layers.DISTANCE_COLOURS,
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
    ticks=map_layers.DISTANCE_EDGES_KM,
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
    climate_map: As of `map_layers.draw_land`.
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
  map_layers.draw_land(axes, climate_map)
  axes.gridlines(linewidth=0.3, color="#999999", xlocs=range(-180, 180, 30))
  map_layers.draw_regions(axes, probability)
  handles = [
    lines.Line2D([], [], color=c, marker="s", linestyle="", label=f"{p} %")
    for p, c in zip(
      map_layers.REGIONS_PERCENT, map_layers.REGION_COLOURS, strict=True
    )
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
    climate_map: As of `map_layers.draw_land`.

  Returns:
    The figure: a world map in Robinson's projection.
  """
  figure = matplotlib.figure.Figure(figsize=(7.2, 4.0), layout="constrained")
  axes = figure.add_subplot(projection=ccrs.Robinson())
  map_layers.draw_land(axes, climate_map)
  # More circles than these are a blot.
  shown = np.arange(len(centers))[:: -(-len(centers) // 600)]
  map_layers.draw_paths(
    axes,
    map_layers.circles(centers[shown], radius_km[shown]),
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
