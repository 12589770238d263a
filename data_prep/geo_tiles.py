"""The TFDS builder: tiles in, labelled records out.

A `GeoTilesConfig` says what kind of tiles: where they come from, which bands,
how large the patches are, which are left out. The builder itself knows no
source.

Records are written to ArrayRecord shards without TensorFlow, and read by
`tfds.builder_from_directory(directory).as_data_source(split)`.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
import typing

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module

from data_prep import earth, labels, places, splits, tiles
from geojax import encodings

# One task of a process: 20 MB on disk of patches of 10 kB.
RECORDS_PER_SHARD = 4096


class EmptySplitError(Exception):
  """A data set one of whose splits would have no record."""


@dataclasses.dataclass(kw_only=True, eq=False)
class GeoTilesConfig(tfds.core.BuilderConfig):
  """A kind of tiles and what becomes of them.

  Attributes:
    source: Finds or cuts the tiles: `fetch` and `cut_tiles` as of
      `earth.Earth`.
    bands: The bands of a record's image, by name, in order.
    scale: (offset, divisor) of each band: `(raw - offset) / divisor` lies
      about in [-2, 2]. Kept with the records, which hold raw values.
    dtype: dtype of the tiles and of a record's image.
    patches: Which patches become records.
  """

  source: earth.Earth
  bands: tuple[str, ...]
  scale: tuple[tuple[float, float], ...]
  dtype: str
  patches: places.PatchRule

  def settings(self):
    """All that shapes the records, as JSON types."""
    return json.loads(
      json.dumps(
        {
          "source": dataclasses.asdict(self.source),
          "bands": self.bands,
          "scale": self.scale,
          "dtype": self.dtype,
          "patches": dataclasses.asdict(self.patches),
        }
      )
    )


def count_patches(tile_path, config):
  """Counts a tile's patches by split and by reason for leaving them out.

  Args:
    tile_path: The tile's file.
    config: A `GeoTilesConfig`.

  Returns:
    A Counter with the keys of `splits.SPLITS` and the reasons.

  Raises:
    tiles.TileError: If the tile cannot be used.
  """
  _, chosen = _open_tile(tile_path, config)
  counts = collections.Counter(chosen.left_out)
  for index, split in enumerate(splits.SPLITS):
    counts[split] = int(np.count_nonzero(chosen.split == index))
  return counts


def cut_patches(tile_path, config, split):
  """Cuts a tile's patches of one split.

  Args:
    tile_path: The tile's file.
    config: A `GeoTilesConfig`.
    split: One of `splits.SPLITS`.

  Returns:
    A dict of the features of a record, each with a leading axis of patches.

  Raises:
    tiles.TileError: If the tile cannot be used.
  """
  tile, chosen = _open_tile(tile_path, config)
  mine = chosen.split == splits.SPLITS.index(split)
  rows, cols = chosen.rows[mine], chosen.cols[mine]
  lat_deg, lon_deg = chosen.lat_deg[mine], chosen.lon_deg[mine]
  size = (config.patches.size, config.patches.size)
  windows = np.lib.stride_tricks.sliding_window_view(
    tile.read(config.bands), size, (0, 1)
  )
  name = tile.path.stem
  ids = [f"{name}/{r}_{c}" for r, c in zip(rows, cols, strict=True)]
  return {
    "image": np.ascontiguousarray(np.moveaxis(windows[rows, cols], 1, -1)),
    "label": labels.geo_labels(
      chosen.climate[mine], lat_deg, lon_deg, tile.date
    ),
    "lat": lat_deg.astype(np.float32),
    "lon": lon_deg.astype(np.float32),
    "date": [tile.date.isoformat()] * len(ids),
    "id": ids,
  }


def generate_examples(tile_paths, config, split):
  """Goes through the records of some tiles.

  Args:
    tile_paths: The tiles' files.
    config: A `GeoTilesConfig`.
    split: One of `splits.SPLITS`.

  Yields:
    A record's id and the record: one value a feature.

  Raises:
    tiles.TileError: If a tile cannot be used.
  """
  for path in tile_paths:
    patches = cut_patches(path, config, split)
    for values in zip(*patches.values(), strict=True):
      example = dict(zip(patches, values, strict=True))
      yield example["id"], example


def write_shard(path, examples, config):
  """Writes one shard of records.

  Args:
    path: The file to write.
    examples: A function that returns an iterator as of `generate_examples`.
    config: A `GeoTilesConfig`.

  Returns:
    The number of records.

  Raises:
    OSError: If the file cannot be written.
    tiles.TileError: If a tile cannot be used.
  """
  features = _features(config)
  serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
  # Groups of one record, as they are read at random. Of zstd's levels, 1 takes
  # half the time of TFDS's 3 to write and two thirds to read, for 4 % more
  # bytes.
  writer = array_record_module.ArrayRecordWriter(
    os.fspath(path), "group_size:1,zstd:1"
  )
  num_records = 0
  try:
    for _, example in examples():
      record = features.encode_example(example)
      writer.write(serializer.serialize_example(record))
      num_records += 1
    writer.close()
  except RuntimeError as error:
    # Its way to say that the disk is full.
    raise OSError(f"{error}") from error
  return num_records


# Bounds in degrees of what Sentinel-2 sees: all land but Antarctica.
_SEEN_BY_SENTINEL_2 = (-56, -180, 84, 180)
_RGB_SCALE = ((96, 64),) * 3
_EARTH = GeoTilesConfig(
  name="earth",
  description="Blue Marble of June, altitude and turbidity of the month.",
  source=earth.Earth(
    overlap=27,
    months_per_block=4,
    open_sea_kept=0.1,
    region=_SEEN_BY_SENTINEL_2,
  ),
  bands=earth.Earth.bands,
  scale=(*_RGB_SCALE, (400, 1000), (60, 20)),
  dtype="int16",
  patches=places.PatchRule(
    size=32,
    stride=5,
    # Half of the buffer lies inside of the held-out blocks.
    split=splits.SplitRule(
      block_deg=5,
      buffer_deg=32 / 15,
      inset_deg=16 / 15,
      validation=0.05,
      test=0.1,
    ),
    train_kept=0.35,
    max_sea=0.5,
    sea_kept=0.1,
  ),
)
CONFIGS = (
  _EARTH,
  dataclasses.replace(
    _EARTH,
    name="earth_smoke",
    description="A corner of `earth`, around the Mediterranean, for tests.",
    source=dataclasses.replace(
      _EARTH.source, months_per_block=1, region=(25, -10, 50, 30)
    ),
  ),
  dataclasses.replace(
    _EARTH,
    name="blue_marble",
    description="The twelve monthly images of Blue Marble 2004.",
    source=earth.BlueMarble(
      overlap=27,
      months_per_block=4,
      open_sea_kept=0.1,
      region=_SEEN_BY_SENTINEL_2,
    ),
    bands=earth.BlueMarble.bands,
    scale=_RGB_SCALE,
  ),
)


class GeoTiles(tfds.core.ShardBasedBuilder):
  """Builds records from tiles, one config a kind of tile.

  Shard-based, because the writer that TFDS uses otherwise needs TensorFlow for
  a split over 1 GB. Records stay in the tiles' order: the training pipeline
  shuffles globally.
  """

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS: typing.ClassVar = CONFIGS

  def __init__(self, *, tile_paths=(), executor_map=map, **kwargs):
    """A builder of one config.

    Args:
      tile_paths: The tiles to build from.
      executor_map: `map`, or that of an executor of processes.
      **kwargs: As of `tfds.core.DatasetBuilder`: `config`, `data_dir`.
    """
    self._tile_paths = list(tile_paths)
    self._map = executor_map
    # Patches by split and by reason for leaving them out, known after a build.
    self.counts = collections.Counter()
    super().__init__(file_format="array_record", **kwargs)

  @property
  def num_tiles(self):
    """How many tiles the records are cut from."""
    return len(self._tile_paths)

  def _info(self):
    config = self.builder_config
    return tfds.core.DatasetInfo(
      builder=self,
      description="Patches of tiles with their place, climate and date.",
      features=_features(config),
      metadata=tfds.core.MetadataDict(
        bands=list(config.bands),
        scale=[list(pair) for pair in config.scale],
        settings=config.settings(),
      ),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(self, dl_manager):
    del dl_manager
    config = self.builder_config
    count = functools.partial(count_patches, config=config)
    per_tile = list(
      tqdm.tqdm(
        self._map(count, self._tile_paths),
        total=len(self._tile_paths),
        desc="labelling patches",
        unit="tile",
        disable=None,
      )
    )
    self.counts = sum(per_tile, collections.Counter())
    for split in splits.SPLITS:
      if not self.counts[split]:
        raise EmptySplitError(f"no patch was left for the split {split}")
    return {
      split: [
        functools.partial(generate_examples, paths, config, split)
        for paths in _group(self._tile_paths, [c[split] for c in per_tile])
      ]
      for split in splits.SPLITS
    }

  def _download_and_prepare(self, dl_manager, download_config=None):
    """Writes the shards side by side; TFDS would write one after the other."""
    del download_config
    paths, examples, templates = [], [], {}
    iterators = self._shard_iterators_per_split(dl_manager)
    for split, shards in iterators.items():
      templates[split] = self._get_filename_template(split)
      paths += templates[split].sharded_filepaths(len(shards))
      examples += shards
    write = functools.partial(write_shard, config=self.builder_config)
    lengths = []
    with tqdm.tqdm(
      total=sum(self.counts[split] for split in splits.SPLITS),
      desc="writing records",
      unit="record",
      disable=None,
    ) as bar:
      for num_records in self._map(write, paths, examples):
        lengths.append(num_records)
        bar.update(num_records)
    written = iter(zip(paths, lengths, strict=True))
    split_infos = []
    for split, shards in iterators.items():
      mine = list(itertools.islice(written, len(shards)))
      split_infos.append(
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=[length for _, length in mine],
          num_bytes=sum(path.stat().length for path, _ in mine),
          filename_template=templates[split],
        )
      )
    self.info.set_splits(tfds.core.SplitDict(split_infos))


def _features(config):
  """What a record holds."""
  size = config.patches.size
  image = (size, size, len(config.bands))
  return tfds.features.FeaturesDict(
    {
      "image": _bytes_tensor(image, config.dtype),
      "label": _bytes_tensor((encodings.LABEL_DIM,), "float32"),
      "lat": tfds.features.Scalar(np.float32),
      "lon": tfds.features.Scalar(np.float32),
      "date": tfds.features.Text(),
      "id": tfds.features.Text(),
    }
  )


def _bytes_tensor(shape, dtype):
  return tfds.features.Tensor(
    shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
  )


def _open_tile(path, config):
  """Opens a tile that can become records; and what it has of them."""
  tile = tiles.open_tile(path, config.dtype)
  if tile.date is None:
    raise tiles.TileError(path, "no date: TIFF tag DateTime is missing")
  try:
    return tile, places.select_places(tile.grid, config.patches)
  except ValueError as error:
    raise tiles.TileError(path, f"{error}") from error


def _group(paths, counts):
  """Groups of tiles with about `RECORDS_PER_SHARD` records each."""
  num_groups = -(-sum(counts) // RECORDS_PER_SHARD)
  groups = collections.defaultdict(list)
  before = 0
  for path, count in zip(paths, counts, strict=True):
    if count:
      groups[before * num_groups // sum(counts)].append(path)
    before += count
  return list(groups.values())
