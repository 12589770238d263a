"""Encoded records of a split, read at random from ArrayRecord shards."""

import functools
import os
import pathlib

import numpy as np
from array_record.python import array_record_module

from geojax.training.errors import DatasetError


class Shards:
  """The encoded records of a split, numbered through all of its files."""

  def __init__(self, files):
    """Args: files: The split's `file_instructions`, as TFDS returns them."""
    self._ends = np.cumsum([file.take for file in files])
    self._firsts = self._ends - [file.take for file in files]
    self._files = files
    self._reader = functools.cache(self._open)

  def _open(self, shard):
    return array_record_module.ArrayRecordReader(
      os.fspath(self._files[shard].filename),
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
      DatasetError: A shard is missing or damaged; names it.
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
        path = pathlib.Path(self._files[shard].filename)
        raise DatasetError(
          f"{path} is missing or damaged: {error}. Remove {path.parent} and"
          " build the data set again with python -m data_prep.build"
        ) from error
      for row, record in zip(rows, found, strict=True):
        encoded[row] = record
    return encoded
