"""What sources share: the folders they work in, and errors that name a file."""

import contextlib
import pathlib

from data_prep import tiles


def require_folder(manual_dir, contents):
  """Makes sure that the user's folder is there, before any work begins.

  Args:
    manual_dir: The folder, or None where none was given.
    contents: What should be in it, in words.

  Returns:
    The folder's path.

  Raises:
    tiles.TileError: If there is no such folder.
  """
  if manual_dir is None or not pathlib.Path(manual_dir).is_dir():
    raise tiles.TileError(
      manual_dir or "--source",
      f"no such folder; pass --source=FOLDER, where you have the {contents}",
    )
  return pathlib.Path(manual_dir)


def make_folder(directory):
  """Makes a folder for tiles, and clears away what a killed run left half done.

  Args:
    directory: The folder.

  Returns:
    The folder's path.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  for leftover in directory.glob(".*.tmp"):
    leftover.unlink()
  return directory


@contextlib.contextmanager
def collect(errors, path, where=""):
  """Puts what fails into a list, so that the rest goes on.

  Args:
    errors: List that a `tiles.TileError` is appended to.
    path: As of `tiles.as_tile_error`.
    where: As of `tiles.as_tile_error`.
  """
  try:
    with tiles.as_tile_error(path, where):
      yield
  except tiles.TileError as error:
    errors.append(error)
