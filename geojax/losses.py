"""Losses: one value an example, and means over the examples that count.

Predictions are on the labels' scale: coordinates and date as encoded, in
[0, 1] (a head applies the sigmoid), the climate as logits of the 31 zones.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from geojax import climate, encodings, mixture, sphere

TASKS = ("coords", "climate", "date")
DEFAULT_WEIGHTS = {"coords": 1.0, "climate": 5.0, "date": 8.0}

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
  _check_same_shape("target", target, "logits", logits)
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
  _check_same_shape("predictions", predictions, "targets", targets)
  return jnp.mean(jnp.square(predictions - targets), axis=-1)


def make_mixture_loss(mu, log_kappa):
  """Makes the where loss of a mixture of von Mises-Fisher distributions.

  Args:
    mu: Centers, unit vectors, shape `[k, 3]`.
    log_kappa: Logarithms of the concentrations, shape `[k]`.

  Returns:
    A function of mixture logits `[batch, k]` and encoded coordinates
    `[batch, 3]`. It returns -(log p + log 4 pi) in nats, shape `[batch]`: 0
    is what the uniform density scores, negative is knowledge.
  """

  def mixture_loss(logits, coords):
    x = encodings.coordinates_to_unit(jnp.asarray(coords))
    return relative_nll(mixture.log_prob(x, logits, mu, log_kappa))

  return mixture_loss


def make_fused_mixture_loss(
  kernel, bias, mu, log_kappa, *, chunk_size=1024, axis_name=None
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
    axis_name: As of `mixture.fused_log_prob`.

  Returns:
    A function of features `[batch, features]` and encoded coordinates
    `[batch, 3]` that returns what that of `make_mixture_loss` does.
  """

  def mixture_loss(features, coords):
    x = encodings.coordinates_to_unit(jnp.asarray(coords))
    log_prob = mixture.fused_log_prob(
      x,
      features,
      kernel,
      bias,
      mu,
      log_kappa,
      chunk_size=chunk_size,
      axis_name=axis_name,
    )
    return relative_nll(log_prob)

  return mixture_loss


def relative_nll(log_prob):
  """Negative log-likelihood relative to the uniform density on the sphere.

  Args:
    log_prob: Log-densities in nats per steradian, shape `[...]`.

  Returns:
    -(log p + log 4 pi) in nats, 0 for the uniform density, shape `[...]`.
  """
  return -(log_prob + math.log(4 * math.pi))


def masked_mean(values, where, axis_name=None, *, count=None):
  """Mean over the examples that count, over all devices.

  Sums and counts are added over the devices before they are divided, so that
  an uneven spread of the mask weighs no example more than another. With
  nothing to average, value and gradient are exactly 0.

  Under `pmap` every device holds the same mean, and `jax.grad` on a device
  differentiates the sum of those equal means, as psum transposes to psum. The
  gradient of one device is therefore `lax.pmean(grads, axis_name)`, as is
  usual. Under `jit` with sharded arrays leave `axis_name` out: the sums are
  global already.

  Args:
    values: Values, shape `[...]`. What lies under the mask, NaN included, has
      no effect and gets gradient 0.
    where: Booleans, True where an example counts, of the same shape.
    axis_name: Name or names of the mapped axes to sum over, or None.
    count: Divides instead of the number of examples that count here, where
      these are a part of a batch: the means of all parts then add up to that
      of the batch.

  Returns:
    The mean, a scalar.

  Raises:
    ValueError: If the shapes differ.
  """
  _, values = sphere.as_floats(jnp.asarray(values))
  where = jnp.asarray(where, bool)
  _check_same_shape("where", where, "values", values)
  total = jnp.sum(jnp.where(where, values, 0.0))
  if axis_name is not None:
    total = lax.psum(total, axis_name)
  if count is None:
    count = _count_of(where, axis_name)
  return total / jnp.maximum(jnp.asarray(count, values.dtype), 1.0)


