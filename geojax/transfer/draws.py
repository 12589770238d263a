"""Few-shot draws: some labelled examples of each class or region."""

import hashlib
import json
import operator

import numpy as np


def draw(groups, shots, *, seed) -> dict[int, np.ndarray]:
  """Draws some examples of each group, without replacement.

  The draws are nested: those of 5 shots contain those of 1. Those of a group
  depend on the seed, the group and its size; not on other groups, nor on the
  other shots.

  Args:
    groups: Group of each example, such as its class or region, integers, shape
      `[n]`. Examples of a negative group are never drawn.
    shots: Numbers of examples of each group; 0 means all of them.
    seed: Seed of the draws, a non-negative integer.

  Returns:
    For each number of shots, the sorted positions of the examples drawn, in
    [0, n): all examples of a group that has fewer.

  Raises:
    ValueError: Groups that are not integers in one dimension, or negative
      shots.
  """
  groups = np.asarray(groups)
  if groups.ndim != 1 or groups.dtype.kind not in "iu":
    raise ValueError(
      "groups must be integers of shape [n], found"
      f" {groups.dtype} of shape {list(groups.shape)}"
    )
  shots = [operator.index(number) for number in shots]
  if any(number < 0 for number in shots):
    raise ValueError(f"shots must not be negative, found {shots}")
  eligible = np.flatnonzero(groups >= 0)
  by_group = eligible[np.argsort(groups[eligible], kind="stable")]
  present, counts = np.unique(groups[eligible], return_counts=True)
  # An example is drawn where its rank in its shuffled group is below the
  # number of shots: this nests the draws.
  rank = np.zeros(len(groups), np.int64)
  for group, count, stop in zip(
    present.tolist(), counts, np.cumsum(counts), strict=True
  ):
    rng = np.random.default_rng((seed, group))
    rank[rng.permutation(by_group[stop - count : stop])] = np.arange(count)
  return {
    number: eligible[rank[eligible] < number] if number else eligible.copy()
    for number in shots
  }


def regions(lat_deg, lon_deg, *, size_deg) -> np.ndarray:
  """Longitude-latitude buckets of places, as groups to draw from.

  Buckets are counted from 90S 180W eastwards, row by row. Where their size does
  not divide 180 or 360, the last row or column is narrower.

  Args:
    lat_deg: Latitudes in degrees north, in [-90, 90], shape `[n]`.
    lon_deg: Longitudes in degrees east, of any range, shape `[n]`.
    size_deg: Height and width of a bucket in degrees, > 0.

  Returns:
    Index of each place's bucket, -1 of an unknown place (NaN), int64, `[n]`.

  Raises:
    ValueError: A size that is not positive.
  """
  if not size_deg > 0:
    raise ValueError(f"size_deg must be positive, found {size_deg}")
  lat_deg, lon_deg = np.asarray(lat_deg, float), np.asarray(lon_deg, float)
  known = np.isfinite(lat_deg) & np.isfinite(lon_deg)
  south, west = np.where(known, (lat_deg + 90, (lon_deg + 180) % 360), 0.0)
  num_rows, num_cols = np.ceil(np.divide((180, 360), size_deg)).astype(int)
  # The North Pole belongs to the last row.
  row = np.clip(south // size_deg, 0, num_rows - 1).astype(np.int64)
  col = np.clip(west // size_deg, 0, num_cols - 1).astype(np.int64)
  return np.where(known, row * num_cols + col, -1)


def ids_hash(ids) -> str:
  """Short digest of a collection of record ids, in whatever order.

  Equal for the same ids, each as often, as text or as bytes (UTF-8).

  Args:
    ids: Record ids.

  Returns:
    The first 16 hexadecimal digits of the SHA-256 of the sorted ids as JSON.
  """
  texts = sorted(i.decode() if isinstance(i, bytes) else str(i) for i in ids)
  return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
