"""A number of a patch, and of each pixel."""

import jax.numpy as jnp
import numpy as np

from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import RSquared, Share
from geojax.models import heads
from geojax.tasks.task import LinearForm, Task

# Train records whose mean and deviation standardise a target.
_NUM_RECORDS = 4096


def create(target, read) -> Task:
  """Creates the task of a number a patch.

  Args:
    target: A `targets.Target`.
    read: Function of a batch that returns the numbers, `[batch]`, NaN where
      unknown.

  Returns:
    A `Task`, see `_create`.
  """
  return _create(target.name, target.name, heads.Linear(1), read)


def create_of_pixels(target, head: str) -> Task:
  """Creates the task of a number a pixel.

  Args:
    target: A `targets.Target`, a value map.
    head: One of `heads.PIXEL_HEADS`.

  Returns:
    A `Task` named `<name>_pixels`, see `_create`.
  """
  return _create(
    f"{target.name}_pixels",
    target.name,
    heads.PIXEL_HEADS[head](1),
    lambda batch: batch[target.name].astype(jnp.float32),
  )


def _create(name, label, head, read):
  """Creates a regression.

  The squared error of the target, standardised over the train split. Columns
  are `<name>_value`, of pixels on request, and the share of numbers that are
  known with their means of error, squared error, truth and squared truth,
  `<name>_sums`, `[batch, 5]`; metrics `<name>_mae` and `<name>_r2`.
  """
  where, sums = (f"{name}_counts",), (f"{name}_sums",)
  words = name.replace("_", " ")

  def counts(batch):
    numbers = read(batch)
    known = numbers.__array_namespace__().isfinite(numbers)
    return known.any(axis=tuple(range(1, known.ndim)))

  def loss(outputs, truth):
    known = jnp.isfinite(truth)
    # Before any arithmetic: a NaN under the mask would reach the gradient.
    truth = jnp.where(known, truth, 0.0)
    truth = (truth - outputs["offset"]) / outputs["scale"]
    error = outputs["standardized"][..., 0] - truth
    axes = tuple(range(1, known.ndim))
    number = jnp.maximum(jnp.sum(known, axis=axes), 1)
    return jnp.sum(jnp.where(known, error**2, 0.0), axis=axes) / number

  def decode(outputs):
    values = outputs["standardized"][..., 0]
    return {f"{name}_value": values * outputs["scale"] + outputs["offset"]}

  def compare(answers, truth):
    answer = answers[f"{name}_value"]
    xp = answer.__array_namespace__()
    known = xp.isfinite(truth)
    truth = xp.where(known, truth, 0.0)
    error = xp.abs(answer - truth)
    parts = [xp.ones_like(error), error, error**2, truth, truth**2]
    axes = tuple(range(1, truth.ndim))
    means = [xp.mean(xp.where(known, x, 0.0), axis=axes) for x in parts]
    return {f"{name}_sums": xp.stack(means, axis=-1)}

  def initialize(read_labels):
    found = np.asarray(read(read_labels(_NUM_RECORDS)), np.float64)
    known = found[np.isfinite(found)]
    if not len(known):
      raise ValueError(f"target {label!r} is unknown in all train records")
    deviation = known.std()
    return {
      "offset": np.float32(known.mean()),
      "scale": np.float32(deviation if deviation > 0 else 1.0),
    }

  return Task(
    name=name,
    head=heads.Standardized(head),
    labels=(label,),
    target=read,
    counts=counts,
    loss=loss,
    decode=decode,
    compare=compare,
    metrics=(
      Metric(
        name=f"{name}_mae",
        words=f"{words}, mean absolute error",
        columns=sums,
        value=lambda values: values[:, [1, 0]],
        where=where,
        reduction=Share(),
        headline=True,
      ),
      Metric(
        name=f"{name}_r2",
        words=f"{words}, R2",
        higher_is_better=True,
        columns=sums,
        value=lambda values: values[:, [0, 2, 3, 4]],
        where=where,
        reduction=RSquared(),
        headline=True,
      ),
    ),
    best_metric=f"{name}_r2",
    on_request=() if name == label else (f"{name}_value",),
    initialize=initialize,
    learning_rates={"offset": 0.0, "scale": 0.0},
    linear=LinearForm(
      "number",
      lambda numbers: np.float32(numbers)[..., None],
      lambda numbers: {"standardized": numbers, "offset": 0.0, "scale": 1.0},
    ),
  )
