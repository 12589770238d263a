"""Blocks of latitude and longitude."""

import numpy as np

from geojax import blocks


def test_places_of_one_block_have_one_number():
  lat = np.array([10.1, 14.9, 15.1, 10.1, 10.1, np.nan, np.nan])
  lon = np.array([20.1, 24.9, 20.1, 25.1, 380.1, 0, 0])
  found = blocks.numbers(lat, lon, 5)
  assert found[0] == found[1] == found[4]
  assert len(set(found.tolist())) == 5
  assert (found[:5] >= 0).all()
  assert (found[5:] < 0).all()


def test_a_pole_is_one_block_and_180_degrees_no_edge():
  rows, cols = blocks.of_places([89, 88, -89.9, -90], [0, 130, 10, -170], 5)
  assert rows.tolist() == [0, 0, 35, 35]
  assert cols.tolist() == [0, 0, 0, 0]
  one, other = blocks.numbers(np.zeros(2), np.array([180.0, -180.0]), 5)
  assert one == other