def geographic_loss(
  predictions,
  labels,
  *,
  weights=None,
  coords_loss=squared_error,
  where=None,
  axis_name=None,
  fine_weight=0.5,
  log_variances=None,
  counts=None,
):
  """Weighted mean of the losses of where, which climate and when.

  Where and when count over land patches alone, the climate over all patches.
  A row that does not count is replaced by zeros before any loss sees it, so
  that its NaNs reach neither values nor gradients.

  Args:
    predictions: A dict of `coords` (what `coords_loss` takes: encoded
      coordinates `[batch, 3]`, mixture logits `[batch, k]`, or a tree of
      arrays with a leading batch axis), `climate` (logits, `[batch, 31]`) and
      `date` (encoded, `[batch, 2]`).
    labels: Geo labels, shape `[batch, 36]`.
    weights: Weights of the three, a dict by task or a tuple in the order of
      `TASKS`; 1 : 5 : 8 by default. Only their ratios matter.
    coords_loss: A function of `predictions["coords"]` and encoded coordinates
      `[batch, 3]` that returns `[batch]`: `squared_error` or one made by
      `make_mixture_loss`.
    where: Booleans, False for rows of padding, shape `[batch]`, or None.
    axis_name: As of `masked_mean`.
    fine_weight: As of `climate_loss`.
    log_variances: None, or a dict of a learned scalar by task that weighs the
      tasks: see `uncertainty_weighted`.
    counts: None, or the `task_counts` of a batch that these rows are a part
      of: losses and means of all parts then add up to those of the batch.

  Returns:
    The loss, a scalar, and a dict of the mean of each task, unweighted.

  Raises:
    ValueError: If a task is missing or a shape does not fit.
  """
  labels = jnp.asarray(labels)
  target = encodings.split_label(labels)
  counts_for = _counts_for(labels, where)
  weights = DEFAULT_WEIGHTS if weights is None else weights
  weights = _by_task("weights", weights)
  predictions = _by_task("predictions", predictions)

  loss_of = {
    "coords": coords_loss,
    "climate": functools.partial(climate_loss, fine_weight=fine_weight),
    "date": squared_error,
  }
  means = {}
  for task in TASKS:
    guarded = jax.tree.map(
      functools.partial(_zero_rows, counts_for[task]),
      (predictions[task], target[task]),
    )
    values = loss_of[task](*guarded)
    means[task] = masked_mean(
      values,
      counts_for[task],
      axis_name,
      count=None if counts is None else counts[task],
    )

  terms = means
  if log_variances is not None:
    log_variances = _by_task("log_variances", log_variances)
    terms = {}
    for task in TASKS:
      share = _count_of(counts_for[task], axis_name).astype(means[task].dtype)
      whole = share if counts is None else counts[task]
      share = share / jnp.maximum(whole, 1).astype(share.dtype)
      terms[task] = uncertainty_weighted(
        means[task], log_variances[task], share
      )
  total = sum(weights[task] * terms[task] for task in TASKS)
  return total / sum(weights[task] for task in TASKS), means


def uncertainty_weighted(loss, log_variance, present, *, bound=5.0):
  """Weighs a task's loss by its learned variance: exp(-s) L + s/2.

  At its minimum, s = log 2L, every task pulls with the gradient of log(L)/2,
  whatever its unit. A loss that can be negative, as a density's can, would
  pull s to -inf; so s = bound * tanh(v / bound) of the learned v, and a task
  weighs at most exp(bound).

  Args:
    loss: The task's mean loss L, a scalar.
    log_variance: The learned v, a scalar; 0 leaves the loss as it is.
    present: Scalar, 1 if any example of the batch has the task; if none, the
      term and all its gradients are exactly 0. A part of a batch gives its
      share of the examples.
    bound: Largest |s|.

  Returns:
    The term, a scalar.

  References:
    Kendall, Gal & Cipolla, Multi-Task Learning Using Uncertainty to Weigh
    Losses for Scene Geometry and Semantics, CVPR 2018.
  """
  s = bound * jnp.tanh(jnp.asarray(log_variance) / bound)
  present = jnp.asarray(present, s.dtype)
  return jnp.where(present > 0, jnp.exp(-s) * loss + present * s / 2, 0.0)


def task_counts(labels, where=None, axis_name=None):
  """How many examples of a batch count for each task.

  Args:
    labels: Geo labels, shape `[batch, 36]`.
    where: As of `geographic_loss`.
    axis_name: As of `masked_mean`.

  Returns:
    A dict of integers by task, over all devices.
  """
  return {
    task: _count_of(mask, axis_name)
    for task, mask in _counts_for(jnp.asarray(labels), where).items()
  }


def _counts_for(labels, where):
  """Which rows count for which task."""
  if where is None:
    where = jnp.ones(labels.shape[:-1], bool)
  where = jnp.asarray(where, bool)
  if where.shape != labels.shape[:-1]:
    raise ValueError(
      f"where must have shape {labels.shape[:-1]}, found {where.shape}"
    )
  target = encodings.split_label(labels)
  land = where & ~encodings.is_sea_patch(target["climate"])
  return {"coords": land, "climate": where, "date": land}


def _count_of(where, axis_name):
  """How many examples count, over all devices."""
  count = jnp.sum(where, dtype=int)
  return count if axis_name is None else lax.psum(count, axis_name)


def _zero_rows(where, x):
  """Zeros the rows of `x` that do not count."""
  x = jnp.asarray(x)
  if x.shape[: where.ndim] != where.shape:
    raise ValueError(
      f"predictions must have leading shape {where.shape}, found {x.shape}"
    )
  mask = where.reshape(where.shape + (1,) * (x.ndim - where.ndim))
  return jnp.where(mask, x, jnp.zeros((), x.dtype))


def _by_task(name, values):
  """Returns a dict by task of a dict or of a tuple in the order of TASKS."""
  if not isinstance(values, dict):
    values = dict(enumerate(values))
    if len(values) == len(TASKS):
      values = dict(zip(TASKS, values.values(), strict=True))
  if set(values) != set(TASKS):
    raise ValueError(
      f"{name} must have the entries {TASKS}, found {tuple(values)}"
    )
  return values


def _check_same_shape(name, x, other_name, other):
  if x.shape != other.shape:
    raise ValueError(
      f"{name} must have the shape of {other_name}, {other.shape}, "
      f"found {x.shape}"
    )
