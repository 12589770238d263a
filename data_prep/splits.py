"""Splits by place: which split a patch belongs to, from its bounds alone.

The Earth is cut into blocks of latitude and longitude, and a hash assigns each
block to a split. A patch belongs to its centre's block. Patches of different
splits must not overlap, so patches near a block's edge are left out:

- a held-out patch (validation, test) lies wholly inside its block shrunk by
  `inset_deg` on each side;
- every patch stays `buffer_deg - inset_deg` away from the blocks of a split
  that outranks its own: test before validation before train.

So two patches of different splits are at least `buffer_deg` apart. The rule
depends only on the patch's bounds: all workers agree, and all dates of one
place fall into one split.
"""

import dataclasses
import hashlib

import numpy as np

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
# A patch that belongs to no split.
DROPPED = -1

# Degrees, 0.1 mm: rounding must not move a patch over an edge it touches.
_TOLERANCE = 1e-9


def stable_uniform(*key):
  """Hashes a key of integers and strings to a float in [0, 1).

  The same on any machine and in any version.
  """
  text = "/".join(map(str, key)).encode()
  digest = hashlib.blake2b(text, digest_size=8).digest()
  # 53 bits: a float of all 64 could round up to 1.
  return (int.from_bytes(digest, "big") >> 11) / 2**53


@dataclasses.dataclass(frozen=True)
class SplitRule:
  """How places are split.

  Attributes:
    block_deg: Side of a block in degrees; divides 180.
    buffer_deg: Smallest distance between patches of different splits, in
      degrees of latitude and of longitude.
    inset_deg: How far held-out patches keep inside their block.
    validation: Fraction of the blocks held out for validation.
    test: Fraction of the blocks held out for test.
    seed: Seed of the hash.
  """

  block_deg: float
  buffer_deg: float
  inset_deg: float
  validation: float = 0.1
  test: float = 0.1
  seed: int = 0

  def __post_init__(self):
    rows = 180 / self.block_deg if self.block_deg > 0 else 0
    if round(rows) < 1 or abs(rows - round(rows)) > 1e-6:
      raise ValueError(f"block_deg must divide 180, got {self.block_deg}")
    if not 0 <= self.inset_deg <= self.buffer_deg:
      raise ValueError(
        f"inset_deg must lie in [0, buffer_deg = {self.buffer_deg}], "
        f"got {self.inset_deg}"
      )
    if min(self.validation, self.test) < 0 or self.validation + self.test > 1:
      raise ValueError(
        "validation, test and their sum must lie in [0, 1], "
        f"got {self.validation} and {self.test}"
      )

  @property
  def num_rows(self):
    """Rows of blocks from pole to pole."""
    return round(180 / self.block_deg)

  def block_of(self, lat_deg, lon_deg):
    """Rows from the north and columns from 180 W of the blocks of places.

    Columns wrap at 180 degrees. The blocks that meet at a pole are one block,
    of column 0: neighbours there face each other across the pole.
    """
    rows = np.floor((90 - np.asarray(lat_deg)) / self.block_deg).astype(int)
    cols = np.floor((np.asarray(lon_deg) + 180) / self.block_deg).astype(int)
    return self._wrap(rows, cols)

  def block_split(self, rows, cols):
    """Splits of blocks, indices into `SPLITS`, int8."""
    num_cols = 2 * self.num_rows
    blocks, inverse = np.unique(
      np.asarray(rows) * num_cols + cols, return_inverse=True
    )
    draws = [
      stable_uniform(self.seed, *divmod(block, num_cols))
      for block in blocks.tolist()
    ]
    held_out = np.array([self.test, self.test + self.validation])
    splits = np.array([TEST, VALIDATION, TRAIN], np.int8)[
      np.searchsorted(held_out, draws, side="right")
    ]
    return splits[inverse]

  def assign(self, south, west, north, east):
    """Splits of patches, indices into `SPLITS` or `DROPPED`, int8, shape `[n]`.

    Args:
      south: Latitudes of the patches' lower edges in degrees, shape `[n]`.
      west: Longitudes of the left edges, shape `[n]`.
      north: Latitudes of the upper edges, shape `[n]`.
      east: Longitudes of the right edges, > west (so possibly > 180), `[n]`.
    """
    south, west, north, east = map(np.asarray, (south, west, north, east))
    rows, cols = self.block_of((south + north) / 2, (west + east) / 2)
    own = self.block_split(rows, cols)
    inside = self._covers(rows, cols, self.inset_deg, south, west, north, east)
    rank = self._highest_rank_near(
      self.buffer_deg - self.inset_deg, south, west, north, east
    )
    keep = (rank <= own) & (inside | (own == TRAIN))
    return np.where(keep, own, np.int8(DROPPED))

  def _wrap(self, rows, cols):
    rows = np.clip(rows, 0, self.num_rows - 1)
    at_pole = (rows == 0) | (rows == self.num_rows - 1)
    return rows, np.where(at_pole, 0, cols % (2 * self.num_rows))

  def _covers(self, rows, cols, inset_deg, south, west, north, east):
    """Whether each block, shrunk by the inset, covers its patch."""
    inset_deg = inset_deg - _TOLERANCE
    upper = 90 - rows * self.block_deg
    # A pole is not an edge: the same block continues beyond it.
    first, last = rows == 0, rows == self.num_rows - 1
    covers = (first | (north <= upper - inset_deg)) & (
      last | (south >= upper - self.block_deg + inset_deg)
    )
    left = (west + 180 - cols * self.block_deg + 180) % 360 - 180
    right = left + (east - west)
    return covers & (
      first
      | last
      | ((left >= inset_deg) & (right <= self.block_deg - inset_deg))
    )

  def _highest_rank_near(self, margin_deg, south, west, north, east):
    """Highest-ranking split of the blocks within a margin of each patch."""
    margin_deg = margin_deg - _TOLERANCE
    top = np.floor((90 - north - margin_deg) / self.block_deg).astype(int)
    bottom = np.floor((90 - south + margin_deg) / self.block_deg).astype(int)
    left = np.floor((west - margin_deg + 180) / self.block_deg).astype(int)
    right = np.floor((east + margin_deg + 180) / self.block_deg).astype(int)
    rank = np.full(south.shape, TRAIN, np.int8)
    for i in range(np.max(bottom - top, initial=0) + 1):
      for j in range(np.max(right - left, initial=0) + 1):
        rows = np.minimum(top + i, bottom)
        cols = np.minimum(left + j, right)
        rank = np.maximum(rank, self.block_split(*self._wrap(rows, cols)))
    return rank
