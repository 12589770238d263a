"""Atomic writes and locks; the standard library alone."""

import contextlib
import fcntl
import os
import pathlib


class LockedError(Exception):
  """Another process holds the lock; `holder` is its process ID, or ""."""

  def __init__(self, holder: str):
    """Args: holder: What the lock file names as its holder."""
    super().__init__(f"locked by process {holder or 'unknown'}")
    self.holder = holder


@contextlib.contextmanager
def atomic(path: pathlib.Path):
  """Yields a temporary path, which becomes `path` when the context succeeds.

  Readers of `path` see the old file or the new one, never a part of it. When
  the context raises, the temporary file is removed and `path` is left alone.

  Args:
    path: The file to write. The temporary one is in the same folder, under a
      name of this process alone.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a UTF-8 file atomically, see `atomic`."""
  with atomic(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def lock(path: pathlib.Path):
  """Holds an exclusive lock on a file for as long as the context lasts.

  The kernel releases the lock when the process ends, however it ends, so a
  killed process leaves nothing to clean up.

  Args:
    path: The lock file; created if missing, with its folder.

  Raises:
    LockedError: Another process holds it.
  """
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
