"""Patches in true colour, with their predictions."""

import matplotlib.figure
import numpy as np

from geojax import climate
from geojax.views import labels

_COLUMNS = 4
_NEAR_KM = 750


def true_colour(bands):
  """Stretches red, green and blue between their 1st and 99th percentiles.

  The three bands of an image share one scale, which preserves hue. Black is at
  most a fourth of white, so that a uniform image keeps its colour.

  Args:
    bands: Red, green and blue in any one unit, NaN for no data, shape
      `[..., height, width, 3]`.

  Returns:
    uint8 of the same shape; no data is white.
  """
  bands = np.asarray(bands, np.float32)
  known = np.isfinite(bands)
  # All NaN has no percentile, and is white either way.
  filled = np.where(known.any(axis=(-3, -2, -1), keepdims=True), bands, 1)
  black, white = np.nanpercentile(
    filled, (1, 99), axis=(-3, -2, -1), keepdims=True
  )
  white = np.maximum(white, 1e-6)
  black = np.minimum(black, white / 4)
  share = np.clip((filled - black) / (white - black), 0, 1)
  return np.round(255 * np.where(known, share, 1)).astype(np.uint8)


def example_patches(*, images, predictions) -> matplotlib.figure.Figure:
  """Draws patches with their true and predicted place, zone and date.

  Args:
    images: Red, green and blue as uint8, shape `[count, height, width, 3]`.
    predictions: One dict per patch: `lat_true`, `lon_true`, `lat_predicted` and
      `lon_predicted` in degrees, `distance_km`, `zone_true` and
      `zone_predicted` 0 to 30, `zone_probability`, `day_true` and
      `day_predicted`.

  Returns:
    The figure, four patches per row.
  """
  rows = -(-len(images) // _COLUMNS)
  figure = matplotlib.figure.Figure(
    figsize=(7.2, 2.65 * rows + 0.3), layout="constrained"
  )
  axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
  for panel in axes[len(images) :]:
    panel.set_axis_off()
  for panel, image, patch in zip(axes, images, predictions, strict=False):
    panel.imshow(image, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_linewidth(0.5)
    true = labels.place_name(patch["lat_true"], patch["lon_true"])
    panel.set_title(
      f"{true}\n{climate.ZONES[patch['zone_true']]},"
      f" {labels.date_name(patch['day_true'])}",
      fontsize=8,
    )
    predicted = labels.place_name(
      patch["lat_predicted"], patch["lon_predicted"]
    )
    panel.set_xlabel(
      f"{predicted}, {patch['distance_km']:,.0f} km\n"
      f"{climate.ZONES[patch['zone_predicted']]}"
      f" ({100 * patch['zone_probability']:.0f} %),"
      f" {labels.date_name(patch['day_predicted'])}",
      fontsize=8,
      color="#00598c" if patch["distance_km"] <= _NEAR_KM else "#a64000",
    )
  figure.suptitle(
    "Above each patch: true place, climate zone and date. Below: prediction"
    f"\nwith its error in km (blue up to {_NEAR_KM} km, brown beyond)",
    fontsize=9,
  )
  return figure
