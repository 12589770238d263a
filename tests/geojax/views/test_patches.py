import numpy as np
import pytest

from geojax.views import patches


def test_colours_keep_their_proportions():
  bands = np.zeros((3, 8, 8, 3), np.int16)
  bands[0] = [10, 20, 40]
  bands[1] = [1000, 2000, 4000]
  bands[2] = -5
  found = patches.true_colour(bands)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found[0, 0, 0], [64, 128, 255])
  np.testing.assert_array_equal(found[0], found[1])
  assert not found[2].any()


def _said(**changed):
  return {
    "lat_true": 48.2,
    "lon_true": 16.4,
    "lat_predicted": -33.9,
    "lon_predicted": -70.6,
    "distance_km": 12345.6,
    "zone_true": 15,
    "zone_predicted": 1,
    "zone_probability": 0.42,
    "day_true": 365.0,
    "day_predicted": 60.4,
  } | changed


def test_twelve_patches_each_with_what_was_said():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)
  figure = patches.example_patches(images=images, said=[_said()] * 12)
  assert len(figure.axes) == 12
  for axes, image in zip(figure.axes, images, strict=True):
    np.testing.assert_array_equal(axes.images[0].get_array(), image)
    assert axes.get_title() == "48 N 16 E\nCfb, 31 Dec"
    assert axes.get_xlabel() == "34 S 71 W, 12,346 km\nAf (42 %), 1 Mar"
  near = patches.example_patches(images=images[:1], said=[_said(distance_km=3)])
  assert len([a for a in near.axes if a.axison]) == 1
  far = figure.axes[0].xaxis.label.get_color()
  assert not np.array_equal(near.axes[0].xaxis.label.get_color(), far)


@pytest.mark.parametrize(
  ("day", "name"), [(1, "1 Jan"), (365.6, "1 Jan"), (59.4, "28 Feb")]
)
def test_dates_have_names(day, name):
  assert patches.date_name(day) == name
