"""Charts of confusion, errors, days and calibration."""

import functools

import matplotlib.figure
import numpy as np
from matplotlib import patches

from geojax import climate
from geojax.views import labels, scales

_TROPIC_DEG = 23.5
_NUM_GROUPS = 8


def confusion_matrices(*, zones, classes) -> matplotlib.figure.Figure:
  """Draws how often each zone and class is predicted as each other.

  Args:
    zones: Counts, rows true and columns predicted, shape `[31, 31]`.
    classes: Counts of the classes, shape `[6, 6]`.

  Returns:
    The figure: shares of each true zone and of each true class.
  """
  figure = matplotlib.figure.Figure(figsize=(10.4, 6.0), layout="constrained")
  left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
  for axes, counts, name in (
    (left, zones, "31 zones"),
    (right, classes, "6 classes"),
  ):
    image = draw_confusion(axes, counts)
    counts = np.asarray(counts)
    accuracy = 100 * np.trace(counts) / max(1, counts.sum())
    axes.set_title(
      f"{name}: {accuracy:.0f} % of {counts.sum():,.0f} patches correct",
      fontsize=10,
    )
  figure.colorbar(
    image,
    ax=[left, right],
    orientation="horizontal",
    shrink=0.5,
    pad=0.03,
    aspect=40,
    label="share of the true zone or class",
  )
  return figure


def draw_confusion(axes, counts):
  """Draws a confusion matrix as shares of its rows.

  Args:
    axes: Axes to draw on.
    counts: Of zones `[31, 31]` or of classes `[6, 6]`, where each cell also has
      its share in % as text.

  Returns:
    The image, for a colour bar.
  """
  counts = np.asarray(counts, float)
  size = len(counts)
  of_classes = size == len(climate.CLASSES)
  totals = counts.sum(axis=1)
  shares = counts / np.maximum(totals, 1)[:, None]
  image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
  if of_classes:
    for row, column in np.argwhere(counts > 0):
      share = shares[row, column]
      axes.text(
        column,
        row,
        f"{100 * share:.0f}",
        ha="center",
        va="center",
        fontsize=9,
        color="white" if share > 0.6 else "black",
      )
    rows = [
      f"{name} ({total:.0f})"
      for name, total in zip(climate.CLASSES, totals, strict=True)
    ]
    axes.set_xticks(range(size), climate.CLASSES, rotation=30, ha="right")
    axes.set_yticks(range(size), rows)
    axes.set_ylabel("true (patches)")
  else:
    axes.set_xticks(range(size), climate.ZONES, rotation=90)
    axes.set_yticks(range(size), climate.ZONES)
    axes.set_ylabel("true")
  axes.tick_params(length=0, pad=13, labelsize=9 if of_classes else 7)
  axes.set_xlabel("predicted")
  axes.spines[:].set_linewidth(0.5)
  # Squares in the colours of the climate map, between matrix and names.
  width = 0.03 * size
  colours = scales.CLASS_COLOURS if of_classes else scales.ZONE_COLOURS
  for i, colour in enumerate(colours):
    for xy, across, along in (
      ((-0.5 - 1.3 * width, i - 0.5), width, 1),
      ((i - 0.5, size - 0.5 + 0.3 * width), 1, width),
    ):
      axes.add_patch(
        patches.Rectangle(
          xy, across, along, color=colour, clip_on=False, linewidth=0
        )
      )
  return image


