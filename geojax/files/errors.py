"""Errors of files, buckets and locks."""


class StorageError(OSError):
  """A bucket cannot be used; the message names object and reason."""


class RequestError(StorageError):
  """A request failed; `name` is what it was about."""

  def __init__(self, name: str, reason: str):
    """Args: name: Bucket, and object if known.  reason: Why, and what helps."""
    super().__init__(f"{name}: {reason}")
    self.name, self.reason = name, reason

  def __reduce__(self):
    # Workers send errors to the command.
    return type(self), (self.name, self.reason)


class LockedError(Exception):
  """Another process holds the lock; `holder` says which, or is ""."""

  def __init__(self, holder: str):
    """Args: holder: What the lock file names as its holder."""
    super().__init__(f"locked by process {holder or 'unknown'}")
    self.holder = holder
