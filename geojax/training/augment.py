"""Augmentations: seeded, on the device, one draw an image.

Only those that leave every label right: where, which climate and when are the
same for a mirrored or turned patch, as long as the config lets it be turned. An
image's draw depends on its row in the whole batch, not on the device it is on.
"""

import jax
import jax.numpy as jnp


def augment(key: jax.Array, images: jax.Array, rows: jax.Array, options):
  """Alters each image by its own draw.

  Args:
    key: Random key.
    images: Scaled, shape `[batch, height, width, bands]`, rows from north to
      south.
    rows: Number of each image in the whole batch, shape `[batch]`.
    options: A config's `augment` part: `flip_east_west`, `flip_north_south`,
      `rotate`, `crop_pixels`, `band_noise`.

  Returns:
    Images, shape as given.

  Raises:
    ValueError: `rotate` with images that are not square.
  """
  height, width = images.shape[1:3]
  if options.rotate and height != width:
    raise ValueError(
      f"augment: images of {height} x {width} pixels cannot"
      " be turned by right angles; set config.augment.rotate to False"
    )
  keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
  keys = jax.vmap(lambda key: jax.random.split(key, 6))(keys)
  wide = (-1, 1, 1, 1)

  def draw(index):
    return jax.vmap(jax.random.bernoulli)(keys[:, index]).reshape(wide)

  if options.flip_east_west:
    images = jnp.where(draw(0), images[:, :, ::-1], images)
  if options.flip_north_south:
    images = jnp.where(draw(1), images[:, ::-1], images)
  if options.rotate:
    # A quarter turn at random after a half turn at random is each of the four.
    images = jnp.where(draw(2), images[:, ::-1, ::-1], images)
    images = jnp.where(draw(3), jnp.rot90(images, axes=(1, 2)), images)
  if options.crop_pixels:
    images = jax.vmap(_crop, in_axes=(0, 0, None))(
      keys[:, 4], images, options.crop_pixels
    )
  if options.band_noise:
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[3:]))(
      keys[:, 5]
    )
    images = images + options.band_noise * noise[:, None, None, :]
  return images


def cut_mix(key: jax.Array, images: jax.Array, *, at_most: float):
  """Pastes the same window of the image before it into each image.

  The labels of both count, by their share of the pixels: a place cannot be
  mixed with another, but its loss can.

  Args:
    key: Random key.
    images: Shape `[batch, height, width, bands]`.
    at_most: Largest share of the pixels that is pasted.

  Returns:
    Images, shape as given, and the share that was pasted, a scalar.
  """
  height, width = images.shape[1:3]
  share_key, top_key, left_key = jax.random.split(key, 3)
  side = jnp.sqrt(jax.random.uniform(share_key, maxval=at_most))
  inside = []
  for size, key in ((height, top_key), (width, left_key)):
    length = jnp.floor(side * size)
    start = jnp.floor(jax.random.uniform(key) * (size - length + 1))
    at = jnp.arange(size)
    inside.append((at >= start) & (at < start + length))
  pasted = inside[0][:, None] & inside[1][None, :]
  mixed = jnp.where(
    pasted[None, :, :, None], jnp.roll(images, 1, axis=0), images
  )
  return mixed, jnp.mean(pasted, dtype=images.dtype)


def _crop(key, image, pixels):
  """Moves an image by up to `pixels` each way; what comes in is mirrored."""
  padded = jnp.pad(
    image, ((pixels, pixels), (pixels, pixels), (0, 0)), "reflect"
  )
  top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
  return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