def error_against(
  *, lat_deg, train_km, distance_km
) -> matplotlib.figure.Figure:
  """Draws the error against latitude and against distance to training.

  Args:
    lat_deg: True latitudes, shape `[count]`.
    train_km: Distances to the nearest train place, shape `[count]`.
    distance_km: Errors, shape `[count]`.

  Returns:
    The figure: two panels with a dot per patch, and the median and quartiles of
    eight groups of equal size.
  """
  figure = matplotlib.figure.Figure(figsize=(7.2, 3.4), layout="constrained")
  axes = figure.subplots(1, 2, sharey=True)
  for panel, x, name in (
    (axes[0], lat_deg, "latitude, degrees north"),
    (axes[1], train_km, "distance to the nearest train place, km"),
  ):
    panel.scatter(
      x,
      distance_km,
      s=5,
      color=scales.BLUE,
      alpha=0.25,
      linewidths=0,
      rasterized=True,
    )
    groups = np.array_split(np.argsort(x), min(_NUM_GROUPS, len(x)))
    middle = [np.median(x[group]) for group in groups]
    low, median, high = np.transpose(
      [np.percentile(distance_km[group], [25, 50, 75]) for group in groups]
    )
    look = {"color": scales.ORANGE}
    panel.fill_between(middle, low, high, alpha=0.25, label="quartiles", **look)
    panel.plot(middle, median, marker="o", markersize=4, label="median", **look)
    panel.set_yscale("log")
    panel.set_xlabel(name)
    panel.grid(alpha=0.3)
  # Errors below 1 km are smaller than a pixel of most imagery's footprint.
  axes[0].set_ylim(max(1, 0.5 * np.min(distance_km, initial=20_000)), 2.5e4)
  axes[0].yaxis.set_major_formatter("{x:,.0f}")
  axes[0].set_ylabel("great-circle error, km")
  axes[1].legend(fontsize=8, loc="lower right")
  return figure


def day_circle(*, day_true, day_predicted, lat_deg) -> matplotlib.figure.Figure:
  """Draws errors of the day around the year, by hemisphere.

  Args:
    day_true: True days of the year from 1, shape `[count]`.
    day_predicted: Predicted days, shape `[count]`.
    lat_deg: True latitudes, shape `[count]`.

  Returns:
    The figure: circles for the north, the tropics and the south. The angle is
    the true day, the distance from the black circle the error, late outwards; a
    line joins the medians of the months.
  """
  error = labels.day_difference(day_predicted, day_true)
  figure = matplotlib.figure.Figure(figsize=(7.8, 3.4), layout="constrained")
  axes = figure.subplots(1, 3, subplot_kw={"projection": "polar"})
  belts = (
    ("north of 23.5 N", lat_deg > _TROPIC_DEG, scales.BLUE),
    ("tropics", np.abs(lat_deg) <= _TROPIC_DEG, scales.ORANGE),
    ("south of 23.5 S", lat_deg < -_TROPIC_DEG, scales.GREEN),
  )
  circle = np.linspace(0, 2 * np.pi, 181)
  for panel, (name, belt, colour) in zip(axes, belts, strict=True):
    angle = 2 * np.pi * day_true[belt] / labels.DAYS_PER_YEAR
    panel.scatter(
      angle, error[belt], s=6, color=colour, alpha=0.35, linewidths=0
    )
    month = labels.month_of(day_true[belt])
    present = [m for m in range(12) if np.sum(month == m) >= 3]
    closed = present + present[:1]
    panel.plot(
      [2 * np.pi * (m + 0.5) / 12 for m in closed],
      [np.median(error[belt][month == m]) for m in closed],
      color="black",
      linewidth=1,
      linestyle="--",
      marker="o",
      markersize=3,
    )
    panel.plot(circle, np.zeros_like(circle), color="black", linewidth=1.2)
    panel.set_theta_zero_location("N")
    panel.set_theta_direction(-1)
    panel.set_rlim(-260, 183)
    panel.set_rticks([-90, 0, 90], ["\N{MINUS SIGN}90", "0", "+90"], fontsize=8)
    panel.set_rlabel_position(15)
    panel.set_xticks(
      2 * np.pi * (np.arange(12) + 0.5) / 12, list(labels.MONTHS), fontsize=8
    )
    panel.tick_params(pad=-1)
    panel.grid(alpha=0.4)
    mean = np.mean(np.abs(error[belt])) if belt.any() else np.nan
    panel.set_title(
      f"{name}\n{belt.sum():,} patches, mean {mean:.0f} days", fontsize=9
    )
  figure.supxlabel(
    "angle: true day; distance from the black circle: predicted minus true,"
    " days;\ndashed: medians by month",
    fontsize=9,
  )
  return figure


