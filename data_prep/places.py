"""Places: which patches of a tile become records, and their climate.

Depends only on location, so it is computed once for all dates of a place.
"""

import collections
import dataclasses
import functools

import numpy as np

from data_prep import climate_maps, labels, splits
from geojax import climate

# Why patches are left out, in the order of the rules.
REASONS = SPLIT, THIN, SEA = "near another split", "thinned out", "mostly sea"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchRule:
  """Which patches of a tile become records.

  Attributes:
    size: Rows and columns of a patch.
    stride: Pixels from one patch to the next.
    split: Which places go to which split.
    train_kept: Fraction of the train places to keep. A small stride gives many
      places that are nearly alike; thinning keeps some at all offsets.
    max_sea: Places with at most this fraction of sea are all kept.
    sea_kept: Fraction of the places with more sea to keep.
    seed: Seed of the random choices.
  """

  size: int
  stride: int
  split: splits.SplitRule
  train_kept: float = 1.0
  max_sea: float = 1.0
  sea_kept: float = 1.0
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Places:
  """The patches of a tile that become records, on any date.

  Attributes:
    rows: First rows, shape `[n]`.
    cols: First columns, shape `[n]`.
    split: Indices into `splits.SPLITS`, shape `[n]`.
    climate: Fraction in each climate zone, shape `[n, 31]`.
    lat_deg: Latitudes of the centres, shape `[n]`.
    lon_deg: Longitudes of the centres, shape `[n]`.
    sides_deg: Degrees of latitude and of longitude that each spans, `[n, 2]`;
      NaN if that is unknown.
    left_out: How many patches were left out, by reason.
  """

  rows: np.ndarray
  cols: np.ndarray
  split: np.ndarray
  climate: np.ndarray
  lat_deg: np.ndarray
  lon_deg: np.ndarray
  sides_deg: np.ndarray
  left_out: dict[str, int]


# The dates of one place follow one another.
@functools.lru_cache(maxsize=8)
def select_places(grid, rule, climate_files=("", "", ""), *, split=None):
  """Chooses the patches of a tile and looks up their climate: `Places`.

  Args:
    grid: A `grids.Grid`.
    rule: A `PatchRule`.
    climate_files: Arguments of `climate_maps.load`.
    split: Index into `splits.SPLITS` that all patches belong to, whatever the
      rule says, or None.

  Raises:
    ValueError: The projection of the grid is unknown.
    rasters.RasterError: The climate map cannot be read.
  """
  rows, cols = patch_corners(grid, rule)
  left_out = {}

  def keep_where(keep, reason, *arrays):
    left_out[reason] = int(np.count_nonzero(~keep))
    return [array[keep] for array in arrays]

  if split is None:
    split = rule.split.assign(*grid.patch_bounds(rows, cols, rule.size))
  else:
    split = np.full(len(rows), split, np.int8)
  rows, cols, split = keep_where(
    split != splits.DROPPED, SPLIT, rows, cols, split
  )

  # One draw per place: the same in all tiles that show it.
  middle = (rule.size - 1) / 2
  lat_deg, lon_deg = grid.pixel_to_latlon(rows + middle, cols + middle)
  names = [f"{a:.4f}/{o:.4f}" for a, o in zip(lat_deg, lon_deg, strict=True)]
  keep = split != splits.TRAIN
  keep |= _draws("train", rule.seed, names) < rule.train_kept
  rows, cols, split, lat_deg, lon_deg = keep_where(
    keep, THIN, rows, cols, split, lat_deg, lon_deg
  )
  names = [name for name, kept in zip(names, keep, strict=True) if kept]

  fractions = labels.climate_fractions(
    grid, climate_maps.load(*climate_files), rows, cols, rule.size
  )
  keep = fractions[:, 0] <= rule.max_sea
  keep |= _draws("sea", rule.seed, names) < rule.sea_kept
  *kept, lat_deg, lon_deg = keep_where(
    keep, SEA, rows, cols, split, fractions, lat_deg, lon_deg
  )
  sides = grid.patch_sides(lat_deg, rule.size)
  return Places(*kept, lat_deg, lon_deg, sides, left_out)


def patch_corners(grid, rule):
  """First rows and columns of all patches of a grid, each `[n]`."""
  rows, cols = np.meshgrid(
    np.arange(0, grid.height - rule.size + 1, rule.stride),
    np.arange(0, grid.width - rule.size + 1, rule.stride),
    indexing="ij",
  )
  return rows.ravel(), cols.ravel()


def has_edges(grid, size, stride):
  """Whether pixels at the lower or right edge are in no patch."""
  return any((side - size) % stride for side in (grid.height, grid.width))


def join(parts):
  """Joins the `Places` of several tiles."""
  left_out = collections.Counter(dict.fromkeys(REASONS, 0))
  for part in parts:
    left_out.update(part.left_out)
  arrays = (
    np.concatenate([getattr(part, field.name) for part in (_NONE, *parts)])
    for field in dataclasses.fields(Places)
    if field.name != "left_out"
  )
  return Places(*arrays, dict(left_out))


_NONE = Places(
  rows=np.zeros(0, int),
  cols=np.zeros(0, int),
  split=np.zeros(0, np.int8),
  climate=np.zeros((0, len(climate.ZONES)), np.float32),
  lat_deg=np.zeros(0),
  lon_deg=np.zeros(0),
  sides_deg=np.zeros((0, 2)),
  left_out={},
)


def _draws(purpose, seed, places):
  return np.array([splits.stable_uniform(purpose, seed, p) for p in places])
