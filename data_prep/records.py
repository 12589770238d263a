"""Records: what they hold, and how patches of tiles become shards of them.

The functions are tasks that processes share: all they need are paths and a
`geo_tiles.GeoTilesConfig`.
"""

import collections
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
from geojax import encodings

_PLAIN_FEATURES = {
  str: tfds.features.Text(),
  int: tfds.features.Scalar(np.int32),
  float: tfds.features.Scalar(np.float32),
}


def features(config):
  """What a record holds.

  Args:
    config: A `geo_tiles.GeoTilesConfig`.

  Returns:
    A `tfds.features.FeaturesDict`.
  """
  size = config.patches.size
  image = (size, size, len(config.bands))
  return tfds.features.FeaturesDict(
    {
      "image": _tensor(BytePlanes, image, config.dtype),
      "label": _tensor(tfds.features.Tensor, (encodings.LABEL_DIM,), "float32"),
      **(
        {"terrain": _tensor(BytePlanes, (size, size, 4), "float16")}
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


def _tensor(feature, shape, dtype):
  return feature(
    shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
  )


def count_patches(tile_path, config):
  """Counts a tile's places by split and by reason for leaving them out.

  Args:
    tile_path: The tile's file.
    config: A `geo_tiles.GeoTilesConfig`.

  Returns:
    A Counter with the keys of `splits.SPLITS` and the reasons; and the
    `tiles.TileError` of a tile that cannot be used, or None.
  """
  try:
    with tiles.as_tile_error(tile_path):
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
    config: A `geo_tiles.GeoTilesConfig`.
    split: One of `splits.SPLITS`.

  Yields:
    A dict of the features of a record, each with a leading axis of patches, and
    a Counter of the patches left out for what they show.

  Raises:
    tiles.TileError: If the tile cannot be used.
  """
  with tiles.as_tile_error(tile_path):
    patches = config.reader(tile_path, config)
  (mine,) = np.nonzero(patches.split == splits.SPLITS.index(split))
  for index in patches.read_together(mine):
    with tiles.as_tile_error(tile_path):
      cut = patches.cut(index)
    yield cut


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
    config: A `geo_tiles.GeoTilesConfig`.
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
    folder: Where finished shards are kept. One goes by the settings and by all
      files that shape it: the tiles, what lies beside them, the climate map and
      so on, each with its size and time.

  Returns:
    A `ShardReport`.
  """
  files = [*tile_paths, *config.files.values()]
  if config.find_beside is not None:
    for tile_path in tile_paths:
      files += config.find_beside(tile_path)
  files = {os.fspath(file): os.stat(file) for file in files}
  origin = [
    config.settings(),
    # How a record is laid out, which may change from version to version.
    repr(features(config)),
    split,
    strict,
    [(name, s.st_size, s.st_mtime_ns) for name, s in files.items()],
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
    config: A `geo_tiles.GeoTilesConfig`.

  Returns:
    The number of records.

  Raises:
    OSError: If the file cannot be written.
  """
  encoder = features(config)
  serializer = tfds.core.ExampleSerializer(encoder.get_serialized_info())
  # Groups of one record, as they are read at random. Of zstd's levels, 1 takes
  # half the time of TFDS's 3 to write and two thirds to read, for 4 % more
  # bytes.
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
    # Its way to say that the disk is full.
    raise OSError(f"{error}") from error
  return num_records