def recall_by_area(*, curves) -> matplotlib.figure.Figure:
  """Draws the share of truths within the densest area, by its size.

  Args:
    curves: By name of a predictor areas in km^2 and shares in [0, 1], each of
      shape `[areas]`; the first one is the run's.

  Returns:
    The figure.
  """
  figure = matplotlib.figure.Figure(figsize=(5.4, 4.0), layout="constrained")
  panel = figure.subplots()
  looks = (
    {"color": scales.BLUE, "linewidth": 2, "marker": "o"},
    {"color": scales.ORANGE, "linestyle": "--", "marker": "s"},
    {"color": scales.GREY, "linestyle": "-.", "marker": "^"},
    {"color": scales.GREY, "linestyle": ":", "linewidth": 1},
  )
  for (name, (area_km2, share)), look in zip(
    curves.items(), looks, strict=False
  ):
    panel.plot(area_km2, 100 * share, label=name, markersize=4, **look)
  panel.set(xscale="log", ylim=(-3, 103))
  panel.set_xlabel("area of highest density, km²")
  panel.set_ylabel("true places inside, %")
  panel.grid(alpha=0.3)
  panel.legend(fontsize=8.5)
  return figure


def reliability(*, curves, climate_curve=None) -> matplotlib.figure.Figure:
  """Draws the calibration of places and of climate zones.

  Args:
    curves: By name a tuple of masses of credible regions and the share of true
      places inside, each of shape `[masses]`; may be empty.
    climate_curve: A dict of `confidence`, `accuracy` and `count`, each of
      shape `[bins]`, NaN where a bin is empty; None of a run without climate.

  Returns:
    The figure: a panel each of the curves and of the climate's, as far as there
    are any, calibrated along the diagonal.
  """
  painters = []
  if curves:
    painters.append(functools.partial(_paint_coverage, curves=curves))
  if climate_curve is not None:
    painters.append(functools.partial(_paint_accuracy, **climate_curve))
  figure = matplotlib.figure.Figure(
    figsize=(3.6 * len(painters), 4.0), layout="constrained"
  )
  panels = figure.subplots(1, len(painters), squeeze=False)[0]
  for panel, paint in zip(panels, painters, strict=True):
    paint(panel)
    panel.plot(
      [0, 100], [0, 100], color=scales.GREY, linewidth=1, linestyle=":"
    )
    panel.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal")
    panel.grid(alpha=0.3)
  if curves:
    figure.legend(fontsize=8.5, loc="outside lower center")
  return figure


def _paint_coverage(panel, curves):
  looks = (
    {"color": scales.BLUE},
    {"color": scales.ORANGE, "linestyle": "--"},
    {"color": scales.GREY, "linestyle": "-."},
  )
  for (name, (mass, covered)), look in zip(curves.items(), looks, strict=False):
    panel.plot(100 * mass, 100 * covered, label=name, **look)
  panel.set_xlabel("level of the credible region, %")
  panel.set_ylabel("coverage: true places inside, %")
  panel.set_title("Places: overconfident below the diagonal", fontsize=9.5)


def _paint_accuracy(panel, confidence, accuracy, count):
  count = np.asarray(count)
  used = count > 0
  confidence, accuracy = (
    100 * np.asarray(x, float)[used] for x in (confidence, accuracy)
  )
  panel.plot(confidence, accuracy, color=scales.BLUE, linewidth=1)
  sizes = 8 + 160 * count[used] / max(1, count.max())
  panel.scatter(confidence, accuracy, s=sizes, color=scales.BLUE)
  panel.set_xlabel("confidence in the zone, %")
  panel.set_ylabel("accuracy: zones correct, %")
  panel.set_title("Climate: a dot's area grows with its patches", fontsize=9.5)
