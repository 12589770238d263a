"""Legends: JSON files of what the codes of a map mean."""

import json
import pathlib


def read(path, example):
  """Reads a legend: a dict from code, an int, to what the file has for it.

  Args:
    path: JSON file with an object whose keys are codes.
    example: Such an object, for errors.

  Raises:
    ValueError: The file is not JSON or no such object, or has two different
      entries for one code.
    OSError: The file cannot be read.
  """
  try:
    legend = json.loads(pathlib.Path(path).read_text())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"legend {path}: not JSON: {error}") from error
  if not isinstance(legend, dict) or not legend:
    raise ValueError(
      f"legend {path}: {type(legend).__name__}, expected an object such as"
      f" {example}"
    )
  entries = {}
  for key, entry in legend.items():
    try:
      code = int(key)
    except ValueError:
      raise ValueError(
        f"legend {path}: code {key!r}, expected a number"
      ) from None
    if entries.setdefault(code, entry) != entry:
      raise ValueError(f"legend {path}: two entries for code {code}")
  return entries
