"""The TFDS builder: tiles in, labelled records out.

Records are written to ArrayRecord shards without TensorFlow, and read by
`tfds.builder_from_directory(directory).as_data_source(split)`.
"""

import collections
import csv
import functools
import itertools
import math
import pathlib

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from data_prep import (
  kept_shards,
  leaks,
  publish,
  rasters,
  records,
  splits,
)
from geojax import files

# Lists the records of a data set, in its folder.
SPLITS_FILE = "splits.csv"

# About the size of a shard on disk: few enough for a bucket to list, small
# enough to be one task of a process.
SHARD_BYTES = 200_000_000
# Compressed records of Sentinel-2 take so much of their raw bytes.
_COMPRESSED = 0.66
# Smaller data sets are cut into up to so many shards of so many records, for
# the processes of a build.
_PROCESSES, _RECORDS_PER_PROCESS = 16, 4096


class EmptySplitError(Exception):
  """A split without a record."""


class GeoTiles(tfds.core.ShardBasedBuilder):
  """Builds the records of one `configs.GeoTilesConfig`.

  Shard-based, because the other writer of TFDS needs TensorFlow for splits over
  1 GB. Records stay in the tiles' order: the training pipeline shuffles
  globally.

  Attributes:
    counts: After a build, patches by split and by reason for leaving them out.
    errors: `tiles.TileError`s of tiles that could not be used.
    columns: By split with a record, what `records.ShardReport.columns` has of
      each.
    num_files: Number of tiles or images that the records are cut from.
    num_cropped: Number of those with pixels at the edges that no patch covers.
    checksums: After a build with a target, size and MD5 checksum of each shard
      by name.
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
    asked=None,
    target=None,
    **kwargs,
  ):
    """Makes the builder of one config.

    Args:
      tile_paths: The tiles to build from.
      executor_map: `map`, or one of `task_maps`.
      strict: Whether the first tile that cannot be used ends the build.
      errors: `tiles.TileError`s of tiles that could not be made.
      shard_dir: Folder of `kept_shards.write_shard`, so that a build that was
        killed can be resumed; or None.
      asked: Settings as the user gave them, where the source has completed the
        config; by which the build is recognised.
      target: Folder in a bucket that shards are written to, instead of that of
        the metadata; or None.
      **kwargs: Arguments of `tfds.core.DatasetBuilder`: `config`, `data_dir`.
    """
    self._tile_paths = list(tile_paths)
    self._map = executor_map
    self._strict = strict
    self._shard_dir = shard_dir
    self._target = target
    self.checksums = {}
    self.counts = collections.Counter()
    self._asked = asked
    self.errors = list(errors)
    self.columns = {}
    self.num_files = self.num_cropped = 0
    super().__init__(file_format="array_record", **kwargs)

  def moved_to(self, data_dir):
    """Returns a builder of the same data set that was copied to a folder."""
    moved = type(self)(config=self.builder_config, data_dir=data_dir)
    for name in ("counts", "errors", "columns", "num_files", "num_cropped"):
      setattr(moved, name, getattr(self, name))
    return moved

  def _info(self):
    config = self.builder_config
    settings = config.settings()
    asked = self._asked not in (None, settings) and {"asked": self._asked}
    return tfds.core.DatasetInfo(
      builder=self,
      description="Patches of tiles with their place, climate and date.",
      features=records.features(config),
      metadata=tfds.core.MetadataDict(
        bands=list(config.bands),
        scale=[list(pair) for pair in _pair_a_band(config)],
        settings=settings,
        **(asked or {}),
      ),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(self, dl_manager):
    raise NotImplementedError("shards are written by records.write_shard")

  def _download_and_prepare(self, dl_manager, download_config=None):
    """Writes the shards in parallel; TFDS would write them in sequence."""
    del dl_manager, download_config
    per_tile = self._count_tiles()
    raw_bytes = records.raw_bytes(self.builder_config)
    per_shard = max(int(SHARD_BYTES / (_COMPRESSED * raw_bytes)), 1)
    paths, groups, shard_splits, templates = [], [], [], {}
    for split in splits.SPLITS:
      counts = [counts[split] for counts in per_tile]
      per_process = max(-(-sum(counts) // _PROCESSES), _RECORDS_PER_PROCESS)
      mine = _group(self._tile_paths, counts, min(per_shard, per_process))
      templates[split] = self._get_filename_template(split)
      paths += templates[split].sharded_filepaths(len(mine))
      groups += mine
      shard_splits += [split] * len(mine)
    self._check_splits(shard_splits.count)
    folder = pathlib.Path(paths[0]).parent
    if self._target is not None:
      paths = [self._target / path.name for path in paths]
      publish.refuse_others(self._target, {path.name for path in paths})
    settings = {"config": self.builder_config, "strict": self._strict}
    write = functools.partial(records.write_shard, **settings)
    if self._shard_dir is not None:
      write = functools.partial(
        kept_shards.write_shard, folder=self._shard_dir, **settings
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
      if not sum(lengths):
        # All patches were left out by their pixels: TFDS has no empty split.
        for i in mine:
          paths[i].unlink()
        continue
      self.checksums |= {paths[i].name: reports[i].checksum for i in mine}
      self.columns[split] = _join([reports[i].columns for i in mine])
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
    # A tile fails in each split that it has patches of.
    once = {(str(error.path), error.reason): error for error in self.errors}
    self.errors = list(once.values())
    # Kept with the data set: later builds report them again.
    self.info.metadata["errors"] = [
      {"file": str(error.path), "reason": error.reason} for error in self.errors
    ]
    self._check_splits(self.counts.get)
    self._describe(reports, shard_splits)
    self.info.metadata["splits_sha256"] = _write_splits(
      folder / SPLITS_FILE, reports, shard_splits, self.builder_config
    )
    self.info.set_splits(tfds.core.SplitDict(split_infos))

  def _describe(self, reports, shard_splits):
    """Completes the metadata by what is known once records are written."""
    config, metadata = self.builder_config, self.info.metadata
    if not config.scale:
      number, total, squares = sum(
        report.sums
        for report, split in zip(reports, shard_splits, strict=True)
        if split == "train"
      )
      mean = total / number
      deviation = np.sqrt(np.maximum(squares / number - mean**2, 0))
      # A band that is the same everywhere is only shifted.
      deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0)
      metadata["scale"] = np.stack([mean, deviation], axis=-1).tolist()
    if not config.has_rule:
      metadata["leaks"] = leaks.measure(self.columns)
    described = [
      target.describe(
        {split: found[target.name] for split, found in self.columns.items()}
      )
      for target in config.targets
    ]
    for target in config.maps:
      counts = collections.defaultdict(int)
      for report, split in zip(reports, shard_splits, strict=True):
        if target.name in report.pixels:
          counts[split] = counts[split] + report.pixels[target.name]
      described.append(target.describe(dict(counts)))
    if described:
      metadata["targets"] = described

  def _count_tiles(self):
    """Counts the places of each tile, and collects the tiles' errors."""
    count = functools.partial(records.count_patches, config=self.builder_config)
    per_tile = []
    for report in tqdm.tqdm(
      self._map(count, self._tile_paths),
      total=len(self._tile_paths),
      desc="labelling patches",
      unit="tile",
      disable=None,
    ):
      if self._strict and report.errors:
        raise report.errors[0]
      self.errors += report.errors
      self.num_files += report.num_files
      self.num_cropped += report.num_cropped
      per_tile.append(report.counts)
    self.counts = sum(per_tile, collections.Counter())
    return per_tile

  def _check_splits(self, count):
    rule = self.builder_config.patches.split
    wanted = {"train": 1, "validation": rule.validation, "test": rule.test}
    if self.builder_config.splits or self.builder_config.has_split_column:
      wanted = {"train": 1}
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


