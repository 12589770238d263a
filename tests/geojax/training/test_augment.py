"""Each augmented image is one of the turns that the flags allow, all occur."""

import itertools

import jax
import numpy as np
import pytest

from geojax.training.augment import augment

FLAGS = ("flip_east_west", "flip_north_south", "rotate")


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
def test_images_are_turned_as_allowed_and_in_every_way(flags):
  image = np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32)
  images = np.repeat(image[None], 256, axis=0)
  options = dict(zip(FLAGS, flags, strict=True))
  augmented = jax.jit(lambda key: augment(key, images, **options))(
    jax.random.key(0)
  )
  found = {np.asarray(turned).tobytes() for turned in augmented}
  assert found == _turns(image, *flags)


def test_the_key_alone_decides():
  images = np.random.default_rng(0).normal(size=(64, 4, 4, 1))
  options = dict.fromkeys(FLAGS, True)
  first, again, other = (
    augment(jax.random.key(seed), images, **options) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_oblong_images_are_not_turned():
  options = {**dict.fromkeys(FLAGS, False), "rotate": True}
  with pytest.raises(ValueError, match="4 x 6"):
    augment(jax.random.key(0), np.zeros((2, 4, 6, 1)), **options)
