"""Records: their features, and shards of them.

The functions are tasks that processes share: they take paths and a
`configs.GeoTilesConfig`.
"""

import collections
import contextlib
import dataclasses
import os

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from data_prep import splits, tiles
from data_prep.byte_planes import BytePlanes
from geojax import encodings

# Reason for leaving patches out.
UNLISTED = "not in the splits file"

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
    ValueError: A feature of the source, or a target, has the name of another.
  """
  size = config.patches.size
  found = {
    "image": _tensor(BytePlanes, (size, size, len(config.bands)), config.dtype),
    **{
      name: _tensor(tfds.features.Tensor, (encodings.LABELS[name],), "float32")
      for name in config.labels
    },
    **{name: _PLAIN_FEATURES[kind] for name, kind in _COMMON.items()},
  }
  if config.dem:
    found["terrain"] = _tensor(BytePlanes, (size, size, 4), "float16")
  own = (
    *(
      (name, _PLAIN_FEATURES[kind])
      for name, kind in config.source.features.items()
    ),
    *((t.name, _target_feature(t)) for t in config.targets),
    *((m.name, _map_feature(size, m.dtype)) for m in config.maps),
  )
  for name, feature in own:
    if name in (*found, *encodings.LABELS):
      raise ValueError(
        f"config {config.name}: there is a feature {name} already; a feature of"
        " its source, or a target, must have another name"
      )
    found[name] = feature
  return tfds.features.FeaturesDict(found)


def raw_bytes(config) -> int:
  """Bytes of the arrays and numbers of a record before compression."""
  return sum(
    int(np.prod(feature.shape)) * np.dtype(feature.np_dtype).itemsize
    for feature in features(config).values()
    if np.issubdtype(feature.np_dtype, np.number)
  )


def _target_feature(target):
  if target.shape:
    return _tensor(tfds.features.Tensor, target.shape, target.dtype)
  return tfds.features.Scalar(target.dtype)


def _map_feature(size, dtype):
  """Feature of a map's classes, which deflate well, or values."""
  if dtype != np.uint8:
    return _tensor(BytePlanes, (size, size), dtype)
  return tfds.features.Tensor(
    shape=(size, size),
    dtype=np.dtype(dtype),
    encoding=tfds.features.Encoding.ZLIB,
  )


def _tensor(feature, shape, dtype):
  return feature(
    shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
  )


@dataclasses.dataclass
class TileReport:
  """What a tile, or another file of patches, holds.

  Attributes:
    counts: Places by split, and by reason for leaving them out.
    num_files: Tiles or images that the patches are cut from.
    num_cropped: Those with pixels at the edges that no patch covers.
    errors: A `tiles.TileError` for each that cannot be used.
  """

  counts: collections.Counter
  num_files: int
  num_cropped: int
  errors: list[tiles.TileError]


def count_patches(tile_path, config):
  """Counts a tile's places: a `TileReport`, empty if it cannot be used."""
  try:
    with (
      tiles.as_tile_error(tile_path),
      config.source.open_patches(tile_path, config) as patches,
    ):
      counts = collections.Counter(patches.left_out)
      split_of = _split_of(patches, config)
      for index, split in enumerate(splits.SPLITS):
        counts[split] = int(np.count_nonzero(split_of == index))
      if config.splits:
        dropped = np.count_nonzero(split_of == splits.DROPPED)
        counts[UNLISTED] = int(dropped)
      return TileReport(
        counts, patches.num_files, patches.num_cropped, list(patches.errors)
      )
  except tiles.TileError as error:
    return TileReport(collections.Counter(), 1, 0, [error])


def _split_of(patches, config):
  """Split of each patch, by the rule or by the splits file."""
  if not config.splits:
    return patches.split
  listed = splits.read_listed(config.splits)
  ids = patches.ids(np.arange(len(patches.split)))
  return np.array([listed.get(name, splits.DROPPED) for name in ids], np.int8)


@dataclasses.dataclass(frozen=True)
class Part:
  """Some of a tile's patches of a split, by default all.

  Attributes:
    path: The tile's file.
    start: Position of the first one in the order of the tile's records.
    stop: Position behind the last one; None for the end.
  """

  path: os.PathLike
  start: int = 0
  stop: int | None = None


