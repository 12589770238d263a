"""Records to batches: ArrayRecord read by grain, shuffled globally from a seed.

No TensorFlow. A batch is a dict of NumPy arrays: `image`, raw, shape
`[batch, patch, patch, bands]`, and `label`, float32, shape `[batch, 36]`;
evaluation batches carry `mask`, bool, shape `[batch]`, False where a last
batch was filled up.
"""

import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator

import grain
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from grain.experimental import index_shuffle
from tensorflow_datasets.proto import tf_example_pb2

from geojax.training.errors import DatasetError

SPLITS = ("train", "validation", "test")

# Batches that fit into so many bytes are read together, at most so many: each
# shard is then asked for some records at once, which takes a third less time a
# record.
_READ_BYTES = 32 << 20
_MAX_BATCHES_READ = 16


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A built data set.

  Attributes:
    builder: The TFDS builder, read from disk.
    image_shape: `(patch, patch, bands)`.
    bands: A name for each band.
    offset: Raw value of each band that is scaled to 0, shape `[bands]`.
    divisor: Raw difference of each band that is scaled to 1, shape `[bands]`.
  """

  builder: tfds.core.DatasetBuilder
  image_shape: tuple[int, int, int]
  bands: tuple[str, ...]
  offset: np.ndarray
  divisor: np.ndarray

  def source(self, split: str) -> "Records":
    """Returns the records of a split: images and labels alone.

    Args:
      split: "train", "validation" or "test".

    Returns:
      Its `Records`, of `image` and `label`.

    Raises:
      DatasetError: The data set has no such split, or no record in it.
    """
    if split not in self._filled():
      raise DatasetError(
        f"{self.builder.data_path} has no records in split {split!r}; it has"
        f" {', '.join(self._filled())}"
      )
    return self._open(split, ("image", "label"))

  def check_splits(self) -> None:
    """Checks that every split a run needs holds records.

    Raises:
      DatasetError: One does not; says how to build it.
    """
    missing = [name for name in SPLITS if name not in self._filled()]
    if missing:
      raise DatasetError(
        f"{self.builder.data_path} has no records in {', '.join(missing)}: a"
        " run trains on train, is watched on validation and ends on test. Build"
        " with --validation and --test above 0, and from more tiles or with a"
        " smaller --block_deg where too few places are left for them"
      )

  def labels(self, split: str, at_most: int | None = None) -> np.ndarray:
    """Reads the labels of a split alone.

    Args:
      split: As of `source`.
      at_most: How many to read, evenly out of all; None reads all.

    Returns:
      Labels in the order of the split, float32, shape `[count, 36]`.
    """
    records = self._open(split, ("label",))
    every = 1 if at_most is None else -(-len(records) // at_most)
    wanted = range(0, len(records), every)
    chunks = (wanted[i : i + 1024] for i in range(0, len(wanted), 1024))
    return np.concatenate([records.read(chunk)["label"] for chunk in chunks])

  def _filled(self):
    """Names of the splits that hold records."""
    splits = self.builder.info.splits
    return [name for name in splits if splits[name].num_examples]

  def _open(self, split, names):
    # The data source of TFDS decodes every feature, and starts threads for each
    # batch: it takes about twice as long as to read the shards and to let the
    # wanted features decode their own bytes.
    info = self.builder.info
    features = {name: info.features[name] for name in names}

    def decode(encoded):
      stored = tf_example_pb2.Example.FromString(encoded).features.feature
      return {
        name: feature.decode_example_np(stored[name].bytes_list.value[0])
        for name, feature in features.items()
      }

    return Records(_Shards(info.splits[split].file_instructions), decode)


class _Shards:
  """The encoded records of a split, which lie in many ArrayRecord files."""

  def __init__(self, files):
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
    """Returns the bytes of records, in the order asked for.

    Raises:
      DatasetError: A shard is missing or damaged; says which.
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


