"""The geographic loss: where, which climate and when."""

import functools

import jax
import jax.numpy as jnp

from geojax import encodings
from geojax.losses.per_example import climate_loss, squared_error
from geojax.losses.weighting import weighted_loss, zero_rows

TASKS = ("coords", "climate", "date")
DEFAULT_WEIGHTS = {"coords": 1.0, "climate": 5.0, "date": 8.0}


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
):
  """Weighted mean of the losses of where, which climate and when.

  Where and when count over land patches alone, the climate over all patches,
  and nothing counts whose label holds a NaN. A row that does not count is
  replaced by zeros before any loss sees it, so that its NaNs reach neither
  values nor gradients.

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
    axis_name: Mapped axes to sum over, see `masked_mean`.
    fine_weight: Weight of the zones in `climate_loss`.
    log_variances: None, or a dict of a learned scalar by task that weighs the
      tasks: see `uncertainty_weighted`.

  Returns:
    The loss, a scalar, and a dict of the mean of each task, unweighted.

  Raises:
    ValueError: If a task is missing or a shape does not fit.
  """
  labels = jnp.asarray(labels)
  targets = encodings.split_label(labels)
  known = encodings.known_rows(targets)
  if where is not None:
    where = jnp.asarray(where, bool)
    if where.shape != labels.shape[:-1]:
      raise ValueError(
        f"where must have shape {labels.shape[:-1]}, found {where.shape}"
      )
    known = {task: rows & where for task, rows in known.items()}
  weights = _by_task("weights", DEFAULT_WEIGHTS if weights is None else weights)
  predictions = _by_task("predictions", predictions)
  if log_variances is not None:
    log_variances = _by_task("log_variances", log_variances)
  loss_of = {
    "coords": coords_loss,
    "climate": functools.partial(climate_loss, fine_weight=fine_weight),
    "date": squared_error,
  }
  values = {
    task: loss_of[task](
      *jax.tree.map(
        functools.partial(zero_rows, known[task]),
        (predictions[task], targets[task]),
      )
    )
    for task in TASKS
  }
  return weighted_loss(
    values, known, weights, axis_name=axis_name, log_variances=log_variances
  )


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
