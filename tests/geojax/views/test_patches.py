import numpy as np

from geojax.views import patches


def test_colours_keep_hue_and_contrast():
  rng = np.random.default_rng(0)
  image = rng.uniform(200, 900, (30, 30, 3))
  image[0, 0] = np.nan
  image[1, 1] = 500
  bands = np.stack([image, 7 * image])
  shown = patches.true_colour(bands)
  assert shown.dtype == np.uint8
  assert (shown[:, 0, 0] == 255).all()  # no data
  assert len(set(shown[0, 1, 1])) == 1  # grey stays grey
  known = shown[0][np.isfinite(bands[0])]
  # From the 1st to the 99th percentile of all bands.
  assert 0.005 < (known == 0).mean() < 0.015
  assert 0.005 < (known == 255).mean() < 0.015
  # Each image has a scale of its own, so that the unit does not matter.
  np.testing.assert_array_equal(shown[1], shown[0])
  np.testing.assert_array_equal(shown[0], patches.true_colour(bands[0]))


def test_a_uniform_image_keeps_its_colour():
  uniform = np.full((8, 8, 3), [10, 20, 40], np.int16)
  np.testing.assert_array_equal(
    patches.true_colour(uniform)[0, 0],
    # Black is at 10, a fourth of white.
    np.round(255 * np.array([0, 1 / 3, 1])),
  )
  np.testing.assert_array_equal(
    patches.true_colour(uniform + 40)[0, 0],
    np.round(255 * (np.array([50, 60, 80]) - 20) / 60),
  )
  assert not patches.true_colour(np.zeros((4, 4, 3))).any()
  assert (patches.true_colour(np.full((4, 4, 3), np.nan)) == 255).all()


def _prediction(**changed):
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


def test_patches_have_their_true_and_predicted_labels():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)
  figure = patches.example_patches(
    images=images, predictions=[_prediction()] * 12
  )
  assert len(figure.axes) == 12
  for axes, image in zip(figure.axes, images, strict=True):
    np.testing.assert_array_equal(axes.images[0].get_array(), image)
    assert axes.get_title() == "48 N 16 E\nCfb, 31 Dec"
    assert axes.get_xlabel() == "34 S 71 W, 12,346 km\nAf (42 %), 1 Mar"
  near = patches.example_patches(
    images=images[:1], predictions=[_prediction(distance_km=3)]
  )
  assert len([a for a in near.axes if a.axison]) == 1
  far = figure.axes[0].xaxis.label.get_color()
  assert not np.array_equal(near.axes[0].xaxis.label.get_color(), far)
