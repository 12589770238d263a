"""Patches as people see them, with what was said of each."""

import datetime

import matplotlib.figure
import numpy as np

from geojax import climate


def true_colour(bands, *, percentile=99.0):
  """Scales three bands of each patch to what a screen shows.

  Args:
    bands: Red, green and blue in any one unit, 0 is black, shape
      `[count, height, width, 3]`.
    percentile: Percentile of a patch, its bands together, that becomes white.

  Returns:
    uint8 of the shape of `bands`.
  """
  bands = np.maximum(np.asarray(bands, np.float32), 0)
  # The bands of a patch together, so that green stays green.
  white = np.percentile(bands, percentile, axis=(1, 2, 3), keepdims=True)
  share = np.clip(bands / np.where(white > 0, white, 1), 0, 1)
  return np.round(255 * share).astype(np.uint8)


def example_patches(*, images, said) -> matplotlib.figure.Figure:
  """Draws patches with what was said of each, beside what is true.

  Args:
    images: Red, green and blue as uint8, shape `[count, height, width, 3]`.
    said: A dict a patch: `lat_true`, `lon_true`, `lat_predicted` and
      `lon_predicted` in degrees, `distance_km`, `zone_true` and
      `zone_predicted` 0 to 30, `zone_probability`, `day_true` and
      `day_predicted`.

  Returns:
    The figure: four patches a row.
  """
  columns = 4
  rows = -(-len(images) // columns)
  figure = matplotlib.figure.Figure(
    figsize=(7.2, 2.65 * rows), layout="constrained"
  )
  axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
  for panel, image, words in zip(axes, images, said, strict=False):
    panel.imshow(image, interpolation="nearest")
    panel.set_title(
      f"{place_name(words['lat_true'], words['lon_true'])}\n"
      f"{climate.ZONES[words['zone_true']]}, {date_name(words['day_true'])}",
      fontsize=8,
    )
    panel.set_xlabel(
      f"{place_name(words['lat_predicted'], words['lon_predicted'])},"
      f" {words['distance_km']:,.0f} km\n"
      f"{climate.ZONES[words['zone_predicted']]}"
      f" ({100 * words['zone_probability']:.0f} %),"
      f" {date_name(words['day_predicted'])}",
      fontsize=8,
      color=np.array(
        [0.0, 0.35, 0.55] if words["distance_km"] <= 750 else [0.65, 0.25, 0.0]
      ),
    )
  for panel in axes:
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
      side.set_linewidth(0.5)
  for panel in axes[len(images) :]:
    panel.set_axis_off()
  figure.suptitle(
    "Above: true place, zone and date. Below: predicted, error in km"
    " (blue within 750 km)",
    fontsize=9,
  )
  return figure


def place_name(lat_deg, lon_deg):
  """A place in whole degrees, such as "48 N 16 E"."""
  north = "N" if lat_deg >= 0 else "S"
  east = "E" if lon_deg >= 0 else "W"
  return f"{abs(lat_deg):.0f} {north} {abs(lon_deg):.0f} {east}"


def date_name(day):
  """A day of the year as "16 Jul"."""
  later = datetime.timedelta(days=(round(float(day)) - 1) % 365)
  date = datetime.date(2023, 1, 1) + later
  return f"{date.day} {date:%b}"
