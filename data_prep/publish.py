"""Copies a built data set to a bucket, or to another folder.

TFDS and `geojax.training` find a data set by its `dataset_info.json`. It is
copied last, once all other files have been compared with the originals, so that
no reader takes a part of a data set for the whole.
"""

import concurrent.futures
import contextlib
import pathlib

import tqdm

from geojax import files

# Copied last: makes a data set visible.
LAST = "dataset_info.json"
_SHARD = ".array_record-"
# What training caches in the folder, about files of that folder alone.
_CACHES = ".npz"
# Each holds a chunk of 50 MiB of a shard.
_THREADS = 4


class PublishError(Exception):
  """A data set that cannot be published; names a file and the reason."""


def publish(builder, data_dir) -> str:
  """Copies the files of a data set as far as they are missing.

  A file counts as copied if its size and its MD5 checksum are those of the
  original. No file is replaced or deleted, so the same call resumes one that
  was interrupted.

  Args:
    builder: A `geo_tiles.GeoTiles` whose records are built.
    data_dir: A path of `files.path`; the data set goes to
      `<data_dir>/geo_tiles/<config>/<version>`.

  Returns:
    A sentence that reports what was copied, and where to.

  Raises:
    PublishError: There are files of another data set, in which case nothing is
      copied; or a shard is missing, or a copy differs from its original.
    geojax.files.StorageError: The bucket cannot be used.
  """
  folder = pathlib.Path(builder.data_path)
  version = (builder.name, builder.builder_config.name, str(builder.version))
  wanted = _own(files.sizes_and_checksums(folder))
  shards = {
    n for split in builder.info.splits.values() for n in split.filenames
  }
  if absent := sorted({LAST, *shards} - wanted.keys()):
    raise PublishError(
      f"{folder} lacks {_first(absent)}; delete it and build again"
    )
  target = data_dir.joinpath(*version)
  return _complete(wanted, folder, target, "--publish")


def complete(builder, target, shards) -> None:
  """Makes a data set visible whose shards were uploaded by a build's workers.

  Args:
    builder: A `geo_tiles.GeoTiles` whose metadata is in a folder of this
      machine.
    target: Folder of the shards, in a bucket.
    shards: Size and MD5 checksum of each shard by name.

  Raises:
    PublishError: See `publish`.
    geojax.files.StorageError: The bucket cannot be used.
  """
  folder = pathlib.Path(builder.data_path)
  wanted = _own(files.sizes_and_checksums(folder)) | shards
  _complete(wanted, folder, target, "--output", shards.keys())


def refuse_others(target, names):
  """Raises PublishError if a folder has shards of another data set.

  Args:
    target: The folder, in a bucket.
    names: Those that this data set may have there.
  """
  found = _own(files.sizes_and_checksums(target))
  shards = {name for name in found if _SHARD in name}
  if others := sorted(shards - names):
    raise _another(
      target, [f"{name} is no file of this one" for name in others], "--output"
    )


def _another(target, sentences, flag):
  return PublishError(
    f"{target} holds another data set, and nothing was copied:"
    f" {_first(sentences)}; choose another {flag} or --name, or delete that"
    " folder if nobody reads it"
  )


def _complete(wanted, folder, target, flag, there=frozenset()):
  """Copies what is missing of a folder, `LAST` in the end; returns a sentence.

  Args:
    wanted: Size and checksum of each file, by name.
    folder: Where they are.
    target: Where they go to.
    flag: That named the target.
    there: Files that must be at the target already.
  """
  found = _own(files.sizes_and_checksums(target))
  if absent := sorted(there - found.keys()):
    raise PublishError(
      f"{target} lacks {_first(absent)}, which was there; give the same command"
      " again"
    )
  if differing := list(_differences(wanted, found)):
    raise _another(target, differing, flag)
  missing = [name for name in sorted(wanted) if name not in found]
  num_bytes = sum(wanted[name][0] for name in missing)
  with tqdm.tqdm(
    total=num_bytes, desc="publishing", unit="B", unit_scale=True, disable=None
  ) as bar:
    _copy([name for name in missing if name != LAST], folder, target, bar)
    _check(wanted, target, but={LAST}.intersection(missing))
    _copy([name for name in missing if name == LAST], folder, target, bar)
  _check(wanted, target)
  return (
    f"published in {target}: {len(missing)} files copied ({num_bytes:,} bytes),"
    f" {len(found)} there already"
  )


def _own(found):
  """The files of a data set: neither hidden ones nor caches."""
  return {
    name: described
    for name, described in found.items()
    if not name.startswith(".") and not name.endswith(_CACHES)
  }


def _copy(names, folder, target, bar):
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:

    def copy(name):
      # Another process was faster, or the answer to a request was lost: the
      # check that follows compares the two.
      with contextlib.suppress(FileExistsError):
        files.copy_new(folder / name, target / name)
      bar.update((folder / name).stat().st_size)

    try:
      for _ in pool.map(copy, names):
        pass
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def _check(wanted, target, but=frozenset()):
  """Raises PublishError unless these files are there, equal, no others."""
  found = _own(files.sizes_and_checksums(target))
  wrong = [
    f"{name} is missing" for name in sorted(wanted.keys() - found.keys() - but)
  ]
  wrong += _differences(wanted, found)
  if wrong:
    raise PublishError(
      f"{target} differs from the original: {_first(wrong)}; another process"
      " wrote there too, or the original changed meanwhile"
    )


def _differences(wanted, found):
  """Yields how files that are there differ from the data set's own."""
  for name in sorted(found):
    if name not in wanted:
      yield f"{name} is no file of this one"
      continue
    (size, checksum), (found_size, found_checksum) = wanted[name], found[name]
    if found_size != size:
      yield f"{name} has {found_size:,} bytes instead of {size:,}"
    elif found_checksum is None:
      yield f"{name} has no MD5 checksum to compare, as composed objects have"
    elif found_checksum != checksum:
      yield f"{name} has another content"


def _first(sentences):
  more = f", and {len(sentences) - 1} more" if len(sentences) > 1 else ""
  return f"{sentences[0]}{more}"
