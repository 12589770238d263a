"""The report of a build: `report.json` and `places.png`."""

import json

import cartopy.crs as ccrs
import matplotlib.figure
import numpy as np
from matplotlib import colors

from data_prep import climate_maps
from geojax import files

_LAND = colors.ListedColormap(["#ffffff", "#e4e4e4"])
_COLOURS = {"train": "#4c8fc4", "validation": "#f5a742", "test": "#c4161c"}


def write_report(
  directory, *, config, figures, columns, targets, leaks, errors
):
  """Writes `report.json` and `places.png`.

  Args:
    directory: Where to write them.
    config: Name of the builder config.
    figures: Numbers of the closing table by name.
    columns: By split, what `records.ShardReport.columns` has of each record.
    targets: Results of `targets.Target.describe`.
    leaks: Result of `leaks.measure`; empty where a rule keeps splits apart.
    errors: A dict of file and reason for each input that could not be used.
  """
  directory = files.path(directory)
  report = {
    "config": config,
    "figures": figures,
    "targets": targets,
    "leaks": leaks,
    "errors": errors,
  }
  files.write_text(
    directory / "report.json", json.dumps(report, indent=2) + "\n"
  )
  with files.atomic(directory / "places.png") as temporary:
    draw_places(columns, targets).savefig(temporary, dpi=100, format="png")


def draw_places(columns, targets=()):
  """Draws where and when the records are, and what their targets hold.

  Args:
    columns: See `write_report`.
    targets: See `write_report`.

  Returns:
    A Figure: a map of the records, of their region or of the world, above a
    histogram of days, if any is known, and a panel a target.
  """
  has_days = any(np.isfinite(found["day"]).any() for found in columns.values())
  panels = [3.2, *[1.0] * has_days, *map(_height_of, targets)]
  figure = matplotlib.figure.Figure(
    figsize=(9, 1.65 * sum(panels)), layout="constrained"
  )
  grid = figure.add_gridspec(len(panels), 1, height_ratios=panels)
  _draw_map(figure, grid[0], columns)
  if has_days:
    _draw_days(figure.add_subplot(grid[1]), columns)
  for i, target in enumerate(targets):
    _draw_target(figure.add_subplot(grid[1 + has_days + i]), target, columns)
  return figure


def _draw_map(figure, cell, columns):
  places = {
    split: np.stack([found["lon"], found["lat"]], axis=-1)
    for split, found in columns.items()
  }
  # One dot for all dates of a place.
  places = {
    split: np.unique(np.round(x[~np.isnan(x[:, 0])], 2), axis=0)
    for split, x in places.items()
  }
  everywhere = np.concatenate(list(places.values()))
  extent = _region(everywhere)
  plain = ccrs.PlateCarree()
  axes = figure.add_subplot(
    cell, projection=ccrs.Robinson() if extent is None else plain
  )
  zones = climate_maps.load().zones
  # Only other projections than the map's own are resampled.
  step, sampled = (8, {"regrid_shape": 1000}) if extent is None else (1, {})
  axes.imshow(
    zones[::step, ::step] > 0,
    extent=(-180, 180, -90, 90),
    transform=plain,
    cmap=_LAND,
    interpolation="nearest",
    **sampled,
  )
  if extent is None:
    axes.set_global()
  else:
    axes.set_extent(extent, plain)
  axes.gridlines(linewidth=0.3, draw_labels=extent is not None)
  # Train first: it has most records, and must not cover the others.
  for split, found in columns.items():
    axes.plot(
      *places[split].T,
      ".",
      markersize=3,
      color=_COLOURS[split],
      transform=plain,
      label=f"{split}: {len(found['lat']):,} records",
    )
  axes.legend(loc="lower left", fontsize=9, markerscale=3)
  unknown = sum(int(np.isnan(x["lat"]).sum()) for x in columns.values())
  if unknown:
    axes.set_title(f"the place of {unknown:,} records is unknown", fontsize=9)


def _region(places):
  """Bounds of places that lie in one part of the world, or None."""
  if not len(places):
    return None
  (west, south), (east, north) = places.min(axis=0), places.max(axis=0)
  if max(east - west, 1.5 * (north - south)) > 120:
    return None
  margin = max(0.05 * (east - west), 0.05 * (north - south), 0.5)
  return (
    max(west - margin, -180),
    min(east + margin, 180),
    max(south - margin, -90),
    min(north + margin, 90),
  )


def _draw_days(axes, columns):
  bins = np.linspace(0.5, 366.5, 62)
  total = np.zeros(len(bins) - 1)
  for split, found in columns.items():
    counts, _ = np.histogram(found["day"], bins)
    colour = _COLOURS[split]
    axes.bar(
      bins[:-1], counts, np.diff(bins), total, align="edge", color=colour
    )
    total += counts
  axes.set_xlim(bins[0], bins[-1])
  axes.set_xlabel("day of the year")
  axes.set_ylabel("records")


def _height_of(target):
  """Height of a target's panel; a class takes a line."""
  return (
    0.6 + 0.11 * len(target.get("classes", ()))
    if ("classes" in target)
    else 1.0
  )


def _draw_target(axes, target, columns):
  """Share of each class in each split, or a histogram of numbers."""
  name, unknown = target["name"], f"{target['unknown']:.1%} unknown"
  if "classes" in target:
    classes = target["classes"]
    width = 0.8 / len(target["counts"])
    for i, (split, counts) in enumerate(target["counts"].items()):
      numbers = np.array([counts.get(c, 0) for c in classes], float)
      total = target["known"][split] if "known" in target else numbers.sum()
      axes.barh(
        np.arange(len(classes)) + (i - 1) * width,
        100 * numbers / max(total, 1),
        width,
        color=_COLOURS[split],
      )
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("% of the split")
    axes.set_title(f"{name}, {unknown}", fontsize=10)
    return
  axes.set_title(f"{name}, {unknown}", fontsize=10)
  numbers = {s: found[name] for s, found in columns.items() if name in found}
  if not numbers:
    # Of the pixels of a map only the mean is known.
    means = [f"{s} {mean:.4g}" for s, mean in target["mean"].items()]
    axes.text(0.5, 0.5, f"mean: {', '.join(means)}", ha="center", va="center")
    axes.set_axis_off()
    return
  known = np.concatenate(list(numbers.values()))
  bins = np.histogram_bin_edges(known[np.isfinite(known)], 60)
  total = np.zeros(len(bins) - 1)
  for split, values in numbers.items():
    counts, _ = np.histogram(values[np.isfinite(values)], bins)
    colour = _COLOURS[split]
    axes.bar(
      bins[:-1], counts, np.diff(bins), total, align="edge", color=colour
    )
    total += counts
  axes.set_ylabel("records")
