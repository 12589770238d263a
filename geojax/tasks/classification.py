"""Classes of a patch, one or several, and of each pixel."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import (
  AveragePrecision,
  MacroF1,
  MeanIoU,
  Share,
)
from geojax.models import heads
from geojax.tasks.task import LinearForm, Task, mean_log_odds, mean_logits

# A pixel, or a class of several, that is unknown.
_UNKNOWN = 255


def create(target, read) -> Task:
  """Creates the task of one class a patch.

  Args:
    target: A `targets.Target`.
    read: Function of a batch that returns the classes' indices, `[batch]`,
      below 0 where unknown.

  Returns:
    A `Task` with the columns `<name>_class`, `<name>_class_true` and
    `<name>_probs` and the metrics `<name>_accuracy` and `<name>_macro_f1`.
  """
  name, where = target.name, (f"{target.name}_counts",)
  columns = f"{name}_class_true", f"{name}_class"
  words = name.replace("_", " ")
  return Task(
    name=name,
    head=heads.Linear(len(target.classes)),
    labels=(name,),
    target=read,
    counts=lambda batch: read(batch) >= 0,
    loss=_cross_entropy,
    decode=lambda outputs: {
      f"{name}_class": jnp.argmax(outputs, axis=-1),
      f"{name}_probs": jax.nn.softmax(outputs, axis=-1),
    },
    compare=lambda answers, classes: {f"{name}_class_true": classes},
    combine=mean_logits,
    metrics=(
      Metric(
        name=f"{name}_accuracy",
        words=f"{words}, {len(target.classes)} classes",
        higher_is_better=True,
        columns=columns,
        value=lambda true, answer: true == answer,
        where=where,
        headline=True,
      ),
      Metric(
        name=f"{name}_macro_f1",
        words=f"{words}, macro F1",
        higher_is_better=True,
        columns=columns,
        value=lambda true, answer: np.stack([true, answer], axis=-1),
        where=where,
        reduction=MacroF1(len(target.classes)),
        headline=True,
      ),
    ),
    best_metric=f"{name}_accuracy",
    linear=LinearForm("class", _one_hot(len(target.classes))),
  )


def create_multi_label(target, read) -> Task:
  """Creates the task of several classes a patch.

  Args:
    target: A `targets.Target`.
    read: Function of a batch that returns 0 or 1 of each class, `[batch,
      classes]`, 255 where unknown.

  Returns:
    A `Task` with the columns `<name>_probs` and `<name>_true` and the metrics
    `<name>_micro_map` and `<name>_macro_map`.
  """
  name = target.name
  words = name.replace("_", " ")
  return Task(
    name=name,
    head=heads.Linear(len(target.classes)),
    labels=(name,),
    target=read,
    counts=lambda batch: (read(batch) != _UNKNOWN).all(axis=-1),
    loss=_binary_cross_entropy,
    decode=lambda outputs: {f"{name}_probs": jax.nn.sigmoid(outputs)},
    compare=lambda answers, truths: {f"{name}_true": truths},
    combine=mean_log_odds,
    metrics=tuple(
      Metric(
        name=f"{name}_{average}_map",
        words=f"{words}, {average} mAP",
        higher_is_better=True,
        columns=(f"{name}_probs", f"{name}_true"),
        value=lambda probs, truths: np.concatenate([probs, truths], axis=-1),
        where=(f"{name}_counts",),
        reduction=AveragePrecision(micro=average == "micro"),
        headline=True,
      )
      for average in ("micro", "macro")
    ),
    best_metric=f"{name}_macro_map",
    linear=LinearForm("classes", np.float32),
  )


def create_segmentation(target, head: str) -> Task:
  """Creates the task of a class a pixel.

  Args:
    target: A `targets.Target`, a class map.
    head: One of `heads.PIXEL_HEADS`.

  Returns:
    A `Task` named `<name>_pixels`, with the columns `<task>_class`, `[batch,
    height, width]`, on request, and the numbers of pixels per class,
    `<task>_hits`, `<task>_true` and `<task>_predicted`, `[batch, classes]`. Its
    metrics are `<task>_mean_iou` and `<task>_accuracy`.
  """
  name, label = f"{target.name}_pixels", target.name
  num_classes = len(target.classes)
  words = f"{label.replace('_', ' ')} of pixels"
  where = (f"{name}_counts",)

  def loss(outputs, classes):
    # A row that does not count is all 0: class 0, and masked as a whole.
    known = classes != _UNKNOWN
    values = _cross_entropy(outputs, jnp.where(known, classes, 0))
    number = jnp.maximum(jnp.sum(known, axis=(1, 2)), 1)
    return jnp.sum(jnp.where(known, values, 0.0), axis=(1, 2)) / number

  def compare(answers, classes):
    answer = answers[f"{name}_class"]
    xp = answer.__array_namespace__()
    known = classes != _UNKNOWN

    def count(of_class):
      pixels = [of_class(c) & known for c in range(num_classes)]
      return xp.stack([xp.sum(p, axis=(1, 2)) for p in pixels], axis=-1)

    return {
      f"{name}_hits": count(lambda c: (answer == c) & (classes == c)),
      f"{name}_true": count(lambda c: classes == c),
      f"{name}_predicted": count(lambda c: answer == c),
    }

  return Task(
    name=name,
    head=heads.PIXEL_HEADS[head](num_classes),
    labels=(label,),
    target=lambda batch: batch[label],
    counts=lambda batch: (batch[label] != _UNKNOWN).any(axis=(1, 2)),
    loss=loss,
    decode=lambda outputs: {
      f"{name}_class": jnp.argmax(outputs, axis=-1).astype(jnp.uint8)
    },
    compare=compare,
    combine=mean_logits,
    metrics=(
      Metric(
        name=f"{name}_mean_iou",
        words=f"{words}, mean IoU",
        higher_is_better=True,
        columns=(f"{name}_hits", f"{name}_true", f"{name}_predicted"),
        value=lambda *counts: np.concatenate(counts, axis=-1),
        where=where,
        reduction=MeanIoU(),
        headline=True,
      ),
      Metric(
        name=f"{name}_accuracy",
        words=f"{words}, accuracy",
        higher_is_better=True,
        columns=(f"{name}_hits", f"{name}_true"),
        value=lambda hits, true: np.stack(
          [hits.sum(axis=-1), true.sum(axis=-1)], axis=-1
        ),
        where=where,
        reduction=Share(),
        headline=True,
      ),
    ),
    best_metric=f"{name}_mean_iou",
    on_request=(f"{name}_class",),
    linear=LinearForm("class", _one_hot(num_classes)),
  )


def _one_hot(num_classes):
  """Function from indices `[...]` to `[..., classes]`, 0 of unknown ones."""
  return lambda classes: np.float32(
    np.asarray(classes)[..., None] == np.arange(num_classes)
  )


def _cross_entropy(logits, classes):
  """Cross-entropy of indices: `[..., classes]`, `[...]` to `[...]`."""
  chosen = jnp.take_along_axis(
    jax.nn.log_softmax(logits, axis=-1),
    classes.astype(jnp.int32)[..., None],
    axis=-1,
  )
  return -chosen[..., 0]


def _binary_cross_entropy(logits, truths):
  """Mean cross-entropy of independent classes, `[batch, classes]` each."""
  truths = truths.astype(logits.dtype)
  return jnp.mean(jax.nn.softplus(logits) - truths * logits, axis=-1)
