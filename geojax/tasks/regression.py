"""A number of a patch, and of each pixel."""

import jax.numpy as jnp
import numpy as np

from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import RSquared, Share
from geojax.models import heads
from geojax.tasks.task import LinearForm, Task, mean_outputs

# Train records whose mean and deviation standardise a target.
_NUM_RECORDS = 4096
# Means over a patch, of what is known and 0 elsewhere: 1, absolute error,
# squared error, truth, squared truth; with a threshold also whether truth and
# answer are above it, the truth is, and the answer is.
_SUMS = (
  *("known", "error", "squared", "truth", "squared_truth"),
  *("hit", "there", "found"),
)
# Of the pixels of a patch, so that nothing is divided by 0.
_SMALLEST_SHARE = 1e-12


def create(target, read) -> Task:
  """Creates the task of a number a patch.

  Args:
    target: A `targets.Target`.
    read: Function of a batch that returns the numbers, `[batch]`, NaN where
      unknown.

  Returns:
    A `Task`, see `_create`.
  """
  return _create(target, target.name, heads.Linear(1), read)


def create_of_pixels(target, head: str) -> Task:
  """Creates the task of a number a pixel.

  Args:
    target: A `targets.Target`, a value map.
    head: One of `heads.PIXEL_HEADS`.

  Returns:
    A `Task` named `<name>_pixels`, see `_create`.
  """
  return _create(
    target,
    f"{target.name}_pixels",
    heads.PIXEL_HEADS[head](1),
    lambda batch: batch[target.name].astype(jnp.float32),
  )


def _create(target, name, head, read):
  """Creates a regression.

  The squared error of the target, standardised over the train split. Columns
  are `<name>_value`, of pixels on request, and `<name>_sums`, see `_SUMS`;
  metrics those of `_metrics`.
  """
  label, threshold = target.name, target.threshold

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

  def combine(outputs):
    values = [decode(found)[f"{name}_value"] for found in outputs]
    first = outputs[0]
    mean = (mean_outputs(values) - first["offset"]) / first["scale"]
    return {**first, "standardized": mean[..., None]}

  def compare(answers, truth):
    answer = answers[f"{name}_value"]
    xp = answer.__array_namespace__()
    known = xp.isfinite(truth)
    truth = xp.where(known, truth, 0.0)
    error = answer - truth
    parts = [xp.ones_like(error), xp.abs(error), error**2, truth, truth**2]
    if threshold is not None:
      there, found = truth > threshold, answer > threshold
      parts += [x.astype(error.dtype) for x in (there & found, there, found)]
    axes = tuple(range(1, truth.ndim))

    def mean(x):
      return xp.mean(xp.where(known, x, 0.0), axis=axes)

    sums = xp.stack([mean(x) for x in parts], axis=-1)
    share = xp.maximum(sums[..., 0], _SMALLEST_SHARE)
    bias = xp.abs(mean(error)) / share
    return {f"{name}_sums": sums, f"{name}_mean_error": bias}

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
    combine=combine,
    metrics=_metrics(name, threshold, of_pixels=name != label),
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


def _metrics(name, threshold, of_pixels):
  """Metrics of the columns of a regression.

  `<name>_mae`, `_mse` and `_r2`; of pixels `_mave`, the mean over patches of
  the absolute error of a patch's mean; with a threshold `_accuracy`,
  `_precision`, `_recall` and `_f1` of what lies above it, as PhilEO-Bench has
  them.
  """
  where = (f"{name}_counts",)

  def make(metric, words, value, reduction, **keys):
    return Metric(
      name=f"{name}_{metric}",
      words=f"{name.replace('_', ' ')}, {words}",
      columns=(f"{name}_sums",),
      value=value,
      where=where,
      reduction=reduction,
      **keys,
    )

  def take(*columns):
    at = [_SUMS.index(column) for column in columns]
    return lambda values: values[:, at]

  def accuracy(values):
    known, hit, there, found = take("known", "hit", "there", "found")(values).T
    return np.stack([known - there - found + 2 * hit, known], axis=-1)

  def f1(values):
    hit, there, found = take("hit", "there", "found")(values).T
    return np.stack([2 * hit, there + found], axis=-1)

  found = [
    make(
      "mae",
      "mean absolute error",
      take("error", "known"),
      Share(),
      headline=True,
    ),
    make("mse", "mean squared error", take("squared", "known"), Share()),
    make(
      "r2",
      "R2",
      take("known", "squared", "truth", "squared_truth"),
      RSquared(),
      headline=True,
      higher_is_better=True,
    ),
  ]
  if of_pixels:
    found.append(
      Metric(
        name=f"{name}_mave",
        words=f"{name.replace('_', ' ')}, error of a patch's mean",
        columns=(f"{name}_mean_error",),
        where=where,
      )
    )
  if threshold is not None:
    above = f"above {threshold:g}"
    found += [
      make(metric, f"{metric} {above}", value, Share(), higher_is_better=True)
      for metric, value in (
        ("accuracy", accuracy),
        ("precision", take("hit", "found")),
        ("recall", take("hit", "there")),
        ("f1", f1),
      )
    ]
  return tuple(found)
