"""Copies of shards on a disk of this machine.

A record at random in a bucket is a request; on a disk it is a short read.
"""

import concurrent.futures
import hashlib
import pathlib
import shutil
import time

from geojax import files
from geojax.training.errors import DatasetError

_THREADS = 8
# Another process of this machine copies the same shard: when to look again.
_WAIT_S = 0.2


def make(paths: list, folder: pathlib.Path) -> list[pathlib.Path]:
  """Copies shards, each whole or not at all, as far as they are missing.

  The processes of a machine share the work and the copies. Copies are kept
  under a hash of the names, sizes and times of the originals: a data set that
  was built anew is copied anew, and nothing is deleted.

  Args:
    paths: The shards of a split, all in one folder.
    folder: Where copies are kept; made if missing.

  Returns:
    Their copies, in the same order.

  Raises:
    DatasetError: A shard is missing, or there is no space for all; names both.
  """
  found = files.sizes_and_times(paths[0].parent)
  if missing := [path for path in paths if path.name not in found]:
    raise DatasetError(f"{missing[0]} is missing; build the data set again")
  described = sorted((path.name, *found[path.name]) for path in paths)
  digest = hashlib.blake2b(
    repr((str(paths[0].parent), described)).encode(), digest_size=8
  ).hexdigest()
  folder = folder / digest
  folder.mkdir(parents=True, exist_ok=True)
  copies = [folder / path.name for path in paths]
  sizes = [found[path.name][0] for path in paths]
  needed = sum(
    size for copy, size in zip(copies, sizes, strict=True) if not copy.exists()
  )
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise DatasetError(
      f"config.data.cache_dir: {folder.parent} has {free / 1e9:.1f} GB free,"
      f" and copies of {paths[0].parent} take {needed / 1e9:.1f} GB more; use"
      " another folder, or leave it empty to read from where the data set is"
    )
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    list(pool.map(_copy, paths, copies, sizes))
  return copies


def _copy(path, copy, size):
  while not copy.exists():
    try:
      with files.lock(copy.with_name(f".{copy.name}.lock")):
        if copy.exists():
          return
        with files.atomic(copy) as temporary:
          files.copy_to(path, temporary)
          if (found := temporary.stat().st_size) != size:
            raise DatasetError(
              f"{path} has {size} bytes, and its copy {found}: it changed"
              " meanwhile; give the same command again"
            )
    except files.LockedError:
      time.sleep(_WAIT_S)
