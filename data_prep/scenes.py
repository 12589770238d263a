"""Scenes: one look at a tile's place, and what a source makes of its pixels."""

import collections
import dataclasses
import datetime

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """When a tile was seen, and how its pixels become a record's image.

  This one takes them as they are; sources with clouds, scales or products of
  their own have their own kind.

  Attributes:
    date: When the tile was seen.
    bands: Names of the bands to read, in order.
    about: Features that all patches of the tile share, by name.
    order: Names of the tile's bands, where its file names none.
  """

  date: datetime.datetime
  bands: tuple[str, ...]
  about: dict[str, str | int] = dataclasses.field(default_factory=dict)
  order: tuple[str, ...] = ()

  def prepare(self, patches):
    """Makes images of patches, and tells which are of no use.

    Args:
      patches: Pixels of `bands`, shape `[n, size, size, bands]`.

    Returns:
      A dict of features, each with a leading axis of patches, `image` among
      them; which patches to keep, bool `[n]`; and a Counter of those left out,
      by reason.
    """
    keep = np.ones(len(patches), bool)
    return {"image": patches}, keep, collections.Counter()