def _pair_a_band(config):
  """Offset and divisor of each band, of which a config may give one for all."""
  if len(config.scale) == 1:
    return config.scale * len(config.bands)
  return config.scale


def _join(columns):
  """Joins dicts of arrays, of which some may be empty."""
  columns = [part for part in columns if part]
  return {
    name: np.concatenate([part[name] for part in columns])
    for name in (columns[0] if columns else ())
  }


def _write_splits(path, reports, shard_splits, config):
  """Writes `splits.csv`, a row a record; returns its SHA-256."""
  rule = config.patches.split
  with (
    files.atomic(path) as temporary,
    open(temporary, "w", newline="") as file,
  ):
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("id", "lat", "lon", "split", "block"))
    for report, split in zip(reports, shard_splits, strict=True):
      if not report.ids:
        continue
      places = [report.columns[name] for name in ("lat", "lon")]
      # Python's numbers are formatted several times as fast as NumPy's.
      lat, lon = (
        ["" if math.isnan(x) else f"{x:.5f}" for x in values.tolist()]
        for values in places
      )
      same = [split] * len(lat)
      blocks = rule.block_names(*places)
      rows.writerows(zip(report.ids, lat, lon, same, blocks, strict=True))
  return rasters.sha256(path)


def _group(paths, counts, per_shard):
  """Groups of `records.Part`s, in order, with about `per_shard` records each.

  Tiles stay whole unless they hold more than that.
  """
  num_groups = -(-sum(counts) // per_shard)
  groups = collections.defaultdict(list)
  before = 0
  for path, count in zip(paths, counts, strict=True):
    if not count:
      continue
    num_parts = -(-count // per_shard)
    ends = [count * i // num_parts for i in range(num_parts + 1)]
    for start, stop in itertools.pairwise(ends):
      group = (before + start) * num_groups // sum(counts)
      groups[group].append(records.Part(path, start, stop))
    before += count
  return list(groups.values())
