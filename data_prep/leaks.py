"""How near the patches of the held-out splits lie to those of train.

Splits by place keep a buffer; those that a table brings may not.
"""

import numpy as np
from scipy import spatial

from geojax import sphere

# Patches touch if their gap is no more than this share of their side, about a
# pixel: that is how far EuroSAT's neighbours lie apart.
_TOUCHING = 0.02
# Train patches nearest to each that are compared with it.
_NEIGHBORS = 16


def measure(columns):
  """Measures the distance to train of each held-out split.

  Args:
    columns: By split, `lat`, `lon` and `sides_deg` of the records, see
      `records.ShardReport.columns`; NaN where the place is unknown.

  Returns:
    By split, a dict in JSON's types: `count` of the patches with a place,
    `nearest_km` and `median_km` from centers to the nearest center in train,
    and, where extents are known, how many patches are `touching` train ones
    and how many `overlapping` them.
  """
  train = _places(columns.get("train", {}))
  measured = {}
  for split, found in columns.items():
    held_out = _places(found)
    if split == "train" or not len(held_out) or not len(train):
      continue
    tree = spatial.cKDTree(_units(train))
    neighbors = min(_NEIGHBORS, len(train))
    chord, index = tree.query(_units(held_out), k=neighbors)
    chord, index = (x.reshape(len(held_out), -1) for x in (chord, index))
    # Of the chord of a unit sphere.
    km = 2 * sphere.EARTH_RADIUS_KM * np.arcsin(np.minimum(chord[:, 0] / 2, 1))
    measured[split] = {
      "count": len(held_out),
      "nearest_km": float(km.min()),
      "median_km": float(np.median(km)),
    }
    gap, side = _gaps(held_out[:, None], train[index])
    if not np.isnan(gap).all():
      nearest = np.nanmin(gap / side, axis=1)
      measured[split] |= {
        "touching": int(np.count_nonzero(np.abs(nearest) <= _TOUCHING)),
        "overlapping": int(np.count_nonzero(nearest < -_TOUCHING)),
      }
  return measured


def warn(measured):
  """Yields a sentence for each split that lies next to train."""
  for split, found in measured.items():
    touching = found.get("touching", 0), found.get("overlapping", 0)
    yield (
      f"split {split}: its {found['count']:,} patches lie"
      f" {found['nearest_km']:,.2f} km or more from the nearest train patch,"
      f" half of them {found['median_km']:,.2f} km"
      + (
        f"; {touching[0]:,} touch one and {touching[1]:,} overlap one"
        if "touching" in found
        else "; whether they touch is unknown, as --pixel_m is not given"
      )
    )


def _places(found):
  """Latitude, longitude and sides in degrees of known places, `[n, 4]`."""
  if not found:
    return np.zeros((0, 4))
  places = np.column_stack([found["lat"], found["lon"], found["sides_deg"]])
  return places[~np.isnan(places[:, 0])].astype(np.float64)


def _units(places):
  return sphere.latlon_to_unit(places[:, 0], places[:, 1])


def _gaps(a, b):
  """Gaps between patches in degrees of latitude, and their mean sides.

  A gap is the larger of that in latitude and that in longitude: below 0 where
  the patches overlap.
  """
  stretch = np.cos(np.deg2rad((a[..., 0] + b[..., 0]) / 2))
  lat_side = (a[..., 2] + b[..., 2]) / 2
  lon_side = (a[..., 3] + b[..., 3]) / 2 * stretch
  lon = (a[..., 1] - b[..., 1] + 180) % 360 - 180
  gap = np.maximum(
    np.abs(a[..., 0] - b[..., 0]) - lat_side, np.abs(lon) * stretch - lon_side
  )
  return gap, (lat_side + lon_side) / 2