def cut_patches(part, config, split, errors):
  """Cuts a tile's patches of one split, some rows of the tile at a time.

  Args:
    part: The `Part` of the tile to cut.
    config: A `configs.GeoTilesConfig`.
    split: One of `splits.SPLITS`.
    errors: List to which the `tiles.TileError`s of images are appended, if the
      file holds many and others can be used.

  Yields:
    The two results of `tile_patches.TilePatches.cut`.

  Raises:
    tiles.TileError: The tile cannot be used.
  """
  with contextlib.ExitStack() as stack:
    with tiles.as_tile_error(part.path):
      patches = stack.enter_context(
        config.source.open_patches(part.path, config)
      )
    (mine,) = np.nonzero(
      _split_of(patches, config) == splits.SPLITS.index(split)
    )
    # In the order of records, so that parts in sequence are the whole.
    mine = np.concatenate([mine[:0], *patches.read_together(mine)])
    for index in patches.read_together(mine[part.start : part.stop]):
      with tiles.as_tile_error(part.path):
        cut = patches.cut(index)
      yield cut
    errors += patches.errors


@dataclasses.dataclass
class ShardReport:
  """Outcome of writing a shard.

  Attributes:
    num_records: Records written.
    left_out: Patches left out because of their pixels, by reason.
    errors: A `tiles.TileError` for each tile that could not be read to its end.
    columns: Arrays of a row a record: `lat`, `lon`, `day` (of the year),
      `sides_deg` (`[n, 2]`, see `places.Places`) and the targets.
    ids: The records' `id`s.
    pixels: For each map, numbers of its pixels, see
      `pixel_targets.PixelTarget.count`.
    sums: Number of pixels, and sum and sum of squares of each band, `[3,
      bands]`, if the scale of the data set is still to be found; or None.
    checksum: Size and MD5 checksum of a shard in a bucket, or None.
  """

  num_records: int
  left_out: collections.Counter
  errors: list[tiles.TileError]
  columns: dict[str, np.ndarray]
  ids: list[str]
  pixels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  sums: np.ndarray | None = None
  checksum: tuple[int, str] | None = None


def write_shard(path, parts, split, config, strict=True):
  """Writes one shard of records.

  Args:
    path: The file to write.
    parts: What to write, a list of `Part`s.
    split: One of `splits.SPLITS`.
    config: A `configs.GeoTilesConfig`.
    strict: Whether a tile that cannot be used raises its `tiles.TileError`,
      or is skipped.

  Returns:
    A `ShardReport`.
  """
  report = ShardReport(0, collections.Counter(), [], {}, [])
  names = features(config)
  seen = []
  if not config.scale:
    report.sums = np.zeros((3, len(config.bands)))

  def examples():
    for part in parts:
      try:
        for columns, left_out in cut_patches(
          part, config, split, report.errors
        ):
          report.left_out += left_out
          if not columns:
            continue
          seen.append(_row_a_record(columns, config))
          report.ids += columns["id"]
          for target in config.maps:
            report.pixels[target.name] = report.pixels.get(
              target.name, 0
            ) + target.count(columns[target.name])
          if report.sums is not None:
            report.sums += _sums(columns["image"])
          columns = {name: columns[name] for name in names}
          for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))
      except tiles.TileError as error:
        report.errors.append(error)
      if strict and report.errors:
        raise report.errors[0]

  report.num_records = write_records(path, examples(), config)
  report.columns = {
    name: np.concatenate([part[name] for part in seen])
    for name in (seen[0] if seen else ())
  }
  return report


def _row_a_record(columns, config):
  return {
    "lat": columns["lat"],
    "lon": columns["lon"],
    "day": encodings.decode_day_of_year(columns["date"]),
    "sides_deg": columns["sides_deg"],
    **{target.name: columns[target.name] for target in config.targets},
  }


def _sums(images):
  """Number, sum and sum of squares of each band's pixels, `[3, bands]`."""
  pixels = images.reshape(-1, images.shape[-1]).astype(np.float64)
  number = np.full(images.shape[-1], len(pixels))
  return np.stack([number, pixels.sum(axis=0), (pixels**2).sum(axis=0)])


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
      record = serializer.get_tf_example(encoder.encode_example(example))
      # The order of a protobuf map differs between processes otherwise, and
      # with it the bytes of a data set that is built again.
      writer.write(record.SerializeToString(deterministic=True))
      num_records += 1
    writer.close()
  except RuntimeError as error:
    # The writer's error for a full disk.
    raise OSError(f"{error}") from error
  return num_records
