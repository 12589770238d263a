"""Shards that outlive a build that was killed."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import pickle
import shutil
import tempfile

from data_prep import records
from data_prep.build_folder import BuildError
from geojax import files


def write_shard(path, parts, split, config, strict, folder):
  """`records.write_shard`, but reuses the shard of a build that was killed.

  Shards are kept in a folder, named after the settings and all files that
  determine them, each with its size and time. Of a shard in a bucket, which is
  uploaded to its final path at once, the report is kept, with its checksum.

  Beam may run a task twice, even at the same time: each writes a file of its
  own.
  """
  kept = files.path(folder) / _name(parts, split, config, strict)
  path = files.path(path)

  def write(path):
    return records.write_shard(path, parts, split, config, strict)

  write_kept = _write_on_disk if files.is_local(path) else _write_to_bucket
  return write_kept(path, kept, write)


def _write_on_disk(path, shard, write):
  pickled = shard.with_suffix(".report")
  # The report is written last: a shard that has one is whole.
  if not (shard.exists() and pickled.exists()):
    shard.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(shard) as temporary:
      report = write(temporary)
    _keep(pickled, report)
  with files.atomic(path) as temporary:
    try:
      os.link(shard, temporary)
    except OSError:
      # A file system without links, or another file system.
      shutil.copyfile(shard, temporary)
  return pickle.loads(pickled.read_bytes())


def _write_to_bucket(path, kept, write):
  pickled = kept.with_suffix(".report")
  found = files.size_and_checksum(path)
  with contextlib.suppress(FileNotFoundError):
    report = pickle.loads(pickled.read_bytes())
    if report.checksum == found:
      return report
  with tempfile.TemporaryDirectory() as folder:
    shard = pathlib.Path(folder, path.name)
    report = write(shard)
    report.checksum = files.size_and_checksum(shard)
    # It may be there: of this task, which ran before, or of another data set.
    with contextlib.suppress(FileExistsError):
      files.copy_new(shard, path)
  if files.size_and_checksum(path) != report.checksum:
    raise BuildError(
      f"{path} is there already, with other records; choose another --output or"
      f" --name, or delete {path.parent} if nobody reads it"
    )
  _keep(pickled, report)
  return report


def _keep(path, report):
  with files.atomic(path) as temporary:
    temporary.write_bytes(pickle.dumps(report))


def _name(parts, split, config, strict):
  """Name of a shard, after all that determines it."""
  inputs = [*(part.path for part in parts), *config.files.values()]
  for part in parts:
    inputs += config.source.files_beside(part.path)
  stats = {os.fspath(file): _describe(file) for file in dict.fromkeys(inputs)}
  origin = [
    config.settings(),
    # The layouts of a record and of its report, which may differ between
    # versions.
    repr(records.features(config)),
    [field.name for field in dataclasses.fields(records.ShardReport)],
    split,
    strict,
    [(part.start, part.stop) for part in parts],
    [(name, *described) for name, described in stats.items()],
  ]
  origin = json.dumps(origin).encode()
  return hashlib.blake2b(origin, digest_size=16).hexdigest()


def _describe(file):
  """Size and time of a file; of an object size and checksum."""
  path = files.path(file)
  if not files.is_local(path):
    return files.size_and_checksum(path)
  stat = path.stat()
  return stat.st_size, stat.st_mtime_ns
