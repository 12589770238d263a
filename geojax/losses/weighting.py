"""Means over the examples that count, and their weighted sum over tasks."""

import jax.numpy as jnp
from jax import lax

from geojax import sphere
from geojax.losses.per_example import check_same_shape


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
  check_same_shape("where", where, "values", values)
  total = jnp.sum(jnp.where(where, values, 0.0))
  if axis_name is not None:
    total = lax.psum(total, axis_name)
  if count is None:
    count = count_rows(where, axis_name)
  return total / jnp.maximum(jnp.asarray(count, values.dtype), 1.0)


def weighted_loss(
  values, where, weights, *, axis_name=None, log_variances=None, totals=None
):
  """Weighted mean over tasks of each task's mean loss.

  Args:
    values: Losses by task, each of shape `[batch]`.
    where: By task, True where an example counts, each of shape `[batch]`.
    weights: Weights by task; only their ratios matter.
    axis_name: Mapped axes to sum over, see `masked_mean`.
    log_variances: None, or a dict of a learned scalar by task that weighs the
      tasks, see `uncertainty_weighted`.
    totals: None, or how many examples count by task in a batch that these are
      a part of: losses and means of all parts then add up to those of the
      batch.

  Returns:
    The loss, a scalar, and a dict of the mean of each task, unweighted.
  """
  means, terms = {}, {}
  for task, value in values.items():
    total = None if totals is None else totals[task]
    means[task] = terms[task] = masked_mean(
      value, where[task], axis_name, count=total
    )
    if log_variances is not None:
      share = count_rows(where[task], axis_name).astype(means[task].dtype)
      whole = share if total is None else jnp.asarray(total, share.dtype)
      share = share / jnp.maximum(whole, 1)
      terms[task] = uncertainty_weighted(
        means[task], log_variances[task], share
      )
  loss = sum(weights[task] * term for task, term in terms.items())
  return loss / sum(weights[task] for task in terms), means


def count_rows(where, axis_name=None):
  """Number of examples that count, over all devices, a scalar integer."""
  count = jnp.sum(where, dtype=int)
  return count if axis_name is None else lax.psum(count, axis_name)


def zero_rows(where, x):
  """Replaces rows that do not count by zeros.

  A loss then sees no NaN that would reach the gradient: 0 * NaN is NaN.

  Args:
    where: Booleans, shape `[batch]`.
    x: An array of shape `[batch, ...]`.

  Returns:
    An array of the shape of `x`.

  Raises:
    ValueError: If the leading axes differ.
  """
  x = jnp.asarray(x)
  if x.shape[: where.ndim] != where.shape:
    raise ValueError(
      f"values must have leading shape {where.shape}, found {x.shape}"
    )
  mask = where.reshape(where.shape + (1,) * (x.ndim - where.ndim))
  return jnp.where(mask, x, jnp.zeros((), x.dtype))


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
