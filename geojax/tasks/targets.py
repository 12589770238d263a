"""Targets of a data set's own as tasks: classes, numbers, and maps of both.

`config.tasks` names a target, such as "land_cover", for one answer a patch, or
"land_cover:pixels" for one a pixel. What the target is follows from the data
set's description of it, so that no task is written for it:

    kind        of a record               one answer a patch    `:pixels`
    class       index                     classification        -
    classes     0 or 1 of each class      multi-label           -
    number      value                     regression            -
    class_map   indices [size, size]      class of most pixels  segmentation
    value_map   values [size, size]       mean of the pixels    regression
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from geojax.models import heads
from geojax.tasks import classification, regression
from geojax.tasks.task import Task

PIXELS = ":pixels"

CLASS, CLASSES, NUMBER = "class", "classes", "number"
CLASS_MAP, VALUE_MAP = "class_map", "value_map"

# A pixel of a class map, or a class of several, that is unknown.
UNKNOWN = 255


@dataclasses.dataclass(frozen=True)
class Target:
  """A target of a data set.

  Attributes:
    name: Name of the label in a record.
    kind: `CLASS`, `CLASSES`, `NUMBER`, `CLASS_MAP` or `VALUE_MAP`.
    classes: Names of the classes, in the order of their indices.
    colors: Their colours, "#rrggbb", where the data set has them.
    threshold: Above it, a number counts as there, or None: see `regression`.
  """

  name: str
  kind: str
  classes: tuple[str, ...] = ()
  colors: tuple[str, ...] = ()
  threshold: float | None = None

  @property
  def is_map(self) -> bool:
    """Whether a record holds an array of its pixels."""
    return self.kind in (CLASS_MAP, VALUE_MAP)


def describe(metadata) -> dict[str, Target]:
  """Returns the targets of a data set's metadata, by name."""
  return {
    found["name"]: Target(
      name=found["name"],
      kind=found["kind"],
      classes=tuple(found.get("classes", ())),
      colors=tuple(color or "" for color in found.get("colors", ())),
      threshold=found.get("threshold"),
    )
    for found in metadata.get("targets", ())
  }


def create(name: str, targets, config) -> Task:
  """Creates the task of a target.

  Args:
    name: `NAME` or `NAME:pixels`, of one of the targets.
    targets: `Target`s by name.
    config: The config of a run, for `config.model.pixel_head`.

  Returns:
    A `Task` named `NAME` or `NAME_pixels`.

  Raises:
    ValueError: The target is no map, but an answer a pixel is asked for, or
      there is no such head.
  """
  target = targets[name.removesuffix(PIXELS)]
  if name.endswith(PIXELS):
    if not target.is_map:
      raise ValueError(
        f"target {target.name!r} is one {target.kind} a patch: it has no"
        f" {PIXELS[1:]}; ask for {target.name!r}"
      )
    if config.model.pixel_head not in heads.PIXEL_HEADS:
      raise ValueError(
        f"config.model.pixel_head is {config.model.pixel_head!r}; one of"
        f" {', '.join(heads.PIXEL_HEADS)}"
      )
    of_map = {
      CLASS_MAP: classification.create_segmentation,
      VALUE_MAP: regression.create_of_pixels,
    }
    return of_map[target.kind](target, config.model.pixel_head)
  create_task, read = _OF_PATCHES[target.kind]
  return create_task(target, read(target))


def one_class(target) -> Callable:
  """Returns the function from a batch to one class a patch, -1 if unknown.

  Args:
    target: A `Target` of kind `CLASS`, `CLASS_MAP` or `CLASSES`; of several
      classes it is the first that a patch has.
  """
  if target.kind == CLASS_MAP:
    return _majority(target)
  if target.kind == CLASS:
    return _as_stored(target)

  def first(batch):
    truths = batch[target.name]
    xp = truths.__array_namespace__()
    has = truths == 1
    return xp.where(has.any(axis=-1), xp.argmax(has, axis=-1), -1)

  return first


def _as_stored(target) -> Callable:
  return lambda batch: batch[target.name]


def _majority(target) -> Callable:
  """The class of most known pixels, -1 where none is known, `[batch]`."""

  def read(batch):
    pixels = batch[target.name]
    xp = pixels.__array_namespace__()
    counts = xp.stack(
      [xp.sum(pixels == c, axis=(1, 2)) for c in range(len(target.classes))],
      axis=-1,
    )
    known = xp.sum(counts, axis=-1) > 0
    return xp.where(known, xp.argmax(counts, axis=-1), -1)

  return read


def _mean(target) -> Callable:
  """The mean of the known pixels, NaN where none is known, `[batch]`."""

  def read(batch):
    pixels = batch[target.name]
    xp = pixels.__array_namespace__()
    pixels = pixels.astype(jnp.float32)
    known = ~xp.isnan(pixels)
    number = xp.sum(known, axis=(1, 2))
    total = xp.sum(xp.where(known, pixels, 0.0), axis=(1, 2))
    return xp.where(number > 0, total / xp.maximum(number, 1), xp.nan)

  return read


_OF_PATCHES = {
  CLASS: (classification.create, _as_stored),
  CLASS_MAP: (classification.create, _majority),
  CLASSES: (classification.create_multi_label, _as_stored),
  NUMBER: (regression.create, _as_stored),
  VALUE_MAP: (regression.create, _mean),
}
