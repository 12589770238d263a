"""Locks in a bucket, where there is no `flock`: leases that a dead run loses.

A lock is an object that is created only if it is absent. Its owner renews it
every few seconds, each time on condition that nobody else has written it; who
finds it watches for as long as a lease lasts, and takes it over if it was not
renewed. No clock of one machine is compared with that of another.
"""

import contextlib
import datetime
import json
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable

from geojax.files import buckets
from geojax.files.errors import LockedError, StorageError

# A lease that was not renewed for so long belongs to a run that is gone.
LEASE_S = 60.0
RENEW_S = 10.0
# How often a lease of another process is looked at.
_WATCH_S = 2.0
# Generation of an object that does not exist.
_ABSENT = 0


@contextlib.contextmanager
def lease(path, lost: Callable[[str], None] | None = None):
  """Holds a lease for as long as the context lasts, and renews it.

  One that is there is taken over at once if its process ran on this machine
  and is gone, and otherwise if it is not renewed within `LEASE_S`.

  Args:
    path: The object, an `epath.Path`.
    lost: Called, in another thread, with a sentence if the lease is lost: this
      process was stopped for too long and another one took over, or the object
      was removed.

  Raises:
    LockedError: Its owner is alive.
    StorageError: The bucket cannot be written.
  """
  held = _Lease(path, lost)
  held.acquire()
  renewal = threading.Thread(target=held.keep, daemon=True)
  renewal.start()
  try:
    yield
  finally:
    held.done.set()
    renewal.join()
    held.release()


class _Lease:
  def __init__(self, path, lost):
    self._path, self._lost = path, lost
    self._generation = _ABSENT
    self._owner = {
      **this_process(),
      "since": _now(),
      "token": uuid.uuid4().hex,
    }
    self.done = threading.Event()

  def acquire(self):
    while not self._write(_ABSENT):
      found = self._read()
      if found is None:
        continue
      owner, generation = found
      if not has_ended(owner):
        generation = self._watch(owner, generation)
      if generation is not None and self._write(generation):
        return

  def _watch(self, owner, generation):
    """Waits for a sign of life; returns what to replace, None if it is gone."""
    who = f"{owner.get('process', '?')} on {owner.get('host', '?')}"
    print(
      f"{self._path} names process {who} since {owner.get('since', '?')}:"
      f" watching for up to {LEASE_S:.0f} s whether it still runs",
      file=sys.stderr,
    )
    end = time.monotonic() + LEASE_S
    while time.monotonic() < end:
      time.sleep(_WATCH_S)
      found = self._read()
      if found is None:
        return None
      if found[1] != generation:
        raise LockedError(who)
    return generation

  def keep(self):
    """Renews the lease until `done` is set."""
    while not self.done.wait(RENEW_S):
      try:
        if self._write(self._generation):
          continue
      except StorageError as error:
        # Whoever takes over meanwhile is noticed by the next attempt.
        print(f"the lease is not renewed: {error}", file=sys.stderr)
        continue
      if self._lost and not self.done.is_set():
        found = self._read()
        who = "nobody" if found is None else found[0].get("host", "another")
        self._lost(
          f"lost the lease {self._path}, which now belongs to {who}: this"
          " process did not renew it in time, or somebody removed it"
        )
      return

  def release(self):
    """Removes the object if it is still this process's."""
    with contextlib.suppress(StorageError, FileNotFoundError):
      found = self._read()
      if found and found[0].get("token") == self._owner["token"]:
        buckets.file_system().rm_file(os.fspath(self._path))

  def _write(self, generation):
    """Writes the object if it is of this generation; returns whether it was."""
    content = json.dumps(self._owner | {"renewed": _now()})
    try:
      self._generation = buckets.replace(
        self._path, content.encode(), generation
      )
    except FileExistsError:
      # It may be this process's own write, whose answer was lost.
      found = self._read()
      if found is None or found[0].get("token") != self._owner["token"]:
        return False
      self._generation = found[1]
    return True

  def _read(self):
    """The owner and the generation, or None if there is no object."""
    try:
      content, generation = buckets.read_with_generation(self._path)
    except FileNotFoundError:
      return None
    try:
      owner = json.loads(content)
    except ValueError:
      owner = {}
    return (owner if isinstance(owner, dict) else {}), generation


def this_process() -> dict[str, str | int]:
  """Describes this process, for `has_ended` in another one."""
  return {
    "host": socket.gethostname(),
    "process": os.getpid(),
    "machine": _machine(),
  }


def has_ended(owner: dict) -> bool:
  """Whether a process of `this_process` ran on this machine and has ended."""
  process = owner.get("process")
  if owner.get("machine") != _machine() or not isinstance(process, int):
    return False
  return not pathlib.Path(f"/proc/{process}").exists()


def _machine():
  """Names the space of process IDs: this start of this machine or container.

  Elsewhere than on Linux a name that no other process has, so that an owner is
  always watched.
  """
  boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
  try:
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return uuid.uuid4().hex


def _now():
  now = datetime.datetime.now(datetime.UTC)
  return now.isoformat(timespec="seconds")
