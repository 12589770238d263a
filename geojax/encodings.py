"""Label encodings: coordinates, day of year and the 36-number geo label.

Codes lie in [0, 1], within the range of a sigmoid head, and are continuous
across the date line and New Year. NumPy stays NumPy and JAX traces, as in
`sphere`.
"""

from geojax import climate as climate_legend
from geojax import sphere

DAYS_PER_YEAR = 365

# Numbers of each label of a record.
LABELS = {"climate": 31, "coords": 3, "date": 2}

# The same side by side: the geo label.
CLIMATE = slice(0, 31)
COORDS = slice(31, 34)
DATE = slice(34, 36)
LABEL_DIM = 36

# A patch with at least this fraction of sea shows only open water, from which
# neither place nor date can be predicted.
SEA_PATCH_FRACTION = 0.95

# Decoding in float32 errs by up to 1e-5 days: down to this below 1 is day 1.
_DAY_TOLERANCE = 1e-4


def encode_coordinates(lat_deg, lon_deg):
  """Encodes places: ((90 - lat)/180, (sin lon + 1)/2, (cos lon + 1)/2).

  Args:
    lat_deg: Latitudes in degrees north, in [-90, 90], shape `[...]`.
    lon_deg: Longitudes in degrees east, of any range, shape `[...]`.

  Returns:
    Codes in [0, 1], shape `[..., 3]`.
  """
  xp, lat_deg, lon_deg = sphere.as_floats(lat_deg, lon_deg)
  lat_deg, lon_deg = xp.broadcast_arrays(lat_deg, lon_deg)
  sin, cos = sphere.sin_cos_deg(lon_deg)
  code = [(90 - lat_deg) / 180, (sin + 1) / 2, (cos + 1) / 2]
  return xp.stack(code, axis=-1)


def decode_coordinates(code):
  """Inverts `encode_coordinates`; any code decodes, predictions included.

  The latitude is clipped. The longitude is the direction of the last two
  numbers, 0 where they have none.

  Args:
    code: Codes, shape `[..., 3]`.

  Returns:
    `lat_deg` in [-90, 90] and `lon_deg` in (-180, 180], each `[...]`.

  Raises:
    ValueError: If the last axis does not have 3 entries.
  """
  xp, code = sphere.as_floats(code)
  sphere.check_last_dim("code", code, 3)
  lat_deg = xp.clip(90 - 180 * code[..., 0], -90.0, 90.0)
  lon_deg = sphere.angle_deg(2 * code[..., 1] - 1, 2 * code[..., 2] - 1)
  return lat_deg, lon_deg


def coordinates_to_unit(code):
  """Unit vectors `[..., 3]` of encoded places `[..., 3]`."""
  return sphere.latlon_to_unit(*decode_coordinates(code))


def encode_day_of_year(day):
  """Encodes days: ((sin d + 1)/2, (cos d + 1)/2) with d = 2 pi day/365.

  Args:
    day: Days of the year; 1 is 1 January, 365 is 31 December and a leap year's
      366 has the code of day 1. Shape `[...]`.

  Returns:
    Codes in [0, 1], shape `[..., 2]`.
  """
  xp, day = sphere.as_floats(day)
  sin, cos = sphere.sin_cos_deg(day * (360 / DAYS_PER_YEAR))
  return xp.stack([(sin + 1) / 2, (cos + 1) / 2], axis=-1)


def decode_day_of_year(code):
  """Inverts `encode_day_of_year`; 365 is added to days below 1.

  Args:
    code: Codes, shape `[..., 2]`.

  Returns:
    Days in [1, 366), shape `[...]`.

  Raises:
    ValueError: If the last axis does not have 2 entries.
  """
  xp, code = sphere.as_floats(code)
  sphere.check_last_dim("code", code, 2)
  turn_deg = sphere.angle_deg(2 * code[..., 0] - 1, 2 * code[..., 1] - 1)
  day = turn_deg * (DAYS_PER_YEAR / 360)
  day = xp.where(day < 1 - _DAY_TOLERANCE, day + DAYS_PER_YEAR, day)
  return xp.maximum(day, xp.asarray(1.0, dtype=day.dtype))


def days_apart(day, other):
  """Days between two days of the year, the short way round.

  Args:
    day: Days of the year, shape `[...]`.
    other: Days of the year, shape `[...]`.

  Returns:
    Days in [0, 182.5], shape `[...]`.
  """
  xp, day, other = sphere.as_floats(day, other)
  apart = xp.abs(day - other) % DAYS_PER_YEAR
  return xp.minimum(apart, DAYS_PER_YEAR - apart)


def encode_label(climate, lat_deg, lon_deg, day):
  """Joins zone fractions, place and day to geo labels.

  Args:
    climate: Fraction of the patch in each climate zone, shape `[..., 31]`.
    lat_deg: Latitudes of the patches' centres in degrees, shape `[...]`.
    lon_deg: Longitudes of the patches' centres in degrees, shape `[...]`.
    day: Days of the year, from 1, shape `[...]`.

  Returns:
    Labels, shape `[..., 36]`.

  Raises:
    ValueError: If the last axis of `climate` does not have 31 entries.
  """
  xp, climate, lat_deg, lon_deg, day = sphere.as_floats(
    climate, lat_deg, lon_deg, day
  )
  sphere.check_last_dim("climate", climate, len(climate_legend.ZONES))
  coords = encode_coordinates(lat_deg, lon_deg)
  return xp.concat([climate, coords, encode_day_of_year(day)], axis=-1)


def split_label(label):
  """Splits geo labels `[..., 36]` into their parts.

  Returns:
    A dict of `climate` `[..., 31]`, `coords` `[..., 3]` and `date` `[..., 2]`.

  Raises:
    ValueError: If the last axis does not have 36 entries.
  """
  sphere.check_last_dim("label", label, LABEL_DIM)
  return {
    "climate": label[..., CLIMATE],
    "coords": label[..., COORDS],
    "date": label[..., DATE],
  }


def is_sea_patch(climate):
  """Returns which patches are open sea, and count for the climate loss alone.

  Args:
    climate: Fraction of the patch in each climate zone, shape `[..., 31]`.

  Returns:
    Booleans, True where the fraction of sea is 0.95 or more, shape `[...]`.

  Raises:
    ValueError: If the last axis does not have 31 entries.
  """
  sphere.check_last_dim("climate", climate, len(climate_legend.ZONES))
  return climate[..., 0] >= SEA_PATCH_FRACTION


def known_rows(labels):
  """Returns which rows count for each label: known, and where it can be read.

  Place and date cannot be read off open water: they count on land alone. A
  label that holds a NaN or an infinity is unknown. Where the climate is
  unknown, so is whether a patch is sea, and the patch counts as land.

  Args:
    labels: A dict of some of `climate` `[..., 31]`, `coords` `[..., 3]` and
      `date` `[..., 2]`; other entries are ignored.

  Returns:
    A dict of booleans `[...]` by name.
  """
  known = {}
  for name in LABELS:
    if name in labels:
      xp, label = sphere.as_floats(labels[name])
      known[name] = xp.all(xp.isfinite(label), axis=-1)
  if "climate" in known:
    sea = known["climate"] & is_sea_patch(labels["climate"])
    known |= {k: rows & ~sea for k, rows in known.items() if k != "climate"}
  return known
