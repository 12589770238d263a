"""Errors of files, buckets and locks."""


class StorageError(OSError):
  """A bucket cannot be used; the message names object and reason."""


class LockedError(Exception):
  """Another process holds the lock; `holder` says which, or is ""."""

  def __init__(self, holder: str):
    """Args: holder: What the lock file names as its holder."""
    super().__init__(f"locked by process {holder or 'unknown'}")
    self.holder = holder
