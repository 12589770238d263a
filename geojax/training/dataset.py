"""Built data sets: their splits, labels and records, read without TensorFlow.

`Dataset` describes a data set and opens its splits; `Records` reads records of
a split by position.
"""

import dataclasses
import re

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from geojax import encodings, files, tasks
from geojax.training import shards
from geojax.training.errors import DatasetError

SPLITS = ("train", "validation", "test")

# The one feature that held all of `encodings.LABELS` in an earlier layout of
# records. Their `date` is text: when the patch was acquired.
_JOINED = "label"
# Numbers of a record that locate it.
_PLACE = ("lat", "lon", "row", "col")


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A built data set.

  Attributes:
    builder: The TFDS builder, read from disk.
    image_shape: `(patch, patch, bands)`.
    bands: A name for each band.
    offset: Raw value of each band that is scaled to 0, shape `[bands]`.
    divisor: Raw difference of each band that is scaled to 1, shape `[bands]`.
    cache_dir: Folder of this machine that shards are copied to, or "".
  """

  builder: tfds.core.DatasetBuilder
  image_shape: tuple[int, int, int]
  bands: tuple[str, ...]
  offset: np.ndarray
  divisor: np.ndarray
  cache_dir: str = ""

  @property
  def label_names(self) -> tuple[str, ...]:
    """Labels of a record: `encodings.LABELS`, other numbers, and targets."""
    features = self.builder.info.features
    found = {
      name
      for name, feature in features.items()
      if (len(feature.shape) <= 1 or name in self.targets)
      and np.issubdtype(feature.np_dtype, np.number)
      and name not in (_JOINED, *_PLACE)
    }
    if _JOINED in features:
      found |= encodings.LABELS.keys()
    geographic = [name for name in encodings.LABELS if name in found]
    return (*geographic, *sorted(found - encodings.LABELS.keys()))

  @property
  def targets(self) -> dict[str, tasks.Target]:
    """Targets of its own, by name."""
    return tasks.describe(self.builder.info.metadata)

  def source(self, split: str, names=None) -> "Records":
    """Opens a split.

    Args:
      split: "train", "validation" or "test".
      names: Labels to read, some of `label_names`; None reads those of
        `encodings.LABELS` that the data set has.

    Returns:
      Its `Records`, of `image` and the labels.

    Raises:
      DatasetError: The data set has no such label, no such split, or no record
        in it.
    """
    return self._open(split, ("image", *self._labels(names)))

  def positions(self, split: str, at_most: int | None = None) -> range:
    """Positions in a split, spread evenly.

    Args:
      split: See `source`.
      at_most: The largest number of positions; None for all.

    Returns:
      Every n-th position, with the least n that gives no more than `at_most`.

    Raises:
      DatasetError: See `source`.
    """
    count = self._check(split).num_examples
    return range(0, count, 1 if at_most is None else -(-count // at_most))

  def read_labels(self, split: str, at_most: int | None = None, names=None):
    """Reads the labels of a split, but no images.

    Args:
      split: See `source`.
      at_most: Read no more than so many records, spread evenly; None reads all.
      names: See `source`.

    Returns:
      Arrays by name, `[count, ...]`, in the order of the split; those of
      `encodings.LABELS` are float32, `[count, numbers]`.

    Raises:
      DatasetError: See `source`.
    """
    records = self._open(split, self._labels(names))
    wanted = self.positions(split, at_most)
    return concatenate(
      records.read(wanted[start : start + 1024])
      for start in range(0, len(wanted), 1024)
    )

  def origin(self, split: str) -> list[tuple[str, int, int]]:
    """Returns name, size and time of each file of a split.

    Args:
      split: See `source`.

    Raises:
      DatasetError: See `source`.
    """
    paths = [
      files.path(shard.filename)
      for shard in self._check(split).file_instructions
    ]
    found = files.sizes_and_times(paths[0].parent)
    if missing := [path for path in paths if path.name not in found]:
      raise FileNotFoundError(f"{missing[0]} does not exist")
    return [(path.name, *found[path.name]) for path in paths]

  def read_ids(self, split: str) -> np.ndarray:
    """Reads the `id` of each record of a split, text, `[count]`.

    Args:
      split: See `source`.

    Raises:
      DatasetError: See `source`.
    """
    records = self._open(split, ("id",))
    found = concatenate(
      records.read(range(start, min(start + 1024, len(records))))
      for start in range(0, len(records), 1024)
    )
    return np.array([name.decode() for name in found["id"].tolist()])

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

  def _filled(self):
    """Names of the splits that hold records."""
    splits = self.builder.info.splits
    return [name for name in splits if splits[name].num_examples]

  def _check(self, split):
    """TFDS's description of a split that holds records."""
    if split not in self._filled():
      raise DatasetError(
        f"{self.builder.data_path} has no records in split {split!r}; it has"
        f" {', '.join(self._filled())}"
      )
    return self.builder.info.splits[split]

  def _labels(self, names):
    known = self.label_names
    if names is None:
      return [name for name in known if name in encodings.LABELS]
    if unknown := [name for name in names if name not in known]:
      raise DatasetError(
        f"{self.builder.data_path} has no label {', '.join(unknown)}; it has"
        f" {', '.join(known)}"
      )
    return names

  def _open(self, split, names):
    # The data source of TFDS decodes every feature, and starts threads for each
    # batch: it takes about twice as long as to read the shards and to let the
    # wanted features decode their own bytes.
    known = self.builder.info.features
    features = {
      name: known[name]
      for name in (
        _JOINED if _JOINED in known and name in encodings.LABELS else name
        for name in names
      )
    }

    def decode(encoded):
      stored = tf_example_pb2.Example.FromString(encoded).features.feature
      found = {
        name: _value(stored[name], feature)
        for name, feature in features.items()
      }
      if _JOINED in found:
        found |= encodings.split_label(found[_JOINED])
      return {name: found[name] for name in names}

    instructions = self._check(split).file_instructions
    return Records(shards.Shards(instructions, self.cache_dir), decode)


