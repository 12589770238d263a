"""Augmentations: every allowed rotation and flip occurs, and no other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.training import augment as augment_lib
from geojax.training import config as config_lib

FLAGS = ("flip_east_west", "flip_north_south", "rotate")


def augment(key, images, rows=None, **options):
  config = config_lib.default_config().augment
  config.update({**dict.fromkeys(FLAGS, False), **options})
  rows = jnp.arange(len(images)) if rows is None else rows
  return augment_lib.augment(key, images, rows, config)


def _turns(image, flip_east_west, flip_north_south, rotate):
  turns = []
  for east, north, quarters in itertools.product(
    range(1 + flip_east_west),
    range(1 + flip_north_south),
    range(4 if rotate else 1),
  ):
    turned = image[:, ::-1] if east else image
    turned = turned[::-1] if north else turned
    turns.append(np.rot90(turned, quarters).tobytes())
  return set(turns)


@pytest.mark.parametrize(
  "flags", list(itertools.product([False, True], repeat=3))
)
def test_each_allowed_rotation_and_flip_occurs_and_no_other(flags):
  image = np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32)
  images = np.repeat(image[None], 256, axis=0)
  options = dict(zip(FLAGS, flags, strict=True))
  augmented = jax.jit(lambda key: augment(key, images, **options))(
    jax.random.key(0)
  )
  turned = {np.asarray(image).tobytes() for image in augmented}
  assert turned == _turns(image, *flags)


def test_the_result_depends_only_on_the_key():
  images = np.random.default_rng(0).normal(size=(64, 4, 4, 1))
  options = dict.fromkeys(FLAGS, True)
  first, again, other = (
    augment(jax.random.key(seed), images, **options) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_oblong_images_cannot_be_rotated():
  options = {**dict.fromkeys(FLAGS, False), "rotate": True}
  with pytest.raises(ValueError, match="4 x 6"):
    augment(jax.random.key(0), np.zeros((2, 4, 6, 1)), **options)


def test_the_draws_of_an_image_depend_on_its_global_row():
  images = np.random.default_rng(0).normal(size=(8, 6, 6, 2))
  options = {**dict.fromkeys(FLAGS, True), "crop_pixels": 2, "band_noise": 0.1}
  key = jax.random.key(0)
  whole = augment(key, images, **options)
  half = augment(key, images[4:], rows=jnp.arange(4, 8), **options)
  np.testing.assert_array_equal(whole[4:], half)


def test_a_crop_shifts_an_image_by_at_most_crop_pixels():
  image = np.arange(64.0).reshape(8, 8, 1)
  cropped = augment(
    jax.random.key(0), np.repeat(image[None], 200, 0), crop_pixels=2
  )
  # The center pixel gives the shift: rows differ by 8, columns by 1.
  moves = {
    tuple(divmod(int(x[3, 3, 0]) - 27 + 18, 8)) for x in np.asarray(cropped)
  }
  assert moves == set(itertools.product(range(5), repeat=2))


def test_band_noise_is_one_number_per_band():
  images = np.zeros((4000, 2, 2, 3), np.float32)
  noise = np.asarray(augment(jax.random.key(0), images, band_noise=0.5))
  assert np.all(noise == noise[:, :1, :1])
  np.testing.assert_allclose(noise[:, 0, 0].std(axis=0), 0.5, rtol=0.05)
  correlation = np.corrcoef(noise[:, 0, 0].T)
  np.testing.assert_allclose(correlation, np.eye(3), atol=0.06)


def test_cut_mix_returns_the_share_that_it_replaces():
  images = np.broadcast_to(
    np.arange(5.0, dtype=np.float32)[:, None, None, None], (5, 16, 16, 1)
  )
  shares = []
  for seed in range(40):
    mixed, share = augment_lib.cut_mix(
      jax.random.key(seed), images, at_most=0.5
    )
    pasted = mixed != images
    np.testing.assert_allclose(pasted.mean(axis=(1, 2, 3)), share, atol=1e-6)
    np.testing.assert_array_equal(
      mixed[pasted], jnp.roll(images, 1, axis=0)[pasted]
    )
    shares.append(float(share))
  assert max(shares) <= 0.5
  assert max(shares) > 0.35
  assert min(shares) < 0.1


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_maps_of_the_pixels_move_with_their_images(dtype):
  rng = np.random.default_rng(0)
  maps = rng.integers(0, 9, (32, 6, 6, 1)).astype(dtype)
  config = config_lib.default_config().augment
  config.update(
    {**dict.fromkeys(FLAGS, True), "crop_pixels": 2, "band_noise": 0.0}
  )
  key, rows = jax.random.key(0), jnp.arange(32)
  images = augment_lib.augment(key, maps.astype(np.float32), rows, config)
  moved = augment_lib.move(key, maps, rows, config)
  assert moved.dtype == dtype
  np.testing.assert_array_equal(images, moved.astype(np.float32))
  assert not np.array_equal(moved, maps)
