"""Overviews: a run in one picture, and runs beside each other.

As every picture in `views`, a function of arrays that returns a matplotlib
Figure. Nothing is fetched: land is that of the climate map handed in.
"""

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from matplotlib import lines

from geojax import climate, sphere
from geojax.views import charts, map_layers

_STYLES = ("-", "--", ":", "-.")


def training_curves(lines) -> matplotlib.figure.Figure:
  """Draws what a run logged over its steps: losses, distance, share of climate.

  Args:
    lines: Dicts with `step`, `split` ("train" or "validation") and numbers by
      name, as of `metrics.jsonl`.

  Returns:
    The figure: the loss's terms in training, and validation's metrics.
  """
  panels = (
    ("train", ("loss", "coords", "climate", "date"), "loss, train"),
    ("validation", ("median_km", "mean_km"), "distance, km, validation"),
    (
      "validation",
      ("climate_accuracy", "climate_class_accuracy"),
      "climate, share right, validation",
    ),
  )
  figure = matplotlib.figure.Figure(figsize=(12, 3.6), layout="constrained")
  for axes, (split, names, title) in zip(
    figure.subplots(1, len(panels)), panels, strict=True
  ):
    for name in names:
      points = [
        (line["step"], line[name])
        for line in lines
        if line["split"] == split and name in line
      ]
      if points:
        # A dot shows where there is but one.
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.legend(frameon=False)
    axes.set_xlabel("step")
    axes.set_title(title)
  return figure


def prediction_overview(
  *,
  place_true,
  place_predicted,
  zones,
  classes,
  day_true,
  day_predicted,
  climate_map,
  max_lines=400,
) -> matplotlib.figure.Figure:
  """Draws where, which climate and when: predicted against true.

  Args:
    place_true: Unit vectors, shape `[count, 3]`.
    place_predicted: Unit vectors, shape `[count, 3]`.
    zones: Counts of climate zones, as of `charts.confusion_matrices`.
    classes: Likewise of classes.
    day_true: Days of the year from 1, shape `[count]`.
    day_predicted: Likewise.
    climate_map: Zones of the world, row 0 at 90 N, column 0 at 180 W, shape
      `[height, width]`; 0 is sea.
    max_lines: At most so many places are drawn on the map, one date each.

  Returns:
    The figure: a world map above, climate classes and days below.
  """
  figure = matplotlib.figure.Figure(figsize=(10, 9.2), layout="constrained")
  grid = figure.add_gridspec(2, 2, height_ratios=[1.25, 1])
  world = figure.add_subplot(grid[0, :], projection=ccrs.Robinson())
  _draw_places(world, place_true, place_predicted, climate_map, max_lines)
  _draw_classes(figure.add_subplot(grid[1, 0]), zones, classes)
  _draw_days(figure.add_subplot(grid[1, 1]), day_true, day_predicted)
  return figure


def centers_comparison(curves, regression_km) -> matplotlib.figure.Figure:
  """Draws test nll and median distance over a mixture's number of centers.

  Args:
    curves: By number of train patches a dict; in it, by how the centers are
      laid out and by how they are trained, an array of number of centers, nll
      in nats and median distance in km, shape `[count, 3]`, in any order. NaN
      is left out.
    regression_km: Median distance of a regression by number of train patches.

  Returns:
    The figure: a column a number of train patches, nll above, distance below.
  """
  sizes = sorted(curves.keys() | regression_km.keys())
  methods, variants = (
    list(
      dict.fromkeys(key[i] for size in sizes for key in curves.get(size, ()))
    )
    for i in (0, 1)
  )
  colour = {method: f"C{i}" for i, method in enumerate(methods)}
  style = dict(zip(variants, _STYLES, strict=False))
  figure = matplotlib.figure.Figure(
    figsize=(2.9 * len(sizes), 5.6), layout="constrained"
  )
  axes = figure.subplots(
    2, len(sizes), sharex=True, sharey="row", squeeze=False
  )
  for size, (above, below) in zip(sizes, axes.T, strict=True):
    for (method, variant), points in curves.get(size, {}).items():
      num_centers, nll_nats, median_km = np.array(sorted(points)).T
      look = {"color": colour[method], "linestyle": style[variant]}
      above.plot(num_centers, nll_nats, marker="o", markersize=3, **look)
      below.plot(num_centers, median_km, marker="o", markersize=3, **look)
    if size in regression_km:
      below.axhline(regression_km[size], color="gray", linewidth=1)
    above.set_title(f"{size:,} train patches", fontsize=10)
    below.set_xlabel("centers")
    for panel in (above, below):
      panel.set_xscale("log", base=2)
      panel.grid(alpha=0.3)
  # Beyond, a mixture is worse than no knowledge by far.
  axes[0, 0].set_ylim(-3.2, 4)
  axes[0, 0].set_ylabel("test nll in nats")
  axes[1, 0].set_ylabel("test median distance in km")
  looks = {method: {"color": colour[method]} for method in methods}
  looks |= {v: {"color": "black", "linestyle": style[v]} for v in variants}
  looks["regression"] = {"color": "gray", "linewidth": 1}
  figure.legend(
    handles=[lines.Line2D([], [], label=k, **v) for k, v in looks.items()],
    loc="outside lower center",
    ncols=5,
    fontsize=9,
  )
  return figure


