"""Charts: confusions, errors, days on a circle, and honesty of doubt."""

import matplotlib.figure
import numpy as np
from matplotlib import patches

from geojax import climate

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#777777"
_TROPIC_DEG = 23.5


def confusion_matrices(*, zones, classes) -> matplotlib.figure.Figure:
  """Draws which zones and classes are taken for which.

  Args:
    zones: Counts, rows true and columns predicted, shape `[31, 31]`.
    classes: Likewise, shape `[6, 6]`.

  Returns:
    The figure: zones left, with the climate map's colours along both sides, in
    shares of each true zone; classes right, in % of each true class.
  """
  figure = matplotlib.figure.Figure(figsize=(10.4, 6.0), layout="constrained")
  left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
  image = _draw_confusion(left, zones, climate.ZONES, climate.ZONE_COLORS)
  left.set_title(_title("31 zones", zones), fontsize=10)
  left.tick_params(labelsize=7)
  _draw_confusion(right, classes, climate.CLASSES, climate.CLASS_COLORS)
  right.set_title(_title("6 classes", classes), fontsize=10)
  bar = figure.colorbar(
    image,
    ax=[left, right],
    orientation="horizontal",
    shrink=0.5,
    pad=0.03,
    aspect=40,
  )
  bar.set_label("share of the true zone or class", fontsize=9)
  return figure


def draw_shares(axes, counts, *, numbers):
  """Draws counts as shares of their rows.

  Args:
    axes: Axes to draw on.
    counts: Shape `[rows, columns]`.
    numbers: Whether to write what is not 0 into its cell, in %.

  Returns:
    The image, for a colour bar.
  """
  counts = np.asarray(counts, float)
  totals = counts.sum(axis=1, keepdims=True)
  shares = np.divide(
    counts, totals, out=np.zeros_like(counts), where=totals > 0
  )
  for row, column in np.argwhere(counts > 0) if numbers else ():
    axes.text(
      column,
      row,
      f"{100 * shares[row, column]:.0f}",
      ha="center",
      va="center",
      fontsize=9,
      color="white" if shares[row, column] > 0.6 else "black",
    )
  return axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)


