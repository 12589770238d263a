"""Statistics and random convolutions, against NumPy and explicit loops."""

import numpy as np
import pytest

from geojax.transfer import baselines


def _images(*shape, seed=0):
  return np.random.default_rng(seed).normal(2, 0.5, shape).astype(np.float32)


def _normalized(patches):
  """Patches as rows, each less its mean and of length 1."""
  rows = [patch.ravel() - patch.mean(dtype=float) for patch in patches]
  return np.array([row / max(np.sqrt(row @ row), 1e-8) for row in rows])


def _second_moment(rows):
  """Mean of the outer products of rows with themselves."""
  return sum(np.outer(row, row) for row in rows) / len(rows)


def _zca(rows):
  values, vectors = np.linalg.eigh(_second_moment(rows))
  return vectors @ np.diag((values + 0.001) ** -0.5) @ vectors.T


def test_band_statistics_by_numpy():
  images = _images(7, 5, 6, 3) * [1, 10, 100] - [0, 5, 0]
  features = baselines.band_statistics(images, batch_size=3)
  assert features.shape == (7, 12)
  assert features.dtype == np.float32
  for row, image in zip(features, images, strict=True):
    bands = [image[..., band].ravel() for band in range(3)]
    expected = [
      f(band) for f in (np.mean, np.std, np.min, np.max) for band in bands
    ]
    np.testing.assert_allclose(row, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [-1.0, 0.3])
def test_features_by_a_loop(bias):
  rng = np.random.default_rng(1)
  kernels = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
  images = _images(5, 6, 8, 2) - 2
  convolve = baselines.RandomConvolutions(kernels, bias)
  features = convolve(images, batch_size=2)
  expected = np.zeros((5, 8))
  for n in range(5):
    for k in range(4):
      for row in range(4):
        for col in range(6):
          y = bias
          for i in range(3):
            for j in range(3):
              for band in range(2):
                pixel = images[n, row + i, col + j, band]
                y += float(pixel) * float(kernels[i, j, band, k])
          expected[n, k] += max(y, 0) / 24
          expected[n, 4 + k] += max(-y, 0) / 24
  assert (expected > 0).all()
  assert features.dtype == np.float32
  np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(features, convolve(images, batch_size=64))


def test_kernels_are_whitened_twice():
  # Two images of 2 x 3 places: with 12 kernels, all their patches are drawn.
  images = _images(2, 6, 7, 2)
  images[0, :5, :5] = 0.1  # A flat patch has no length to divide by.
  fitted = baselines.fit_random_convolutions(images, 0, num_features=24)
  patches = [
    images[n, row : row + 5, col : col + 5]
    for n in range(2)
    for row in range(2)
    for col in range(3)
  ]
  rows = _normalized(patches)
  zca = _zca(rows)
  expected = (rows @ zca @ zca).T.reshape(5, 5, 2, 12)
  assert fitted.bias == -1
  assert fitted.kernels.dtype == np.float32
  np.testing.assert_allclose(fitted.kernels, expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(fitted.kernels[..., 0], 0, atol=1e-6)


def test_whitened_patches_are_uncorrelated():
  # Images of the size of a patch are the patches, in this order. Their two
  # bands are alike.
  patches = _images(400, 3, 3, 1) + _images(400, 3, 3, 2, seed=1) / 3
  fitted = baselines.fit_random_convolutions(
    patches, 0, num_features=800, patch_size=3
  )
  rows = _normalized(patches)
  eigenvalues = np.linalg.eigvalsh(_second_moment(rows))
  assert eigenvalues[-1] > 10 * eigenvalues[1]
  # The covariance of patches times Z is Z C Z = C Z Z.
  covariance = rows.T @ fitted.kernels.reshape(18, 400).T / 400
  # No patch has a mean, before or after.
  expected = np.eye(18) - 1 / 18
  np.testing.assert_allclose(covariance, expected, atol=0.1)


def test_kernels_depend_on_the_seed_and_no_patch_occurs_twice():
  images = _images(20, 8, 8, 1)

  def kernels(seed):
    fitted = baselines.fit_random_convolutions(images, seed, num_features=600)
    return fitted.kernels

  np.testing.assert_array_equal(kernels(3), kernels(3))
  assert not np.allclose(kernels(3), kernels(4))
  assert len(np.unique(kernels(3).reshape(25, 300), axis=1).T) == 300


def test_patches_are_of_all_images_and_places():
  # Every pixel is a patch of its own direction, which only its kernel prefers.
  images = _images(6, 9, 9, 30)
  fitted = baselines.fit_random_convolutions(
    images, 0, num_features=120, patch_size=1
  )
  rows = _normalized(images.reshape(-1, 30))
  chosen = np.argmax(rows @ fitted.kernels.reshape(30, 60), axis=0)
  number, row, col = np.unravel_index(chosen, (6, 9, 9))
  assert set(number) == set(range(6))
  assert set(row) == set(col) == set(range(9))


def test_nan_stays_in_its_image():
  images = _images(3, 5, 5, 2)
  images[1, 2, 2, 0] = np.nan
  fitted = baselines.RandomConvolutions(np.ones((3, 3, 2, 4), np.float32), 0.0)
  known = np.isfinite(fitted(images)).all(axis=1)
  assert known.tolist() == [True, False, True]
  assert np.isnan(fitted(images)[1]).all()


def test_no_images_have_no_features():
  fitted = baselines.RandomConvolutions(np.ones((2, 2, 3, 4), np.float32), 0.0)
  assert fitted(np.zeros((0, 5, 5, 3))).shape == (0, 8)


def test_what_does_not_fit_raises():
  images = _images(2, 6, 6, 3)
  fit = baselines.fit_random_convolutions
  for num_features in (0, 3, 18):
    with pytest.raises(ValueError, match=f"patches, 8, found {num_features}"):
      fit(images, 0, num_features=num_features)
  with pytest.raises(ValueError, match="larger than input"):
    fit(images, 0, num_features=2, patch_size=7)
  with pytest.raises(ValueError, match="must be finite"):
    fit(np.where(images > 2, np.nan, images), 0, num_features=16)
  fitted = fit(images, 0, num_features=16)
  for wrong in (images[:, :4], images[:, :, :4], images[..., :2]):
    with pytest.raises(ValueError, match="at least 5 x 5 pixels and 3 bands"):
      fitted(wrong)
