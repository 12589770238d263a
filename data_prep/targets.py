"""Targets: labels of a data set's own, such as a class or a yield.

A target is described in the data set's metadata, so that whoever trains on it
knows its classes or its kind without the table it came from.
"""

import collections
import dataclasses
import math

import numpy as np

CLASS, NUMBER, CLASSES = KINDS = "class", "number", "classes"

# How an unknown class is stored; an unknown number is NaN.
UNKNOWN_CLASS = -1
# How it is stored for each class whether it is there, if that is unknown.
UNKNOWN_CLASSES = 255

# In a cell of `CLASSES`: what stands between two of them, and for none.
_BETWEEN, _NONE = "|", "-"


@dataclasses.dataclass(frozen=True)
class Target:
  """A label of each patch.

  Attributes:
    name: Name of the column, and of the feature of a record.
    kind: `CLASS`, `NUMBER`, or `CLASSES` for any number of classes at once.
    classes: Names of the classes. A record holds an index, -1 if it is unknown;
      or, for `CLASSES`, a 1 for each class that is there and a 0 for each other
      one, all of them 255 if they are unknown.
  """

  name: str
  kind: str
  classes: tuple[str, ...] = ()

  @property
  def dtype(self):
    """Type of the feature."""
    return {CLASS: np.int32, NUMBER: np.float32, CLASSES: np.uint8}[self.kind]

  @property
  def shape(self):
    """Shape of the feature."""
    return (len(self.classes),) if self.kind == CLASSES else ()

  @property
  def unknown(self):
    """Value of a record whose target is unknown."""
    if self.kind == CLASSES:
      return (UNKNOWN_CLASSES,) * len(self.classes)
    return UNKNOWN_CLASS if self.kind == CLASS else math.nan

  def parse(self, text):
    """Value of a record, from a cell of the table; see `find`."""
    if not text:
      return self.unknown
    if self.kind == CLASSES:
      there = _split_classes(text)
      return tuple(int(name in there) for name in self.classes)
    return self.classes.index(text) if self.kind == CLASS else float(text)

  def is_unknown(self, values):
    """Which values of records, `[n, ...]`, are unknown, bool `[n]`."""
    if self.kind == NUMBER:
      return np.isnan(values)
    if self.kind == CLASSES:
      return (values == UNKNOWN_CLASSES).any(axis=1)
    return values == UNKNOWN_CLASS

  def _count(self, values):
    """Number of records of each class, of known values."""
    if self.kind == CLASSES:
      return values.sum(axis=0, dtype=np.int64)
    return np.bincount(values, minlength=len(self.classes))

  def describe(self, values):
    """Describes the target of some records by split, in JSON's types.

    Args:
      values: Values of the records by split, each `[n, ...]`.
    """
    unknown = {split: self.is_unknown(x) for split, x in values.items()}
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
    if self.kind == CLASSES:
      # What the counts, which add up to any number, are shares of.
      described["known"] = {
        split: int(np.count_nonzero(~x)) for split, x in unknown.items()
      }
    return described | {
      "classes": list(self.classes),
      "counts": {
        split: {
          name: int(n)
          for name, n in zip(
            self.classes, self._count(x[~unknown[split]]), strict=True
          )
        }
        for split, x in values.items()
      },
    }


def one_line(described):
  """One line about a target, of the result of `Target.describe`."""
  if "classes" in described:
    what = f"{len(described['classes'])} classes"
    if described["kind"] == CLASSES:
      what += ", any number at once"
  else:
    what = "numbers"
  return (
    f"target {described['name']}: {what}, {described['unknown']:.1%} unknown"
  )


def warn(described, has_rule=True):
  """Yields a sentence for each split that lacks classes of a target.

  Of a map, whose rare classes many splits lack, only the train split counts.
  Regions without a target have a sentence, too.

  Args:
    described: Result of `Target.describe` or `PixelTarget.describe`.
    has_rule: Whether the splits follow a rule of blocks, which may be changed.
  """
  if "without" in described:
    yield (
      f"target {described['name']}: unknown in"
      f" {', '.join(described['without'])}, which have no such label"
    )
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
    if missing and (split == "train" or described["kind"] in KINDS):
      yield (
        f"target {described['name']}: split {split} has no"
        f" {', '.join(missing)}"
        + (
          "; with smaller blocks (--block_deg) or other splits it may"
          if has_rule
          else ""
        )
      )


def split_kind(column):
  """Splits `NAME:KIND`, of `KINDS`; the kind is None without a suffix."""
  name, _, kind = column.rpartition(":")
  return (name, kind) if name and kind in KINDS else (column, None)


def find(name, cells, kind, fail):
  """Finds out what a column of a table holds.

  Cells that are all numbers are numbers, unless a kind is asked for, and texts
  are classes. Where both occur, the rarer ones are errors.

  Args:
    name: Name of the column.
    cells: Its texts; "" is unknown. Those of `CLASSES` are names separated by
      "|", or "-" if it is known that there is none.
    kind: One of `KINDS`, or None to go by the cells, which are then not
      `CLASSES`.
    fail: Function of a row's number, from 1, and the reason why it cannot be
      used.

  Returns:
    A `Target`.
  """
  if kind == CLASSES:
    return _find_classes(name, cells, fail)
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
      fail(number, _the_only_one(name, text))
  return Target(
    name, CLASS, tuple(sorted((c for c in counts if counts[c] > 1), key=_order))
  )


def _find_classes(name, cells, fail):
  """The target of a column whose cells list several classes; see `find`."""
  listed = {}
  for number, text in enumerate(cells, 1):
    if not text:
      continue
    parts = _split_classes(text)
    if not all(parts) or len(set(parts)) < len(parts) or _NONE in parts:
      fail(
        number,
        f"{name} is {text!r}, expected names separated by {_BETWEEN!r}, each"
        f" once, or {_NONE!r} for none",
      )
    else:
      listed[number] = parts
  # A row that is left out may leave others alone with their class.
  while True:
    counts = collections.Counter(c for parts in listed.values() for c in parts)
    alone = {
      number: rare
      for number, parts in listed.items()
      if (rare := [c for c in parts if counts[c] == 1])
    }
    if not alone:
      break
    for number, rare in alone.items():
      fail(number, _the_only_one(name, rare[0]))
      del listed[number]
  if not counts:
    for number in range(1, len(cells) + 1):
      fail(number, f"no row has a class of {name} that another has too")
  return Target(name, CLASSES, tuple(sorted(counts, key=_order)))


def _split_classes(text):
  """Names of the classes in a cell."""
  if text == _NONE:
    return []
  return [part.strip() for part in text.split(_BETWEEN)]


def _the_only_one(name, text):
  return f"the only one of {name} {text!r}; correct the spelling, or add more"


def _is_number(text):
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def _order(text):
  """Codes go by value, and before names."""
  return (0, float(text), text) if _is_number(text) else (1, 0.0, text)
