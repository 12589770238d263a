"""Places, days and climate zones as people read them."""

import datetime

import numpy as np

from geojax import climate

DAYS_PER_YEAR = 365
MONTHS = "JFMAMJJASOND"
# Day of the year on which each month begins.
MONTH_STARTS = np.array(
  [datetime.date(2023, month, 1).timetuple().tm_yday for month in range(1, 13)]
)


def day_difference(day, reference):
  """Days from `reference` to `day` the short way round the year.

  Args:
    day: Days of the year, any shape.
    reference: Days of the year, broadcast against `day`.

  Returns:
    Days in [-182.5, 182.5).
  """
  half = DAYS_PER_YEAR / 2
  return (np.asarray(day) - reference + half) % DAYS_PER_YEAR - half


def month_of(day):
  """Month, 0 to 11, of days of the year, rounded to whole days."""
  whole = (np.round(day).astype(int) - 1) % DAYS_PER_YEAR + 1
  return np.searchsorted(MONTH_STARTS, whole, side="right") - 1


def date_name(day):
  """Day of the year, rounded, as "16 Jul"."""
  later = datetime.timedelta(days=(round(float(day)) - 1) % DAYS_PER_YEAR)
  date = datetime.date(2023, 1, 1) + later
  return f"{date.day} {date:%b}"


def place_name(lat_deg, lon_deg):
  """Place in whole degrees, such as "48 N 16 E"."""
  north = "N" if lat_deg >= 0 else "S"
  east = "E" if lon_deg >= 0 else "W"
  return f"{abs(lat_deg):.0f} {north} {abs(lon_deg):.0f} {east}"


def zone_name(zone):
  """Climate zone 0 to 30 with its description."""
  if zone == 0:
    return "sea"
  return f"{climate.ZONES[zone]} ({climate.ZONE_NAMES[zone].lower()})"
