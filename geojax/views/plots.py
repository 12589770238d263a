"""Overviews: one run in one picture, and several runs compared."""

import matplotlib.figure
import numpy as np
from matplotlib import lines

from geojax import sphere
from geojax.views import charts, labels, map_layers, scales

_STYLES = ("-", "--", ":", "-.")


def training_curves(lines, panels) -> matplotlib.figure.Figure:
  """Draws the losses and validation metrics of a run over its steps.

  Args:
    lines: The lines of `metrics.jsonl`: dicts with `step`, `split` ("train" or
      "validation") and numbers by name.
    panels: A split, names of numbers and a title for each panel.

  Returns:
    The figure.
  """
  figure = matplotlib.figure.Figure(
    figsize=(4 * len(panels), 3.6), layout="constrained"
  )
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
        # The marker shows a single point too.
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
  """Draws predicted against true places, climate classes and days.

  Args:
    place_true: Unit vectors, shape `[count, 3]`.
    place_predicted: Unit vectors, shape `[count, 3]`.
    zones: Counts of climate zones, true by predicted, shape `[31, 31]`.
    classes: Counts of climate classes, shape `[6, 6]`.
    day_true: Days of the year from 1, shape `[count]`.
    day_predicted: Predicted days, shape `[count]`.
    climate_map: Zones of the world, `[height, width]`.
    max_lines: Number of places to draw on the map at most, one date each.

  Returns:
    The figure: a world map above, climate classes and days below.
  """
  figure = matplotlib.figure.Figure(figsize=(10, 9.4), layout="constrained")
  grid = figure.add_gridspec(2, 2, height_ratios=[1.25, 1])
  # One date of each place, evenly out of all of them.
  chosen = map_layers.first_of_each_place(place_true)
  chosen = chosen[:: -(-len(chosen) // max_lines)]
  world = map_layers.add_error_map(
    figure,
    grid[0, :],
    climate_map,
    place_true[chosen],
    place_predicted[chosen],
    lines=range(len(chosen)),
    shrink=0.7,
  )
  median_km = np.median(sphere.great_circle_km(place_true, place_predicted))
  world.set_title(
    f"Place: {len(chosen)} places (dots) with lines to their predictions;"
    f" median error of all patches {median_km:,.0f} km",
    fontsize=11,
  )
  axes = figure.add_subplot(grid[1, 0])
  charts.draw_confusion(axes, classes)
  correct = " and ".join(
    f"{100 * np.trace(counts) / np.sum(counts):.0f} % of the {name}"
    for counts, name in ((classes, "6 classes"), (zones, "31 zones"))
  )
  axes.set_title(f"Climate: % of a true class\n{correct} correct", fontsize=11)
  _draw_days(figure.add_subplot(grid[1, 1]), day_true, day_predicted)
  return figure


def centers_comparison(curves, regression_km) -> matplotlib.figure.Figure:
  """Draws test nll and median distance over a mixture's number of centers.

  Args:
    curves: By number of train patches a dict; in it, by a pair of the layout of
      the centers and the way they are trained, tuples of number of centers, nll
      in nats and median distance in km, in any order; NaN is left out.
    regression_km: Median distance of a regression by number of train patches.

  Returns:
    The figure: one column per number of train patches, nll above, distance
    below.
  """
  sizes = sorted(curves.keys() | regression_km.keys())
  methods, variants = (
    list(
      dict.fromkeys(key[i] for size in sizes for key in curves.get(size, ()))
    )
    for i in (0, 1)
  )
  looks = {method: {"color": f"C{i}"} for i, method in enumerate(methods)}
  styles = {
    variant: {"linestyle": style}
    for variant, style in zip(variants, _STYLES, strict=False)
  }
  figure = matplotlib.figure.Figure(
    figsize=(2.9 * len(sizes), 5.6), layout="constrained"
  )
  axes = figure.subplots(
    2, len(sizes), sharex=True, sharey="row", squeeze=False
  )
  for size, (above, below) in zip(sizes, axes.T, strict=True):
    for (method, variant), points in curves.get(size, {}).items():
      num_centers, *values = np.array(sorted(points)).T
      look = looks[method] | styles[variant]
      for panel, value in zip((above, below), values, strict=True):
        panel.plot(num_centers, value, marker="o", markersize=3, **look)
    if size in regression_km:
      below.axhline(regression_km[size], color="gray", linewidth=1)
    above.set_title(f"{size:,} train patches", fontsize=10)
    below.set_xlabel("centers")
    for panel in (above, below):
      panel.set_xscale("log", base=2)
      panel.grid(alpha=0.3)
  # An nll above 0 is worse than the uniform distribution.
  axes[0, 0].set_ylim(-3.2, 4)
  axes[0, 0].set_ylabel("test nll, nats")
  axes[1, 0].set_ylabel("test median distance, km")
  looks |= {k: {"color": "black", **style} for k, style in styles.items()}
  looks["regression"] = {"color": "gray", "linewidth": 1}
  figure.legend(
    handles=[lines.Line2D([], [], label=k, **v) for k, v in looks.items()],
    loc="outside lower center",
    ncols=5,
    fontsize=9,
  )
  return figure


def _draw_days(axes, true, predicted):
  """Errors of the day by true month: medians, quartiles and deciles."""
  months = labels.month_of(true)
  error = labels.day_difference(predicted, true)
  present = np.unique(months)
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
  axes.axhline(0, color=scales.GREY, linewidth=0.8)
  half = labels.DAYS_PER_YEAR / 2
  axes.set(xlim=(-0.6, 11.6), ylim=(-half, half))
  axes.set_xticks(range(12), list(labels.MONTHS))
  axes.set_xlabel("true month")
  axes.set_ylabel("predicted minus true, days")
  axes.set_title(
    "Day: boxes hold 50 %, whiskers 80 % of patches\n"
    f"mean error {np.mean(np.abs(error)):.0f} days",
    fontsize=11,
  )