def _draw_places(axes, true, predicted, climate_map, max_lines):
  """A world map with a line from each true place to the predicted one."""
  median_km = np.median(sphere.great_circle_km(true, predicted))
  # One date of each place, evenly out of all of them.
  _, first = np.unique(np.round(true, 5), axis=0, return_index=True)
  chosen = np.sort(first)
  chosen = chosen[:: -(-len(chosen) // max_lines)]
  true, predicted = true[chosen], predicted[chosen]
  distance_km = np.asarray(sphere.great_circle_km(true, predicted))
  lat, lon = (np.asarray(x) for x in sphere.unit_to_latlon(true))
  lat_to, lon_to = (np.asarray(x) for x in sphere.unit_to_latlon(predicted))

  plain = ccrs.PlateCarree()
  map_layers.draw_land(axes, climate_map)
  mappable = axes.scatter(
    lon,
    lat,
    c=distance_km,
    s=16,
    norm=map_layers.DISTANCE_NORM,
    cmap=map_layers.DISTANCE_COLOURS,
    edgecolors="black",
    linewidths=0.3,
    transform=plain,
    zorder=3,
  )
  for index in np.argsort(distance_km):
    axes.plot(
      [lon[index], lon_to[index]],
      [lat[index], lat_to[index]],
      transform=ccrs.Geodetic(),
      color=mappable.to_rgba(distance_km[index]),
      linewidth=0.6,
      alpha=0.6,
      zorder=2,
    )
  axes.set_title(
    f"Where: {len(chosen)} held-out places (dots), lines to the predicted"
    f" place, median of all patches {median_km:,.0f} km"
  )
  axes.figure.colorbar(
    mappable, ax=axes, shrink=0.7, pad=0.02, label="error, km", format="%d"
  )


def _draw_classes(axes, zones, classes):
  """Shares of the predicted classes in each true one."""
  classes = np.asarray(classes)
  charts.draw_shares(axes, classes, numbers=True)
  names = [
    f"{name} ({total:.0f})"
    for name, total in zip(climate.CLASSES, classes.sum(axis=1), strict=True)
  ]
  axes.set_xticks(range(len(names)), climate.CLASSES, rotation=30, ha="right")
  axes.set_yticks(range(len(names)), names)
  axes.set_xlabel("predicted class")
  axes.set_ylabel("true class (patches)")
  right = " and ".join(
    f"{100 * np.trace(counts) / np.sum(counts):.0f} % of the {what}"
    for counts, what in ((classes, "6 classes"), (zones, "31 zones"))
  )
  axes.set_title(f"Which climate: % of a class\n{right} right")


def _draw_days(axes, true, predicted):
  """Predicted days by true month: medians and the middle half."""
  months = np.clip((true - 1) // (365 / 12), 0, 11).astype(int)
  error = (predicted - true + 182.5) % 365 - 182.5
  present = [month for month in range(12) if np.any(months == month)]
  axes.boxplot(
    [error[months == month] for month in present],
    positions=present,
    widths=0.6,
    showfliers=False,
    whis=(10, 90),
    patch_artist=True,
    boxprops={"facecolor": "#9ecae1", "edgecolor": "black"},
    medianprops={"color": "black"},
  )
  axes.axhline(0, color="#888888", linewidth=0.8)
  axes.set_xlim(-0.6, 11.6)
  axes.set_xticks(range(12), list("JFMAMJJASOND"))
  axes.set_ylim(-182.5, 182.5)
  axes.set_xlabel("true month")
  axes.set_ylabel("predicted minus true, days")
  axes.set_title(
    "When: middle 50 and 80 % of patches\n"
    f"mean error {np.mean(np.abs(error)):.0f} days"
  )
