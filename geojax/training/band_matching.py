"""Weights of an encoder's first layers, mapped to other bands by name."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax import models
from geojax.training.errors import ConfigError


def match_bands(encoder, drawn, model, theirs, data):
  """Maps the weights of an encoder's first layers to other bands.

  The axis of a parameter along which bands lie is found by its shape for more
  bands; several pixels may be folded into it, bands varying fastest.

  Args:
    encoder: Parameters of the encoder that was trained.
    drawn: Parameters of the same encoder as drawn for the data's bands.
    model: The `model` part of the config.
    theirs: Names of the bands that it was trained on.
    data: The `data_info.DataInfo` of the data.

  Returns:
    Parameters for the data's bands, and notes of the bands that are drawn or
    left out, for the log.

  Raises:
    ConfigError: The encoder has other layers for another number of bands.
  """
  kept = {ours: theirs.index(ours) for ours in data.bands if ours in theirs}

  def shapes(num_bands):
    images = jnp.zeros((1, *data.image_shape[:2], num_bands))
    created = models.create_encoder(model)
    return jax.eval_shape(created.init, jax.random.key(0), images)["params"]

  one = shapes(len(data.bands))
  others = (shapes(len(data.bands) + extra) for extra in (1, 2, 3))
  # With as many channels as the first layer has, a layer may be left out.
  structure = jax.tree.structure(drawn)
  two = next((t for t in others if jax.tree.structure(t) == structure), None)
  if two is None or jax.tree.structure(encoder) != structure:
    raise ConfigError(
      "config.init.bands = 'match': the encoder has other layers for another"
      " number of bands"
    )

  def match(old, new, a, b):
    axes = [i for i, n in enumerate(a.shape) if n != b.shape[i]]
    if not axes:
      return old
    (axis,) = axes
    folded = a.shape[axis] // len(data.bands)
    old, new = (np.moveaxis(np.asarray(x), axis, 0) for x in (old, new))
    old = old.reshape(folded, len(theirs), *old.shape[1:])
    new = new.reshape(folded, len(data.bands), *new.shape[1:]).copy()
    for index, band in enumerate(data.bands):
      if band in kept:
        new[:, index] = old[:, kept[band]]
    new = new.reshape(-1, *new.shape[2:])
    return jnp.asarray(np.moveaxis(new, 0, axis))

  matched = jax.tree.map(match, encoder, drawn, one, two)
  missing = [band for band in data.bands if band not in kept]
  unused = [band for band in theirs if band not in kept]
  notes = [f"bands drawn: {', '.join(missing)}"] * bool(missing)
  notes += [f"bands left out: {', '.join(unused)}"] * bool(unused)
  return matched, notes
