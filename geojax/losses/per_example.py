"""Losses with one value per example.

Predictions are on the labels' scale: coordinates and date as encoded, in
[0, 1] (a head applies the sigmoid), the climate as logits of the 31 zones.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from geojax import climate, encodings, mixture, sphere

# Which zone is in which class, [6, 31].
_IN_CLASS = np.arange(len(climate.CLASSES))[:, None] == climate.ZONE_TO_CLASS


def class_logits(logits):
  """Logits of the 6 climate classes: logsumexp over the zones of each.

  Their softmax is the sum of the zones' softmax, with no logarithm of a sum of
  probabilities that may have rounded to 0.

  Args:
    logits: Logits of the zones, shape `[..., 31]`.

  Returns:
    Logits of the classes, shape `[..., 6]`.
  """
  shape = (*logits.shape[:-1], *_IN_CLASS.shape)
  spread = jnp.broadcast_to(logits[..., None, :], shape)
  in_class = jnp.broadcast_to(_IN_CLASS, shape)
  return jax.nn.logsumexp(jnp.where(in_class, spread, -jnp.inf), axis=-1)


def climate_loss(logits, target, *, fine_weight=0.5):
  """Cross-entropy of zones and of classes: w CE(31) + (1 - w) CE(6).

  Targets are soft: the fractions of a patch. A class's probability, and its
  target, is the sum of its zones'.

  Args:
    logits: Finite logits of the zones, shape `[..., 31]`.
    target: Fractions of the zones, summing to 1, shape `[..., 31]`.
    fine_weight: Weight w of the zones, in [0, 1].

  Returns:
    Losses in nats, >= 0, shape `[...]`.

  Raises:
    ValueError: If the shapes differ or their last axis does not have 31.
  """
  _, logits, target = sphere.as_floats(jnp.asarray(logits), target)
  sphere.check_last_dim("logits", logits, len(climate.ZONES))
  check_same_shape("target", target, "logits", logits)
  # Classes after the softmax of the zones: the sums are then of probabilities
  # near 1, and large logits cost no digits.
  log_p = jax.nn.log_softmax(logits, axis=-1)
  fine = -jnp.sum(target * log_p, axis=-1)
  class_target = climate.class_fractions(target)
  coarse = -jnp.sum(class_target * class_logits(log_p), axis=-1)
  return fine_weight * fine + (1 - fine_weight) * coarse


def squared_error(predictions, targets):
  """Mean squared error over the last axis.

  Args:
    predictions: Values of shape `[..., n]`.
    targets: Values of the same shape.

  Returns:
    Errors, shape `[...]`.

  Raises:
    ValueError: If the shapes differ.
  """
  _, predictions, targets = sphere.as_floats(jnp.asarray(predictions), targets)
  check_same_shape("predictions", predictions, "targets", targets)
  return jnp.mean(jnp.square(predictions - targets), axis=-1)


def make_mixture_loss(mu, log_kappa, *, blur_rad=0.0):
  """Makes the where loss of a mixture of von Mises-Fisher distributions.

  Args:
    mu: Centers, unit vectors, shape `[k, 3]`.
    log_kappa: Logarithms of the concentrations, shape `[k]`.
    blur_rad: Where greater than 0, the upper bound of
      `mixture.smoothed_log_prob` instead.

  Returns:
    A function of mixture logits `[batch, k]` and encoded coordinates
    `[batch, 3]`. It returns -(log p + log 4 pi) in nats, shape `[batch]`: 0
    is what the uniform density scores, negative is knowledge.
  """
  log_prob = mixture.log_prob
  if blur_rad:
    log_prob = functools.partial(mixture.smoothed_log_prob, blur_rad=blur_rad)

  def mixture_loss(logits, coords):
    x = encodings.coordinates_to_unit(jnp.asarray(coords))
    return relative_nll(log_prob(x, logits, mu, log_kappa))

  return mixture_loss


def make_fused_mixture_loss(
  kernel, bias, mu, log_kappa, *, chunk_size=1024, axis_name=None, blur_rad=0.0
):
  """Makes the where loss of a linear head and a mixture in one.

  Equals `make_mixture_loss` of the logits `features @ kernel + bias`, in memory
  that does not grow with the number of centers k.

  Args:
    kernel: Weights of the head, shape `[features, k]`.
    bias: Biases of the head, shape `[k]`.
    mu: Centers, unit vectors, shape `[k, 3]`.
    log_kappa: Logarithms of the concentrations, shape `[k]`.
    chunk_size: Number of centers at a time.
    axis_name: Mapped axis over which the centers are spread, or None; see
      `mixture.fused_log_prob`.
    blur_rad: See `make_mixture_loss`.

  Returns:
    A function of features `[batch, features]` and encoded coordinates
    `[batch, 3]` that returns what that of `make_mixture_loss` does.
  """
  log_prob = mixture.fused_log_prob
  if blur_rad:
    log_prob = functools.partial(
      mixture.fused_smoothed_log_prob, blur_rad=blur_rad
    )

  def mixture_loss(features, coords):
    x = encodings.coordinates_to_unit(jnp.asarray(coords))
    by_center = kernel, bias, mu, log_kappa
    chunks = {"chunk_size": chunk_size, "axis_name": axis_name}
    return relative_nll(log_prob(x, features, *by_center, **chunks))

  return mixture_loss


def relative_nll(log_prob):
  """Negative log-likelihood relative to the uniform density on the sphere.

  Args:
    log_prob: Log-densities in nats per steradian, shape `[...]`.

  Returns:
    -(log p + log 4 pi) in nats, 0 for the uniform density, shape `[...]`.
  """
  return -(log_prob + math.log(4 * math.pi))


def check_same_shape(name, x, other_name, other):
  """Raises a ValueError unless two arrays have the same shape."""
  if x.shape != other.shape:
    raise ValueError(
      f"{name} must have the shape of {other_name}, {other.shape}, "
      f"found {x.shape}"
    )
