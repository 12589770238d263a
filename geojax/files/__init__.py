"""Files on disk and in buckets: atomic writes, local copies, locks.

The standard library alone. What starts with `gs://` is handed to
`files.buckets`, which needs the packages of the extra `gcs`.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Callable

from geojax.files.errors import LockedError, StorageError

_BUCKETS = "gs://"


def path(name: str | os.PathLike):
  """Returns the path of a file or folder, on disk or in a bucket.

  Args:
    name: A path, or a URL that starts with `gs://`.

  Returns:
    A `pathlib.Path`; of a URL an `etils.epath.Path`, which has its methods.

  Raises:
    StorageError: It is a URL of another kind, or the packages that read buckets
      are missing.
  """
  name = os.fspath(name)
  if name.startswith(_BUCKETS):
    from geojax.files import buckets

    return buckets.path(name)
  scheme, separator, _ = name.partition("://")
  if separator:
    raise StorageError(
      f"{name}: {scheme}:// is not read; a folder is a path on this machine, or"
      " gs://BUCKET/FOLDER"
    )
  return pathlib.Path(name)


def is_local(path) -> bool:
  """Whether a path of `path` is on this machine's file system."""
  return isinstance(path, pathlib.Path)


def user_cache() -> pathlib.Path:
  """Returns the folder of this user for what can be computed again."""
  return pathlib.Path.home() / ".cache" / "geojax"


def absolute(path):
  """Returns an absolute path; one in a bucket is."""
  return path.resolve() if is_local(path) else path


