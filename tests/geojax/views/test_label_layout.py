import datetime

import numpy as np
import pytest

from geojax.views import labels


@pytest.mark.parametrize(
  ("day", "name"),
  [(1, "1 Jan"), (365.6, "1 Jan"), (59.4, "28 Feb"), (60, "1 Mar")],
)
def test_dates_have_names(day, name):
  assert labels.date_name(day) == name


def test_days_differ_the_short_way_round_the_year():
  difference = labels.day_difference([5.0, 360.0, 100.0], [360.0, 5.0, 130.0])
  np.testing.assert_array_equal(difference, [10, -10, -30])


def test_months_are_those_of_the_calendar():
  days = np.arange(1, 366)
  expected = [
    (datetime.date(2023, 1, 1) + datetime.timedelta(int(day) - 1)).month - 1
    for day in days
  ]
  np.testing.assert_array_equal(labels.month_of(days), expected)
  np.testing.assert_array_equal(labels.month_of([31.4, 31.6, 365.6]), [0, 1, 0])


def test_places_and_zones_have_names():
  assert labels.place_name(48.2, 16.4) == "48 N 16 E"
  assert labels.place_name(-33.9, -70.6) == "34 S 71 W"
  assert labels.zone_name(0) == "sea"
  assert labels.zone_name(1) == "Af (tropical, rainforest)"
