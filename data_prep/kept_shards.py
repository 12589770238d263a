"""Shards that outlive a build that was killed."""

import dataclasses
import hashlib
import json
import os
import pathlib
import pickle
import shutil

from data_prep import records
from geojax import files


def write_shard(path, parts, split, config, strict, folder):
  """`records.write_shard`, but reuses the shard of a build that was killed.

  Shards are kept in a folder, named after the settings and all files that
  determine them, each with its size and time.
  """
  inputs = [*(part.path for part in parts), *config.files.values()]
  for part in parts:
    inputs += config.source.files_beside(part.path)
  inputs = dict.fromkeys(inputs)
  stats = {os.fspath(file): os.stat(file) for file in inputs}
  origin = [
    config.settings(),
    # The layouts of a record and of its report, which may differ between
    # versions.
    repr(records.features(config)),
    [field.name for field in dataclasses.fields(records.ShardReport)],
    split,
    strict,
    [(part.start, part.stop) for part in parts],
    [(name, s.st_size, s.st_mtime_ns) for name, s in stats.items()],
  ]
  origin = json.dumps(origin).encode()
  name = hashlib.blake2b(origin, digest_size=16).hexdigest()
  shard = pathlib.Path(folder) / name
  pickled = shard.with_suffix(".report")
  # The report is written last: a shard that has one is whole.
  if not (shard.exists() and pickled.exists()):
    shard.parent.mkdir(parents=True, exist_ok=True)
    report = records.write_shard(shard, parts, split, config, strict)
    with files.atomic(pickled) as temporary:
      temporary.write_bytes(pickle.dumps(report))
  try:
    os.link(shard, path)
  except OSError:
    # A file system without links, or another file system.
    shutil.copyfile(shard, path)
  return pickle.loads(pickled.read_bytes())
