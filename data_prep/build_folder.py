"""The folder of a build: one process at a time, with the same settings."""

import contextlib
import json
import os
import sys

from data_prep import configs
from geojax import files


class BuildError(Exception):
  """A build that cannot go on; the message says why, and the way out."""


@contextlib.contextmanager
def lock(directory):
  """Holds a folder's lock; raises BuildError if another process has it."""
  try:
    with files.lock(directory / ".lock", _end):
      yield
  except files.LockedError as error:
    raise BuildError(
      f"{directory} is being built by another process, {error.holder}; wait"
      " until it has finished"
    ) from None


def _end(reason):
  """Ends a build that has lost the lease of a folder in a bucket."""
  print(f"data_prep.build: {reason}", file=sys.stderr, flush=True)
  os._exit(1)


def claim(path, settings):
  """Refuses tiles of a source with other settings, or notes them."""
  settings = {"settings": {"source": settings["source"]}}
  if path.exists():
    check_settings(path, settings["settings"])
  else:
    files.write_text(path, json.dumps(settings))


def check_settings(path, wanted):
  """Refuses a folder that was built with other settings.

  Args:
    path: JSON file that has the settings of a build.
    wanted: Settings of the build that is asked for.

  Returns:
    All of the settings of the data set; a source may have completed those that
    were asked for.
  """
  way_out = f"delete {path.parent} or choose another --output"
  try:
    kept = json.loads(path.read_text())
    found = kept.get("asked") or kept["settings"]
  except (OSError, ValueError, KeyError) as error:
    raise BuildError(f"{path} cannot be read ({error!r}); {way_out}") from error
  if differing := list(configs.differences(found, wanted)):
    raise BuildError(
      f"{path.parent} was built with other settings "
      f"({'; '.join(differing)}); {way_out}"
    )
  return kept["settings"]