class Records:
  """Records at random: one by one, or faster, some together.

  `Dataset.source` makes them.
  """

  def __init__(self, encoded, decode):
    self._encoded, self._decode = encoded, decode

  def __len__(self):
    return len(self._encoded)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return {name: value[0] for name, value in self.read([index]).items()}

  def read(self, indices) -> dict[str, np.ndarray]:
    """Reads records, by ArrayRecord's own threads.

    Args:
      indices: Positions in the split, in any order, any of them repeatedly.

    Returns:
      Arrays by name with a leading axis of records, in the order asked for.
    """
    records = [self._decode(encoded) for encoded in self._encoded.read(indices)]
    return {
      name: np.stack([record[name] for record in records])
      for name in records[0]
    }


def open_dataset(data_dir: str, name: str) -> Dataset:
  """Opens a data set that `python -m data_prep.build` has built.

  Args:
    data_dir: Folder given to the builder as `--output`.
    name: `<builder>/<config>`, such as "geo_tiles/earth".

  Returns:
    The newest built version.

  Raises:
    DatasetError: It is not there, or only half there.
  """
  folder = pathlib.Path(data_dir) / name
  versions = sorted(
    (path for path in folder.glob("*.*.*") if path.name[0].isdigit()),
    key=lambda path: [int(part) for part in path.name.split(".")],
  )
  if not versions:
    built = sorted(
      {
        path.parent.relative_to(data_dir).as_posix()
        for path in pathlib.Path(data_dir).glob("*/*/[0-9]*.*.*")
      }
    )
    raise DatasetError(
      f"config.data.name: {name} is not built in config.data.dir, {data_dir}"
      + (f", but {', '.join(built)} is" if built else "")
      + "; build it with: python -m data_prep.build"
      f" --config={name.split('/')[-1]} --output={data_dir}"
      " (and --source=DIR where the tiles are your own)"
    )
  builder = tfds.builder_from_directory(str(versions[-1]))
  metadata = builder.info.metadata
  scale = np.asarray(metadata["scale"], np.float32)
  return Dataset(
    builder=builder,
    image_shape=tuple(builder.info.features["image"].shape),
    bands=tuple(metadata["bands"]),
    offset=scale[:, 0],
    divisor=scale[:, 1],
  )


def train_batches(
  source,
  *,
  batch_size: int,
  seed: int,
  first: int = 0,
  rows: slice | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches: each epoch a new global shuffle, no record left out.

  Which records a batch holds depends on its number and the seed alone, so that
  a run goes on exactly from any batch, with any number of processes.

  Args:
    source: Records, as of `Dataset.source`, of the train split.
    batch_size: Records a batch. Where it does not divide the source, a batch
      runs over from one epoch into the next.
    seed: Seed of the shuffles.
    first: Number of the first batch, from 0.
    rows: The rows of each batch to read, those of this process; None for all.

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
  together = min(max(together, 1), _MAX_BATCHES_READ)

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

  # Few threads: reading shares its cores with training.
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
  numbers = grain.MapDataset.range(first, 2**40, together)
  return itertools.chain.from_iterable(
    numbers.map(lambda number: read(int(number))).to_iter_dataset(options)
  )


def batch_records(
  count: int,
  *,
  batch_size: int,
  seed: int,
  number: int,
  rows: slice | None = None,
) -> list[int]:
  """Tells which records a batch of `train_batches` holds.

  Args:
    count: Number of records.
    batch_size: As of `train_batches`.
    seed: As of `train_batches`.
    number: Number of the batch, from 0.
    rows: The rows of the batch to tell; None for all.

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


def eval_batches(source, *, batch_size: int, rows: slice | None = None):
  """Every record once, in order; the last batch is filled up.

  Read when asked for, and by no thread of its own: of threads made anew for
  each evaluation of a run, each would leave memory behind.

  Args:
    source: Records, as of `Dataset.source`, of a split.
    batch_size: Rows a batch, the last one too.
    rows: The rows of each batch to read, those of this process; None for all.

  Yields:
    Batches with `mask`, False in rows that repeat the first record to fill up.
  """
  for number in range(-(-len(source) // batch_size)):
    positions = np.asarray(_positions(number, batch_size, rows))
    mask = positions < len(source)
    yield {**source.read(np.where(mask, positions, 0).tolist()), "mask": mask}


def _positions(number, batch_size, rows):
  """Where the rows of a batch lie in all batches' rows."""
  rows = rows or slice(0, batch_size)
  start = number * batch_size
  return range(start + rows.start, start + rows.stop)
