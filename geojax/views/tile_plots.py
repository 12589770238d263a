"""One tile in one picture: its image, place, day and climate zones."""

import matplotlib.figure
import numpy as np
from matplotlib import patches, ticker

from geojax import climate, sphere
from geojax.views import labels, map_layers, scales

_TRUE, _PREDICTED = scales.ORANGE, "black"
_OVER_BARS = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
_DAYS_PER_BIN = 7.3
_MAX_ZONES = 8


def tile_prediction(
  *,
  title,
  picture,
  place,
  place_true,
  cell_levels,
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
  """Draws a tile and the predictions of its place, day and climate.

  Args:
    title: Name of the tile.
    picture: RGB as by `patches.true_colour`, shape `[h, w, 3]`.
    place: Predicted place, unit vector, shape `[3]`.
    place_true: The tile's place, unit vector, shape `[3]`, or None.
    cell_levels: Level above which a credible region contains each cell of
      `sphere.equal_area_grid`, shape `[cells]`, or None.
    patch_days: Predicted days of the patches, shape `[n]`.
    day: Predicted day of the tile, from 1.
    day_spread: Half width in days of the interval with half of its probability.
    date_true: `datetime.datetime` at which the tile was taken, or None.
    zones_mapped: Zones of the climate map over the extent of the picture,
      integers, shape `[h', w']`.
    zones_predicted: Predicted zones, -1 where no patch was clear, `[r, c]`.
    zones_margin: Shares of the picture's height and width that
      `zones_predicted` leaves free at each edge.
    shares_mapped: Fraction of the tile in each zone, shape `[31]`.
    shares_predicted: Predicted fraction, shape `[31]`.
    climate_map: Zones of the world, `[height, width]`.

  Returns:
    The figure: image, globe and days above, climate below.
  """
  figure = matplotlib.figure.Figure(figsize=(13, 8.6), layout="constrained")
  figure.suptitle(title, fontsize=13)
  grid = figure.add_gridspec(2, 3, height_ratios=[1.1, 1])
  image = figure.add_subplot(grid[0, 0])
  _draw_image(image, picture, (0, 0), picture.shape)
  image.set_title("The tile in true colour")

  globe, handles = map_layers.add_globe(
    figure,
    grid[0, 1],
    climate_map,
    cell_levels=cell_levels,
    place=place,
    place_true=place_true,
  )
  map_layers.add_globe_legend(globe, handles)
  error = ""
  if place_true is not None:
    error = (
      f": error {float(sphere.great_circle_km(place, place_true)):,.0f} km"
    )
  globe.set_title(f"Place{error}")

  days = figure.add_subplot(grid[0, 2])
  _draw_days(days, patch_days, day, day_spread, date_true)
  # White for zone -1, no clear patch, after the last zone.
  colours = np.vstack([scales.ZONE_COLOURS, [1, 1, 1]])
  for column, zones, margin, source in (
    (0, zones_mapped, (0, 0), "mapped"),
    (1, zones_predicted, zones_margin, "predicted"),
  ):
    axes = figure.add_subplot(grid[1, column])
    _draw_image(axes, colours[zones], margin, picture.shape)
    axes.set_title(f"Climate zones, {source}")
    if np.any(zones < 0):
      axes.set_xlabel("white: no clear patch")
  _draw_shares(figure.add_subplot(grid[1, 2]), shares_mapped, shares_predicted)
  return figure


def _draw_image(axes, image, margin, shape):
  """Draws an image of the tile without its margins, over the tile's extent."""
  down, right = margin
  extent = (right, 1 - right, 1 - down, down)
  axes.imshow(image, interpolation="nearest", extent=extent)
  axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], facecolor="#f2f2f2")
  axes.set_aspect(shape[0] / shape[1])


def _draw_days(axes, patch_days, day, day_spread, date_true):
  """Histogram of the patches' days over a year centered on the tile's day."""

  def around(days):
    return day + labels.day_difference(days, day)

  half = labels.DAYS_PER_YEAR / 2
  bins = day - half + _DAYS_PER_BIN * np.arange(51)
  axes.hist(around(patch_days), bins, color="#56b4e9", label="patches")
  axes.axvspan(
    day - day_spread,
    day + day_spread,
    color="#999999",
    alpha=0.25,
    zorder=0,
    label=f"tile: half of the probability, ± {day_spread:.0f} days",
  )
  # Whole days, as in the JSON file of a tile.
  name = labels.date_name(int(day))
  axes.axvline(day, color=_PREDICTED, label=f"tile: {name}")
  error = ""
  if date_true is not None:
    true = float(around(date_true.timetuple().tm_yday))
    name = f"{date_true.day} {date_true:%b}"
    axes.axvline(true, color=_TRUE, linestyle="--", label=f"true: {name}")
    error = f": error {abs(true - day):.0f} days"
  axes.set_xlim(day - half, day + half)
  starts = around(labels.MONTH_STARTS)
  order = np.argsort(starts)
  axes.set_xticks(
    starts[order], [labels.MONTHS[month] for month in order], ha="left"
  )
  axes.set_xlabel("predicted day of the year, ticks where months begin")
  axes.set_ylabel("patches")
  axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  # Leave space for the legend above the bars.
  axes.set_ylim(0, axes.get_ylim()[1] * 1.5)
  axes.legend(loc="upper left", fontsize=8, framealpha=1)
  axes.set_title(f"Day{error}")


def _draw_shares(axes, mapped, predicted):
  """Bars of the largest zones: mapped above, predicted below."""
  largest = np.maximum(mapped, predicted)
  order = np.argsort(-largest)[:_MAX_ZONES]
  order = order[largest[order] > 0.01]
  for y, zone in enumerate(order):
    for shares, shift, hatch in (
      (mapped, -0.2, None),
      (predicted, 0.2, "////"),
    ):
      axes.barh(
        y + shift,
        100 * shares[zone],
        0.38,
        color=scales.ZONE_COLOURS[zone],
        edgecolor="#333333",
        hatch=hatch,
      )
    end = 100 * largest[zone]
    # Names go to the right of the bars, or onto long bars.
    over = end > 36
    axes.text(
      2 if over else end + 2,
      y,
      climate.ZONE_NAMES[zone],
      va="center",
      fontsize=8.5,
      bbox=_OVER_BARS if over else None,
    )
  axes.set_yticks(range(len(order)), [climate.ZONES[zone] for zone in order])
  axes.set(ylim=(max(len(order), 4) - 0.5, -0.5), xlim=(0, 100))
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
  common = 100 * np.sum(np.minimum(mapped, predicted))
  axes.set_title(f"Climate zones: overlap {common:.0f} %")
