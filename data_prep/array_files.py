"""NumPy arrays on disk."""

import numpy as np

from data_prep import tiles


def load(path, shape):
  """Memory-maps an array of rows.

  Args:
    path: The file, `*.npy`.
    shape: Shape of a row.

  Raises:
    tiles.TileError: The file cannot be read, or has rows of another shape.
  """
  try:
    array = np.load(path, mmap_mode="r")
  except (OSError, ValueError, EOFError) as error:
    raise tiles.TileError(path, f"{error}") from error
  if array.shape[1:] != shape or array.ndim == 0:
    raise tiles.TileError(
      path, f"shape {array.shape}, expected [n, {', '.join(map(str, shape))}]"
    )
  return array
