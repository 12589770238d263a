"""Encoded records of a split, read at random from ArrayRecord shards."""

import functools
import os
import resource

import numpy as np
from array_record.python import array_record_module

from geojax import files
from geojax.training import shard_copies
from geojax.training.errors import DatasetError

# Of the files that a process may have open, the shards of a split take one in
# so many: a run reads several splits.
_SHARE_OF_FILES = 8


class Shards:
  """The encoded records of a split, numbered through all of its files.

  Holds a file open for each shard, so that a record at random costs no more
  than its read. Of more shards than a process may open files, those last read
  are held.
  """

  def __init__(self, instructions, cache_dir: str = ""):
    """Opens a split.

    Args:
      instructions: The split's `file_instructions`, as TFDS returns them.
      cache_dir: A folder of this machine that the shards are copied to before
        the first read, see `shard_copies`; "" reads them where they are.
    """
    self._ends = np.cumsum([file.take for file in instructions])
    self._firsts = self._ends - [file.take for file in instructions]
    self._names = [os.fspath(file.filename) for file in instructions]
    self._cache_dir = cache_dir
    self._reader = functools.lru_cache(_most_open_files())(self._open)

  @functools.cached_property
  def _read_from(self):
    """Where each shard is read: the copies, if there are."""
    if not self._cache_dir:
      return self._names
    paths = [files.path(name) for name in self._names]
    return shard_copies.make(paths, files.path(self._cache_dir))

  def _open(self, shard):
    return array_record_module.ArrayRecordReader(
      os.fspath(self._read_from[shard]),
      # For records at random: nothing is read ahead.
      options="readahead_buffer_size:0",
      file_reader_buffer_size=32768,
    )

  def __len__(self):
    return int(self._ends[-1])

  def read(self, indices):
    """Returns the bytes of records, in the order of `indices`.

    Raises:
      IndexError: An index is not a position in the split.
      DatasetError: A shard is missing or damaged, or there is no space for
        copies; names it.
    """
    indices = np.asarray(indices)
    if np.any((indices < 0) | (indices >= len(self))):
      raise IndexError(f"records must lie in [0, {len(self)}), got {indices}")
    shards = np.searchsorted(self._ends, indices, side="right")
    positions = indices - self._firsts[shards]
    encoded = [b""] * len(indices)
    for shard in np.unique(shards):
      (rows,) = np.nonzero(shards == shard)
      try:
        found = self._reader(int(shard)).read(positions[rows].tolist())
        # What is cut off of a small file reads as nothing.
        if not all(found):
          raise RuntimeError("a record is empty")
      except RuntimeError as error:
        path = files.path(self._read_from[shard])
        again = (
          "give the same command again, which copies it anew"
          if self._cache_dir
          else "build the data set again with python -m data_prep.build"
        )
        raise DatasetError(
          f"{path} is missing or damaged: {error}. Remove {path.parent} and"
          f" {again}"
        ) from error
      for row, record in zip(rows, found, strict=True):
        encoded[row] = record
    return encoded


def _most_open_files():
  """How many shards may be open; raises the soft limit of open files."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft != hard:
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
  if hard == resource.RLIM_INFINITY:
    return None
  return max(hard // _SHARE_OF_FILES, 1)
