"""Records: their features, and shards of them.

The functions are tasks that processes share: they take paths and a
`configs.GeoTilesConfig`.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import pickle
import shutil

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from data_prep import splits, tiles
from data_prep.byte_planes import BytePlanes
from geojax import encodings, files

_PLAIN_FEATURES = {
  str: tfds.features.Text(),
  int: tfds.features.Scalar(np.int32),
  float: tfds.features.Scalar(np.float32),
}


# Features of every record that are text or one number.
_COMMON = {
  **{"lat": float, "lon": float, "row": int, "col": int},
  **{"acquired": str, "id": str},
}


def features(config):
  """Returns the `tfds.features.FeaturesDict` of a config's records.

  Raises:
    ValueError: A feature of the source has the name of one of every record.
  """
  size = config.patches.size
  found = {
    "image": _tensor(BytePlanes, (size, size, len(config.bands)), config.dtype),
    **{
      name: _tensor(tfds.features.Tensor, (width,), "float32")
      for name, width in encodings.LABELS.items()
    },
    **{name: _PLAIN_FEATURES[kind] for name, kind in _COMMON.items()},
  }
  if config.dem:
    found["terrain"] = _tensor(BytePlanes, (size, size, 4), "float16")
  for name, kind in config.source.features.items():
    if name in found:
      raise ValueError(
        f"config {config.name}: every record has a feature {name}; its source"
        " must give its own another name"
      )
    found[name] = _PLAIN_FEATURES[kind]
  return tfds.features.FeaturesDict(found)


def _tensor(feature, shape, dtype):
  return feature(
    shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
  )


def count_patches(tile_path, config):
  """Counts a tile's places by split and by reason for leaving them out.

  Returns:
    A Counter, empty if the tile cannot be used; and its `tiles.TileError` or
    None.
  """
  try:
    with (
      tiles.as_tile_error(tile_path),
      config.source.open_patches(tile_path, config) as patches,
    ):
      counts = collections.Counter(patches.left_out)
      for index, split in enumerate(splits.SPLITS):
        counts[split] = int(np.count_nonzero(patches.split == index))
      return counts, None
  except tiles.TileError as error:
    return collections.Counter(), error


def cut_patches(tile_path, config, split):
  """Cuts a tile's patches of one split, some rows of the tile at a time.

  Yields:
    The two results of `tile_patches.TilePatches.cut`.

  Raises:
    tiles.TileError: The tile cannot be used.
  """
  with contextlib.ExitStack() as stack:
    with tiles.as_tile_error(tile_path):
      patches = stack.enter_context(
        config.source.open_patches(tile_path, config)
      )
    (mine,) = np.nonzero(patches.split == splits.SPLITS.index(split))
    for index in patches.read_together(mine):
      with tiles.as_tile_error(tile_path):
        cut = patches.cut(index)
      yield cut


@dataclasses.dataclass
class ShardReport:
  """Outcome of writing a shard.

  Attributes:
    num_records: Records written.
    left_out: Patches left out because of their pixels, by reason.
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
    config: A `configs.GeoTilesConfig`.
    strict: Whether a tile that cannot be used raises its `tiles.TileError`,
      or is skipped.

  Returns:
    A `ShardReport`.
  """
  report = ShardReport(0, collections.Counter(), [], np.zeros((0, 3)))
  seen = [report.places]

  def examples():
    for tile_path in tile_paths:
      try:
        for patches, left_out in cut_patches(tile_path, config, split):
          report.left_out += left_out
          day = encodings.decode_day_of_year(patches["date"])
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
  """`write_shard`, but reuses the shard of a build that was killed.

  Shards are kept in a folder, named after the settings and all files that
  determine them, each with its size and time.
  """
  inputs = [*tile_paths, *config.files.values()]
  for tile_path in tile_paths:
    inputs += config.source.files_beside(tile_path)
  stats = {os.fspath(file): os.stat(file) for file in inputs}
  origin = [
    config.settings(),
    # The layout of a record, which may differ between versions.
    repr(features(config)),
    split,
    strict,
    [(name, s.st_size, s.st_mtime_ns) for name, s in stats.items()],
  ]
  origin = json.dumps(origin).encode()
  name = hashlib.blake2b(origin, digest_size=16).hexdigest()
  shard = pathlib.Path(folder) / name
  pickled = shard.with_suffix(".report")
  # The report is written last: a shard that has one is whole.
  if not (shard.exists() and pickled.exists()):
    shard.parent.mkdir(parents=True, exist_ok=True)
    report = write_shard(shard, tile_paths, split, config, strict)
    with files.atomic(pickled) as temporary:
      temporary.write_bytes(pickle.dumps(report))
  try:
    os.link(shard, path)
  except OSError:
    # A file system without links, or another file system.
    shutil.copyfile(shard, path)
  return pickle.loads(pickled.read_bytes())


def write_records(path, examples, config):
  """Writes an iterable of dicts of a record's features; returns their count."""
  encoder = features(config)
  serializer = tfds.core.ExampleSerializer(encoder.get_serialized_info())
  # Groups of one record, because records are read at random. zstd's level 1
  # takes half the time of TFDS's 3 to write and two thirds to read, for 4 %
  # more bytes.
  writer = array_record_module.ArrayRecordWriter(
    os.fspath(path), "group_size:1,zstd:1"
  )
  num_records = 0
  try:
    for example in examples:
      record = encoder.encode_example(example)
      writer.write(serializer.serialize_example(record))
      num_records += 1
    writer.close()
  except RuntimeError as error:
    # The writer's error for a full disk.
    raise OSError(f"{error}") from error
  return num_records
