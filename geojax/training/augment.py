"""Augmentations: seeded, on the device, one draw an image.

Only those that leave every label right: where, which climate and when are the
same for a mirrored or turned patch, as long as the config lets it be turned.
"""

import jax
import jax.numpy as jnp


def augment(
  key: jax.Array,
  images: jax.Array,
  *,
  flip_east_west: bool,
  flip_north_south: bool,
  rotate: bool,
) -> jax.Array:
  """Mirrors and turns each image by its own draw.

  Args:
    key: Random key.
    images: Shape `[batch, height, width, bands]`, rows from north to south.
    flip_east_west: Mirror half of the images east to west.
    flip_north_south: Mirror half of the images north to south.
    rotate: Turn each image by 0, 90, 180 or 270 degrees; square images only.

  Returns:
    Images, shape as given.

  Raises:
    ValueError: `rotate` with images that are not square.
  """
  if rotate and images.shape[1] != images.shape[2]:
    raise ValueError(
      f"augment: images of {images.shape[1]} x {images.shape[2]} pixels cannot"
      " be turned by right angles; set config.augment.rotate to False"
    )
  keys = jax.random.split(key, 3)

  def draw(index):
    shape = (images.shape[0], 1, 1, 1)
    return jax.random.bernoulli(keys[index], shape=shape)

  if flip_east_west:
    images = jnp.where(draw(0), images[:, :, ::-1], images)
  if flip_north_south:
    images = jnp.where(draw(1), images[:, ::-1], images)
  if rotate:
    # A quarter turn at random after a half turn at random is each of the four.
    half_key, quarter_key = jax.random.split(keys[2])
    shape = (images.shape[0], 1, 1, 1)
    half = jax.random.bernoulli(half_key, shape=shape)
    images = jnp.where(half, images[:, ::-1, ::-1], images)
    quarter = jax.random.bernoulli(quarter_key, shape=shape)
    images = jnp.where(quarter, jnp.rot90(images, axes=(1, 2)), images)
  return images
