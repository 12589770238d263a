"""Targets that have a class or a value at each pixel of a patch.

`map_targets` samples them from maps; `array_targets` reads them from arrays
that come with the images.
"""

import dataclasses

import numpy as np

from data_prep import maps

CLASS_MAP, VALUE_MAP = "class_map", "value_map"


@dataclasses.dataclass(frozen=True)
class PixelTarget:
  """A target of each pixel; its origin extends it.

  Attributes:
    name: Name of the feature of a record.
    kind: `CLASS_MAP` (uint8, 255 is unknown) or `VALUE_MAP` (float16, NaN is).
  """

  name: str
  kind: str

  @property
  def dtype(self):
    """Type of the feature."""
    return np.uint8 if self.kind == CLASS_MAP else np.float16

  @property
  def unknown(self):
    """Value of a pixel that is unknown."""
    return maps.UNKNOWN if self.kind == CLASS_MAP else np.nan

  @property
  def files(self):
    """The user's files that all patches are made from."""
    return []

  @property
  def about(self):
    """What the description of the target has of its origin, by name."""
    return {}

  def classes(self):
    """Names of the classes, and their colours as "#rrggbb", or ()."""
    raise NotImplementedError

  def classes_of(self, total):
    """`classes` of pixels with a sum of `count`."""
    del total
    return self.classes()

  def count(self, pixels):
    """Numbers to be added up over records, for `describe`.

    Pixels of each class and, last, of unknown ones; or the number, sum and
    number of unknown pixels of values.
    """
    if self.kind == CLASS_MAP:
      return np.bincount(pixels.ravel(), minlength=256)
    known = ~np.isnan(pixels)
    total = pixels[known].sum(dtype=np.float64)
    return np.array([known.sum(), total, known.size - known.sum()])

  def describe(self, counts):
    """Describes the target of some records by split, in JSON's types.

    Args:
      counts: Sums of `count` by split.
    """
    total = sum(counts.values())
    number = total.sum() if self.kind == CLASS_MAP else total[0] + total[-1]
    described = {
      "name": self.name,
      "kind": self.kind,
      **self.about,
      "unknown": float(total[-1] / max(number, 1)),
    }
    if self.kind == VALUE_MAP:
      return described | {
        "counts": {split: int(x[0]) for split, x in counts.items()},
        "mean": {split: x[1] / x[0] for split, x in counts.items() if x[0]},
      }
    names, colors = self.classes_of(total)
    return described | {
      "classes": list(names),
      "colors": list(colors),
      "counts": {
        split: dict(zip(names, x.tolist(), strict=False))
        for split, x in counts.items()
      },
    }
