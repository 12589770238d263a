"""Pictures as files."""

import pathlib

from geojax import files


def write(figure, path: pathlib.Path, **options) -> None:
  """Writes a Matplotlib figure as PNG, whole or not at all.

  Args:
    figure: The figure.
    path: The file.
    **options: See Matplotlib's `savefig`.
  """
  with files.atomic(path) as temporary:
    figure.savefig(temporary, format="png", dpi=110, **options)
