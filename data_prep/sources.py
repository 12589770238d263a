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
def as_tile_error(path):
  """Whatever fails is told with the file's name."""
  try:
    yield
  except tiles.TileError:
    raise
  except Exception as error:
    # Decoders raise what they like, and so does a full disk.
    raise tiles.TileError(path, str(error) or repr(error)) from error


@contextlib.contextmanager
def collect(errors, path, where=""):
  """Puts what fails into a list, so that the rest goes on."""
  try:
    yield
  except tiles.TileError as error:
    errors.append(error)
  except Exception as error:
    errors.append(tiles.TileError(path, f"{where}{str(error) or repr(error)}"))
