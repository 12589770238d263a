"""Random augmentations, on the device.

All of them keep the labels valid: place, climate and date of a mirrored or
rotated patch are unchanged. The draws of an image depend on the key and its row
in the global batch, not on its device.
"""

import jax
import jax.numpy as jnp


def augment(key: jax.Array, images: jax.Array, rows: jax.Array, options):
  """Augments each image with its own random draws.

  `move`, and noise that is added to each band.

  Args:
    key: Random key.
    images: Scaled, shape `[batch, height, width, bands]`, rows from north to
      south.
    rows: Index of each image in the global batch, shape `[batch]`.
    options: The `augment` part of a config: `flip_east_west`,
      `flip_north_south`, `rotate`, `crop_pixels`, `band_noise`.

  Returns:
    Images, shape as given.

  Raises:
    ValueError: `rotate` with images that are not square.
  """
  images = move(key, images, rows, options)
  if not options.band_noise:
    return images

  def add_noise(image, row):
    noise = jax.random.normal(_keys(key, row)[5], (1, 1, image.shape[-1]))
    return image + options.band_noise * noise

  return jax.vmap(add_noise)(images, rows)


def move(key: jax.Array, images: jax.Array, rows: jax.Array, options):
  """Mirrors, rotates and shifts each image by its own random draws.

  With the same key and rows, maps of the images' pixels are moved as they are.

  Args:
    key: Random key.
    images: Of any type, shape `[batch, height, width, channels]`.
    rows: See `augment`.
    options: See `augment`; noise is left out.

  Returns:
    Images, shape as given.

  Raises:
    ValueError: See `augment`.
  """
  height, width = images.shape[1:3]
  if options.rotate and height != width:
    raise ValueError(
      f"augment: images of {height} x {width} pixels cannot be rotated by 90"
      " degrees; set config.augment.rotate to False"
    )

  def move_one(image, row):
    keys = _keys(key, row)

    def maybe(index, changed):
      return jnp.where(jax.random.bernoulli(keys[index]), changed, image)

    if options.flip_east_west:
      image = maybe(0, image[:, ::-1])
    if options.flip_north_south:
      image = maybe(1, image[::-1])
    if options.rotate:
      # A random half turn, then a random quarter turn: 0, 90, 180 or 270.
      image = maybe(2, image[::-1, ::-1])
      image = maybe(3, jnp.rot90(image))
    if pad := options.crop_pixels:
      # Shifts by up to `pad` pixels; the border is mirrored.
      start = jax.random.randint(keys[4], (2,), 0, 2 * pad + 1)
      padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), "reflect")
      image = jax.lax.dynamic_slice(padded, (*start, 0), image.shape)
    return image

  return jax.vmap(move_one)(images, rows)


def _keys(key, row):
  return jax.random.split(jax.random.fold_in(key, row), 6)


def cut_mix(key: jax.Array, images: jax.Array, *, at_most: float):
  """Replaces one random window in all images by that of the previous image.

  The loss of a mixed image is the mean of the losses against both labels,
  weighted by their shares of the pixels.

  Args:
    key: Random key.
    images: Shape `[batch, height, width, bands]`.
    at_most: Largest share of the pixels that is replaced.

  Returns:
    Images, shape as given, and the share that was replaced, a scalar.
  """
  height, width = images.shape[1:3]
  share_key, top_key, left_key = jax.random.split(key, 3)
  side = jnp.sqrt(jax.random.uniform(share_key, maxval=at_most))

  def inside(key, size):
    length = jnp.floor(side * size)
    start = jnp.floor(jax.random.uniform(key) * (size - length + 1))
    index = jnp.arange(size)
    return (index >= start) & (index < start + length)

  window = inside(top_key, height)[:, None] & inside(left_key, width)[None, :]
  mixed = jnp.where(
    window[None, :, :, None], jnp.roll(images, 1, axis=0), images
  )
  return mixed, jnp.mean(window, dtype=images.dtype)