@contextlib.contextmanager
def atomic(path):
  """Yields a temporary path, which becomes `path` when the context succeeds.

  Readers of `path` see the old file or the new one, never a part of it. When
  the context raises, the temporary file is removed and `path` is left alone.

  Args:
    path: The file to write. The temporary one is on this machine: in the same
      folder, under a name of this call alone; for a bucket in a folder of its
      own, from where it is uploaded.
  """
  if not is_local(path):
    from geojax.files import buckets

    with tempfile.TemporaryDirectory() as folder:
      temporary = pathlib.Path(folder, path.name)
      yield temporary
      buckets.upload(temporary, path)
    return
  # A process of another host may have the same number.
  token = f"{os.getpid()}.{secrets.token_hex(4)}"
  temporary = path.with_name(f".{path.name}.{token}.tmp")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
  """Writes a UTF-8 file atomically, see `atomic`."""
  with atomic(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def local(path):
  """Yields a file of this machine with the content of `path`, to be read.

  Args:
    path: A file; one in a bucket is copied for as long as the context lasts.

  Raises:
    FileNotFoundError: There is no such file in the bucket.
  """
  if is_local(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder, path.name)
    copy_to(path, copy)
    yield copy


@contextlib.contextmanager
def local_folder(path):
  """Yields a folder of this machine for files that `path` need not keep.

  Args:
    path: A folder; for one in a bucket it is a temporary one.
  """
  if is_local(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    yield pathlib.Path(folder)


def move(source, target) -> None:
  """Moves a folder; one in a bucket is copied, then removed.

  Args:
    source: The folder.
    target: Its new path, of the same file system or bucket.
  """
  if is_local(source):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    return
  from geojax.files import buckets

  buckets.move(source, target)


def copy_to(source, target: pathlib.Path) -> None:
  """Copies a file, which may be in a bucket, to this machine.

  Args:
    source: The file.
    target: The copy, which is replaced.

  Raises:
    FileNotFoundError: There is no such file.
  """
  if is_local(source):
    shutil.copyfile(source, target)
    return
  from geojax.files import buckets

  buckets.download(source, target)


def copy_from(source: pathlib.Path, target) -> None:
  """Copies a file of this machine to `target`, whole or not at all.

  Args:
    source: The file.
    target: The copy, which may be in a bucket, and is replaced.
  """
  if is_local(target):
    with atomic(target) as temporary:
      shutil.copyfile(source, temporary)
    return
  from geojax.files import buckets

  buckets.upload(source, target)


def copy_new(source: pathlib.Path, target) -> None:
  """Copies a file of this machine to where none is, whole or not at all.

  Args:
    source: The file.
    target: The copy, which may be in a bucket; its folder is made if missing.

  Raises:
    FileExistsError: There is a file already, which is left alone. In a bucket
      it may be this copy, if a request was repeated: compare them.
  """
  if not is_local(target):
    from geojax.files import buckets

    buckets.upload(source, target, replace=False)
    return
  if target.exists():
    raise FileExistsError(f"{target} exists")
  target.parent.mkdir(parents=True, exist_ok=True)
  copy_from(source, target)


def md5(path: pathlib.Path) -> str:
  """Returns the MD5 checksum of a file of this machine, hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "md5").hexdigest()


def sizes_and_checksums(folder) -> dict[str, tuple[int, str | None]]:
  """Returns size in bytes and MD5 checksum of each file of a folder.

  Args:
    folder: A folder, which may be missing. One in a bucket is listed, which
      takes a request for a thousand files; on disk all files are read.

  Returns:
    Size and hexadecimal checksum by name. An object that was composed of
    others, as by a parallel upload of another program, has None for a checksum.
  """
  if not is_local(folder):
    from geojax.files import buckets

    return buckets.sizes_and_checksums(folder)
  if not folder.is_dir():
    return {}
  found = (file for file in folder.iterdir() if file.is_file())
  return {file.name: (file.stat().st_size, md5(file)) for file in found}


def size_and_checksum(path) -> tuple[int, str | None] | None:
  """Returns size in bytes and MD5 checksum of a file; None if there is none.

  Args:
    path: A file; of one in a bucket see `sizes_and_checksums`.
  """
  if not is_local(path):
    from geojax.files import buckets

    return buckets.size_and_checksum(path)
  return (path.stat().st_size, md5(path)) if path.exists() else None


def walk(folder):
  """Yields each folder below `folder`, and the names in it, as `os.walk` does.

  Args:
    folder: A folder, which may be in a bucket.

  Yields:
    A path, the names of its folders, of which those that remain are searched
    next, and the names of its files.
  """
  if not is_local(folder):
    from geojax.files import buckets

    yield from buckets.walk(folder)
    return
  for root, folders, names in os.walk(folder):
    yield pathlib.Path(root), folders, names


def remove_folder(folder) -> None:
  """Removes a folder, which may be in a bucket or absent, as far as it can."""
  if is_local(folder):
    shutil.rmtree(folder, ignore_errors=True)
  elif folder.exists():
    folder.rmtree()


def sizes_and_times(folder) -> dict[str, tuple[int, int]]:
  """Returns size in bytes and time of change of each file of a folder.

  Args:
    folder: A folder; one in a bucket is listed, which takes a request for a
      thousand files.

  Returns:
    Size and time, in ns, by name.
  """
  if not is_local(folder):
    from geojax.files import buckets

    return buckets.sizes_and_times(folder)
  stats = {file.name: file.stat() for file in os.scandir(folder)}
  return {name: (x.st_size, x.st_mtime_ns) for name, x in stats.items()}


@contextlib.contextmanager
def lock(path, lost: Callable[[str], None] | None = None):
  """Holds an exclusive lock on a file for as long as the context lasts.

  On disk, the kernel releases the lock when the process ends, however it ends,
  so a killed process leaves nothing to clean up. In a bucket it is a lease, see
  `leases.lease`.

  Args:
    path: The lock file; created if missing, with its folder.
    lost: Called, in another thread, where a lease was taken by another process
      or removed, with a sentence that says so.

  Raises:
    LockedError: Another process holds it.
  """
  if not is_local(path):
    from geojax.files import leases

    with leases.lease(path, lost):
      yield
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise LockedError(file.read().strip()) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    yield