def error_against(
  *, lat_deg, train_km, distance_km
) -> matplotlib.figure.Figure:
  """Draws the error against latitude and against distance to training.

  Args:
    lat_deg: True latitudes, shape `[count]`.
    train_km: Distances to the nearest train place, in km, shape `[count]`.
    distance_km: Errors in km, shape `[count]`.

  Returns:
    The figure: two panels, each patch a dot, medians and quartiles of eight
    groups of as many patches as a line and a band.
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
      color=_BLUE,
      alpha=0.25,
      linewidths=0,
      rasterized=True,
    )
    order = np.argsort(x)
    parts = [p for p in np.array_split(order, 8) if len(p)]
    middle = [np.median(x[part]) for part in parts]
    low, median, high = np.transpose(
      [np.percentile(distance_km[part], [25, 50, 75]) for part in parts]
    )
    panel.fill_between(
      middle, low, high, color=_ORANGE, alpha=0.25, label="middle half"
    )
    panel.plot(
      middle, median, color=_ORANGE, marker="o", markersize=4, label="median"
    )
    panel.set_yscale("log")
    panel.set_xlabel(name)
    panel.grid(alpha=0.3)
  # Below a pixel's width nothing is to be seen.
  axes[0].set_ylim(max(1, 0.5 * np.min(distance_km, initial=20_000)), 2.5e4)
  axes[0].yaxis.set_major_formatter("{x:,.0f}")
  axes[0].set_ylabel("great-circle error, km")
  axes[1].legend(fontsize=8, loc="lower right")
  return figure


def day_circle(*, day_true, day_predicted, lat_deg) -> matplotlib.figure.Figure:
  """Draws errors of the day around the year, where seasons are and aren't.

  Args:
    day_true: True days of the year from 1, shape `[count]`.
    day_predicted: Predicted days, likewise.
    lat_deg: True latitudes, shape `[count]`.

  Returns:
    The figure: a circle each for the north, the tropics and the south; the
    angle is the true day, the distance from the black circle the error, late
    outwards and early inwards; a line joins the medians of the months.
  """
  error = (day_predicted - day_true + 182.5) % 365 - 182.5
  figure = matplotlib.figure.Figure(figsize=(7.2, 3.4), layout="constrained")
  axes = figure.subplots(1, 3, subplot_kw={"projection": "polar"})
  belts = (
    ("north of 23.5 N", lat_deg > _TROPIC_DEG, _BLUE),
    ("tropics", np.abs(lat_deg) <= _TROPIC_DEG, _ORANGE),
    ("south of 23.5 S", lat_deg < -_TROPIC_DEG, _GREEN),
  )
  around = np.linspace(0, 2 * np.pi, 181)
  for panel, (name, belt, colour) in zip(axes, belts, strict=True):
    angle = 2 * np.pi * day_true[belt] / 365
    panel.scatter(
      angle, error[belt], s=6, color=colour, alpha=0.35, linewidths=0
    )
    month = np.minimum((day_true[belt] - 1) // (365 / 12), 11).astype(int)
    present = [m for m in range(12) if np.sum(month == m) >= 3]
    if present:
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
    panel.plot(around, np.zeros_like(around), color="black", linewidth=1.2)
    panel.set_theta_zero_location("N")
    panel.set_theta_direction(-1)
    panel.set_rlim(-260, 183)
    panel.set_rticks([-90, 0, 90], ["-90", "0", "+90"], fontsize=7)
    panel.set_rlabel_position(15)
    panel.set_xticks(
      2 * np.pi * (np.arange(12) + 0.5) / 12, list("JFMAMJJASOND"), fontsize=8
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


def reliability(*, curves, climate_curve) -> matplotlib.figure.Figure:
  """Draws whether doubt is honest: of the place, and of the climate.

  Args:
    curves: By name a tuple of masses of credible regions and the share of true
      places inside, each of shape `[masses]`; may be empty.
    climate_curve: A dict of `confidence`, `accuracy` and `count`, each of
      shape `[bins]`, NaN where a bin is empty.

  Returns:
    The figure: two panels, honest along the diagonal.
  """
  figure = matplotlib.figure.Figure(figsize=(7.2, 3.7), layout="constrained")
  left, right = figure.subplots(1, 2)
  looks = ({"color": _BLUE}, {"color": _ORANGE, "linestyle": "--"})
  for (name, (mass, covered)), look in zip(curves.items(), looks, strict=False):
    left.plot(100 * mass, 100 * covered, label=name, **look)
  if curves:
    left.legend(fontsize=7.5, loc="lower right")
  left.set_xlabel("mass of the credible region, %")
  left.set_ylabel("true places inside, %")
  left.set_title("Where: below the line is over-confident", fontsize=9)
  count = np.asarray(climate_curve["count"])
  full = count > 0
  confidence = 100 * np.asarray(climate_curve["confidence"], float)[full]
  accuracy = 100 * np.asarray(climate_curve["accuracy"], float)[full]
  right.plot(confidence, accuracy, color=_BLUE, linewidth=1)
  right.scatter(
    confidence, accuracy, s=8 + 160 * count[full] / count.max(), color=_BLUE
  )
  right.set_xlabel("confidence in the zone, %")
  right.set_ylabel("zones right, %")
  right.set_title("Climate: area of a dot by its patches", fontsize=9)
  for panel in (left, right):
    panel.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle=":")
    panel.set_xlim(-3, 103)
    panel.set_ylim(-3, 103)
    panel.set_aspect("equal")
    panel.grid(alpha=0.3)
  return figure


def _draw_confusion(axes, counts, names, colours):
  """Shares of each true row, and a square in its colour at each name."""
  size = len(names)
  # Of 31 zones, numbers could not be read.
  image = draw_shares(axes, counts, numbers=size < 10)
  axes.set_xticks(range(size), names, rotation=90)
  axes.set_yticks(range(size), names)
  # Squares lie between the panel and its names.
  width = 0.03 * size
  for i, colour in enumerate(np.asarray(colours) / 255):
    for xy, across, along in (
      ((-0.5 - 1.3 * width, i - 0.5), width, 1),
      ((i - 0.5, size - 0.5 + 0.3 * width), 1, width),
    ):
      axes.add_patch(
        patches.Rectangle(
          xy, across, along, color=colour, clip_on=False, linewidth=0
        )
      )
  axes.tick_params(length=0, pad=13)
  axes.set_xlabel("predicted")
  axes.set_ylabel("true")
  for side in axes.spines.values():
    side.set_linewidth(0.5)
  return image


def _title(name, counts):
  counts = np.asarray(counts)
  right = np.trace(counts) / max(1, counts.sum())
  return f"{name}: {100 * right:.0f} % of {counts.sum():,.0f} patches right"
