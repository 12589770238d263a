"""The results of a transfer: one table, a row per figure."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from geojax import files

FILE = "results.parquet"
KEYS = ("task", "encoder", "protocol", "shots", "seed", "split")
SCHEMA = pa.schema(
  [
    ("task", pa.string()),
    ("encoder", pa.string()),
    ("protocol", pa.string()),
    ("shots", pa.int32()),
    ("seed", pa.int32()),
    ("split", pa.string()),
    ("metric", pa.string()),
    ("value", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("ids_hash", pa.string()),
    ("seconds", pa.float64()),
  ]
)


class Results:
  """The table of a workdir, written whole after each result.

  What is in it is not computed again, so a command that was killed goes on.
  """

  def __init__(self, workdir: pathlib.Path):
    """Args: workdir: The folder of `results.parquet`, which may not exist."""
    self.path = workdir / FILE
    self.rows = []
    if self.path.exists():
      with files.local(self.path) as local:
        self.rows = pq.read_table(local).to_pylist()
    self._done = {_key(row) for row in self.rows}

  def __contains__(self, key) -> bool:
    """Whether the results of a key, values of `KEYS`, are there."""
    return tuple(key) in self._done

  def add(self, key, found, ids_hash, seconds) -> None:
    """Adds the metrics of a key and writes the file.

    Args:
      key: Values of `KEYS`.
      found: Value, low and high by name of the metric.
      ids_hash: See `draws.ids_hash`.
      seconds: What it took.
    """
    self.rows += [
      {
        **dict(zip(KEYS, key, strict=True)),
        "metric": name,
        "value": value,
        "low": low,
        "high": high,
        "ids_hash": ids_hash,
        "seconds": seconds,
      }
      for name, (value, low, high) in found.items()
    ]
    self._done.add(tuple(key))
    with files.atomic(self.path) as temporary:
      pq.write_table(pa.Table.from_pylist(self.rows, SCHEMA), temporary)


def write_draws(path: pathlib.Path, ids, drawn) -> None:
  """Writes drawn records, a row each.

  Args:
    path: The parquet file.
    ids: The `id`s of the train records.
    drawn: Tuples of task, shots, seed and indices of train records.
  """
  once = {key[:3]: key[3] for key in drawn}
  columns = {name: [] for name in ("task", "shots", "seed", "id")}
  for (task, shots, seed), rows in once.items():
    columns["task"] += [task] * len(rows)
    columns["shots"] += [shots] * len(rows)
    columns["seed"] += [seed] * len(rows)
    columns["id"] += ids[rows].tolist()
  with files.atomic(path) as temporary:
    pq.write_table(pa.table(columns), temporary)


def _key(row):
  return tuple(row[name] for name in KEYS)
