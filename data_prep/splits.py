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

import csv
import dataclasses
import functools
import hashlib

import numpy as np

from geojax import blocks

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
    """Rows and columns of the blocks of places, see `blocks.of_places`."""
    return blocks.of_places(lat_deg, lon_deg, self.block_deg)

  def block_names(self, lat_deg, lon_deg):
    """Names of the blocks of places, `<row>_<column>`; "" if it is unknown."""
    lat_deg, lon_deg = np.asarray(lat_deg), np.asarray(lon_deg)
    is_known = ~np.isnan(lat_deg)
    rows, cols = self.block_of(
      np.where(is_known, lat_deg, 0), np.where(is_known, lon_deg, 0)
    )
    return [
      f"{row}_{col}" if known else ""
      for row, col, known in zip(
        rows.tolist(), cols.tolist(), is_known.tolist(), strict=True
      )
    ]

  def block_split(self, rows, cols):
    """Splits of blocks, indices into `SPLITS`, int8."""
    num_cols = 2 * self.num_rows
    numbers, inverse = np.unique(
      np.asarray(rows) * num_cols + cols, return_inverse=True
    )
    keys = [divmod(block, num_cols) for block in numbers.tolist()]
    return self._by_hash(keys)[inverse]

  def name_split(self, names):
    """Splits of images whose place is unknown, by their names, int8."""
    return self._by_hash([("name", name) for name in names])

  def _by_hash(self, keys):
    draws = [stable_uniform(self.seed, *key) for key in keys]
    held_out = np.array([self.test, self.test + self.validation])
    return np.array([TEST, VALIDATION, TRAIN], np.int8)[
      np.searchsorted(held_out, draws, side="right")
    ]

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
        rank = np.maximum(
          rank, self.block_split(*blocks.wrap(rows, cols, self.num_rows))
        )
    return rank


@dataclasses.dataclass(frozen=True)
class LongitudeRule(SplitRule):
  """Splits by longitude: train in the west, then validation, test in the east.

  Patches next to a boundary may touch. `block_deg` does not matter; patches
  whose place is unknown go by the hash.

  Attributes:
    boundaries: Longitudes where validation and test begin, in degrees.
  """

  boundaries: tuple[float, float] = (180.0, 180.0)

  def assign(self, south, west, north, east):
    """See `SplitRule.assign`; the center of a patch decides."""
    del south, north
    lon = (np.asarray(west) + np.asarray(east)) / 2
    lon = (lon + 180) % 360 - 180
    return np.searchsorted(self.boundaries, lon, side="right").astype(np.int8)


@functools.lru_cache(maxsize=2)
def read_listed(path):
  """Reads the splits of a file such as a build's `splits.csv`.

  Args:
    path: CSV with columns `id` and `split`, and any others.

  Returns:
    Index into `SPLITS` by id.

  Raises:
    ValueError: The file is of another form, or lists a patch twice.
    OSError: It cannot be read.
  """
  listed = {}
  with open(path, newline="", encoding="utf-8-sig") as file:
    rows = csv.DictReader(file)
    missing = {"id", "split"} - set(rows.fieldnames or ())
    if missing:
      raise ValueError(
        f"{path}: no column {', '.join(sorted(missing))}; expected a file such"
        " as a build's splits.csv"
      )
    for number, row in enumerate(rows, 1):
      if row["split"] not in SPLITS:
        raise ValueError(
          f"{path}: row {number}: split {row['split']!r}, expected one of"
          f" {', '.join(SPLITS)}"
        )
      if listed.setdefault(row["id"], SPLITS.index(row["split"])) != (
        SPLITS.index(row["split"])
      ):
        raise ValueError(f"{path}: row {number}: {row['id']} has two splits")
  return listed


def parse_split_by(text):
  """Parses "place" to None, and "longitude:60,20,20" to shares that sum to 1.

  Raises:
    ValueError: The text is neither.
  """
  if text == "place":
    return None
  way, _, numbers = text.partition(":")
  try:
    shares = np.array([float(x) for x in numbers.split(",")])
  except ValueError:
    shares = np.zeros(0)
  if (
    way != "longitude"
    or len(shares) != len(SPLITS)
    or not (shares >= 0).all()
    or not shares.sum() > 0
  ):
    raise ValueError(
      f"split {text!r}, expected place, or longitude:60,20,20 for train,"
      " validation and test"
    )
  return shares / shares.sum()


def longitude_rule(lon_deg, shares, rule):
  """Makes the `LongitudeRule` that gives each split its share of places.

  Args:
    lon_deg: Longitudes of the places in degrees, shape `[n]`, n > 0.
    shares: Result of `parse_split_by`.
    rule: The `SplitRule` whose other fields it takes.
  """
  lon_deg = np.sort(lon_deg)
  ends = np.rint(np.cumsum(shares)[:2] * len(lon_deg)).astype(int)
  # Between two places, so that rounding does not decide.
  beyond = np.concatenate([[-180.0], lon_deg, [180.0]])
  found = [float(beyond[end] + beyond[end + 1]) / 2 for end in ends]
  return LongitudeRule(
    rule.block_deg,
    rule.buffer_deg,
    rule.inset_deg,
    validation=float(shares[VALIDATION]),
    test=float(shares[TEST]),
    seed=rule.seed,
    boundaries=tuple(found),
  )