def _value(stored, feature):
  """Decodes a feature of a record, which holds bytes or plain numbers."""
  kind = stored.WhichOneof("kind")
  numbers = getattr(stored, kind).value
  if kind == "bytes_list":
    return feature.decode_example_np(numbers[0])
  return np.array(numbers, feature.np_dtype).reshape(feature.shape)


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


def concatenate(batches) -> dict[str, np.ndarray]:
  """Joins dicts of arrays along the arrays' first axis."""
  batches = list(batches)
  return {
    name: np.concatenate([batch[name] for batch in batches])
    for name in batches[0]
  }


def open_dataset(data_dir: str, name: str, cache_dir: str = "") -> Dataset:
  """Opens a data set that `python -m data_prep.build` has built.

  Args:
    data_dir: Folder given to the builder as `--output` or `--publish`.
    name: `<builder>/<config>`, such as "geo_tiles/earth".
    cache_dir: Where to keep copies of its shards, see `shard_copies`; "" reads
      them where they are.

  Returns:
    The newest built version.

  Raises:
    DatasetError: It is not there, or only half there.
  """
  folder = files.path(data_dir) / name
  versions = _versions(folder)
  # Written last, by a build as by a copy.
  whole = (path for path in versions if (path / "dataset_info.json").exists())
  if not (newest := next(whole, None)):
    raise DatasetError(
      f"config.data.name: {name} is not built in config.data.dir, {data_dir}"
      + _what_is_there(files.path(data_dir), versions)
      + "; build it with: python -m data_prep.build"
      f" --config={name.split('/')[-1]} --output={data_dir}"
      " (and --source=DIR where the tiles are your own)"
    )
  builder = tfds.builder_from_directory(str(newest))
  metadata = builder.info.metadata
  scale = np.asarray(metadata["scale"], np.float32)
  return Dataset(
    builder=builder,
    image_shape=tuple(builder.info.features["image"].shape),
    bands=tuple(metadata["bands"]),
    offset=scale[:, 0],
    divisor=scale[:, 1],
    cache_dir=cache_dir,
  )


def _versions(folder):
  """Folders of the versions of a data set, the newest first."""
  versions = [
    path
    for path in _folders(folder)
    if re.fullmatch(r"\d+\.\d+\.\d+", path.name)
  ]
  return sorted(
    versions,
    key=lambda path: [int(n) for n in path.name.split(".")],
    reverse=True,
  )


def _folders(folder):
  # Not by a pattern: in a bucket that lists all files of all folders.
  return list(folder.iterdir()) if folder.is_dir() else []


def _what_is_there(data_dir, versions):
  """What a folder holds instead of a whole version of a data set."""
  if versions:
    return (
      f", where {versions[0]} has no dataset_info.json, which is written last:"
      " a build or a copy has not ended"
    )
  built = sorted(
    f"{builder.name}/{config.name}"
    for builder in _folders(data_dir)
    for config in _folders(builder)
    if _versions(config)
  )
  return f", but {', '.join(built)} is" if built else ""
