"""Targets: labels of a data set's own, such as a class or a yield.

A target is described in the data set's metadata, so that whoever trains on it
knows its classes or its kind without the table it came from.
"""

import collections
import dataclasses
import math

import numpy as np

CLASS, NUMBER = KINDS = "class", "number"

# How an unknown class is stored; an unknown number is NaN.
UNKNOWN_CLASS = -1


@dataclasses.dataclass(frozen=True)
class Target:
  """A label of each patch.

  Attributes:
    name: Name of the column, and of the feature of a record.
    kind: `CLASS` or `NUMBER`.
    classes: Names of the classes; a record holds an index, -1 if unknown.
  """

  name: str
  kind: str
  classes: tuple[str, ...] = ()

  @property
  def dtype(self):
    """Type of the feature."""
    return np.int32 if self.kind == CLASS else np.float32

  @property
  def unknown(self):
    """Value of a record whose target is unknown."""
    return UNKNOWN_CLASS if self.kind == CLASS else math.nan

  def parse(self, text):
    """Value of a record, from a cell of the table; see `find`."""
    if not text:
      return self.unknown
    return self.classes.index(text) if self.kind == CLASS else float(text)

  def describe(self, values):
    """Describes the target of some records by split, in JSON's types.

    Args:
      values: Values of the records by split, each `[n]`.
    """
    unknown = {
      split: np.isnan(x) if self.kind == NUMBER else x == UNKNOWN_CLASS
      for split, x in values.items()
    }
    total = sum(map(len, values.values()))
    described = {
      "name": self.name,
      "kind": self.kind,
      "unknown": sum(int(x.sum()) for x in unknown.values()) / max(total, 1),
    }
    if self.kind == NUMBER:
      known = {split: x[~unknown[split]] for split, x in values.items()}
      return described | {
        "counts": {split: len(x) for split, x in known.items()},
        "mean": {
          split: float(x.mean(dtype=float))
          for split, x in known.items()
          if len(x)
        },
      }
    return described | {
      "classes": list(self.classes),
      "counts": {
        split: {
          name: int(n)
          for name, n in zip(
            self.classes,
            np.bincount(x[~unknown[split]], minlength=len(self.classes)),
            strict=True,
          )
        }
        for split, x in values.items()
      },
    }


def one_line(described):
  """One line about a target, of the result of `Target.describe`."""
  if "classes" in described:
    what = f"{len(described['classes'])} classes"
  else:
    what = "numbers"
  return (
    f"target {described['name']}: {what}, {described['unknown']:.1%} unknown"
  )


def warn(described):
  """Yields a sentence for each split that lacks classes of a target.

  Of a map, whose rare classes many splits lack, only the train split counts.
  """
  if "classes" not in described:
    return
  counts = described["counts"]
  occurring = [
    name
    for name in described["classes"]
    if any(found.get(name) for found in counts.values())
  ]
  for split, found in counts.items():
    missing = [name for name in occurring if not found.get(name)]
    if missing and (split == "train" or described["kind"] == CLASS):
      yield (
        f"target {described['name']}: split {split} has no"
        f" {', '.join(missing)}; with smaller blocks (--block_deg) or other"
        " splits it may"
      )


def split_kind(column):
  """Splits `NAME:class` or `NAME:number`; the kind is None without a suffix."""
  name, _, kind = column.rpartition(":")
  return (name, kind) if name and kind in KINDS else (column, None)


def find(name, cells, kind, fail):
  """Finds out what a column of a table holds.

  Cells that are all numbers are numbers, unless a kind is asked for, and texts
  are classes. Where both occur, the rarer ones are errors.

  Args:
    name: Name of the column.
    cells: Its texts; "" is unknown.
    kind: `CLASS`, `NUMBER`, or None to go by the cells.
    fail: Function of a row's number, from 1, and the reason why it cannot be
      used.

  Returns:
    A `Target`.
  """
  is_number = {text: _is_number(text) for text in set(cells) - {""}}
  filled = [text for text in cells if text]
  if kind is None:
    kind = (
      NUMBER
      if 2 * sum(is_number[text] for text in filled) >= len(filled)
      else CLASS
    )
    if kind == CLASS:
      for number, text in enumerate(cells, 1):
        if text and is_number[text]:
          fail(
            number,
            f"{name} is the number {text}, but text in most rows; correct it,"
            f" or pass --target={name}:class",
          )
      filled = [text for text in filled if not is_number[text]]
  if kind == NUMBER:
    for number, text in enumerate(cells, 1):
      if text and not is_number[text]:
        fail(
          number,
          f"{name} is {text!r}, expected a number; correct it, or pass"
          f" --target={name}:class",
        )
    return Target(name, NUMBER)
  counts = collections.Counter(filled)
  for number, text in enumerate(cells, 1):
    if counts[text] == 1:
      fail(
        number,
        f"the only one of {name} {text!r}; correct the spelling, or add more",
      )
  return Target(
    name, CLASS, tuple(sorted((c for c in counts if counts[c] > 1), key=_order))
  )


def _is_number(text):
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def _order(text):
  """Codes go by value, and before names."""
  return (0, float(text), text) if _is_number(text) else (1, 0.0, text)
