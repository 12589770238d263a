"""Records to batches: shuffled globally from a seed, read by grain's threads.

A batch is a dict of NumPy arrays with a leading axis of records: `image`, raw,
`[batch, patch, patch, bands]`, and the labels of `dataset.Dataset.source`, by
default `climate` `[batch, 31]`, `coords` `[batch, 3]` and `date` `[batch, 2]`,
float32. Evaluation batches carry `mask`, bool, `[batch]`, False in rows that
fill up the last batch.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterator

import grain
import jax
import numpy as np
from grain.experimental import index_shuffle

from geojax.training.errors import DatasetError

# Batches that fit into so many bytes are read together: each shard is then
# asked for some records at once, which takes a third less time a record. All
# threads read at most so many batches ahead, which the first one may wait for.
_READ_BYTES = 32 << 20
_MAX_BATCHES_AHEAD = 32


def train_batches(
  source,
  *,
  batch_size: int,
  seed: int,
  first: int = 0,
  rows: slice | None = None,
  threads: int = 2,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches: each epoch a new global shuffle, no record left out.

  Which records a batch holds depends on its number and the seed alone, so that
  a run goes on exactly from any batch, with any number of processes.

  Args:
    source: `dataset.Records` of the train split.
    batch_size: Records a batch. Where it does not divide the source, a batch
      runs over from one epoch into the next.
    seed: Seed of the shuffles.
    first: Number of the first batch, from 0.
    rows: The rows of each batch to read, those of this process; None for all.
    threads: How many threads read, each some batches ahead.

  Returns:
    An iterator.

  Raises:
    DatasetError: There are fewer records than one batch holds.
  """
  if len(source) < batch_size:
    raise DatasetError(
      f"the train split has {len(source)} records, fewer than one batch of"
      f" {batch_size}; lower config.data.batch_size"
    )
  rows = rows or slice(0, batch_size)
  num_rows = rows.stop - rows.start
  record_bytes = sum(value.nbytes for value in source.read([0]).values())
  together = _READ_BYTES // (num_rows * record_bytes)
  together = max(min(together, _MAX_BATCHES_AHEAD // threads), 1)

  def read(number):
    """Returns the batch of this number and those that follow it."""
    indices = [
      batch_records(
        len(source), batch_size=batch_size, seed=seed, number=n, rows=rows
      )
      for n in range(number, number + together)
    ]
    records = source.read(np.concatenate(indices))
    return [
      {name: value[start : start + num_rows] for name, value in records.items()}
      for start in range(0, together * num_rows, num_rows)
    ]

  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  numbers = grain.MapDataset.range(first, 2**40, together)
  return itertools.chain.from_iterable(
    numbers.map(lambda number: read(int(number))).to_iter_dataset(options)
  )


def default_threads() -> int:
  """Returns how many threads read batches: few where cores also train."""
  return 2 if jax.default_backend() == "cpu" else 16


def batch_records(
  count: int,
  *,
  batch_size: int,
  seed: int,
  number: int,
  rows: slice | None = None,
) -> list[int]:
  """Returns which records a batch of `train_batches` holds.

  Args:
    count: Number of records.
    batch_size: See `train_batches`.
    seed: See `train_batches`.
    number: Number of the batch, from 0.
    rows: The rows of the batch to return; None for all.

  Returns:
    Their positions in the split.
  """
  records = []
  for position in _positions(number, batch_size, rows):
    epoch, index = divmod(position, count)
    # One at a time out of a permutation of which nothing is ever kept: that of
    # `grain.MapDataset.shuffle`, in half of its time.
    records.append(
      index_shuffle(
        index, max_index=count - 1, seed=_epoch_seed(seed, epoch), rounds=4
      )
    )
  return records


@functools.lru_cache(maxsize=64)
def _epoch_seed(seed, epoch):
  """A seed of 32 bits; a sum would give two runs some of their epochs alike."""
  digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=4).digest()
  return int.from_bytes(digest, "little")


def eval_batches(
  source, *, batch_size: int, rows: slice | None = None, records=None
):
  """Every record once, in order; the last batch is filled up.

  Read when asked for, and by no thread of its own: threads made anew for each
  evaluation of a run would each leave memory behind.

  Args:
    source: `dataset.Records` of a split.
    batch_size: Rows a batch, the last one too.
    rows: The rows of each batch to read, those of this process; None for all.
    records: Positions in the split to read, in this order; None reads all.

  Yields:
    Batches with `mask`, False in rows that repeat the first record to fill up.
  """
  records = range(len(source)) if records is None else records
  for number in range(-(-len(records) // batch_size)):
    rows_read = np.asarray(_positions(number, batch_size, rows))
    mask = rows_read < len(records)
    wanted = [records[row] for row in np.where(mask, rows_read, 0).tolist()]
    yield {**source.read(wanted), "mask": mask}


def _positions(number, batch_size, rows):
  """Where the rows of a batch lie in all batches' rows."""
  rows = rows or slice(0, batch_size)
  start = number * batch_size
  return range(start + rows.start, start + rows.stop)
