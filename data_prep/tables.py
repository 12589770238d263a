"""Tables of images: which files there are, and what is known of each.

A table is CSV with a header, or parquet. Its columns:

- `file`, below the source's folder or in a zip archive there; or, for scenes of
  one file a band, a column for each band, named as the band;
- `lat` and `lon` of the image's center in degrees, `date` in ISO 8601, `split`;
- targets, by the names that the user gives.

An empty cell is unknown. Rows are numbered from 1, the header not counted.
"""

import collections
import csv
import dataclasses
import datetime
import itertools
import math
import pathlib

from pyarrow import ArrowException, parquet

from data_prep import image_files, rasters, splits, targets, tiles

_SPLIT_NAMES = {**{name: name for name in splits.SPLITS}, "val": "validation"}


@dataclasses.dataclass(frozen=True)
class Row:
  """What a table holds about one image.

  Attributes:
    number: Number of the row.
    name: Begins the ids of the image's records: its file, or that of its first
      band, without the suffix.
    files: Path of the image, or of each of its bands.
    lat_deg: Latitude, NaN if it is unknown.
    lon_deg: Longitude, NaN if it is unknown.
    date: When it was seen, UTC, or None.
    split: Index into `splits.SPLITS`, or None.
    targets: Value of each target, see `targets.Target.parse`.
  """

  number: int
  name: str
  files: tuple[pathlib.Path, ...]
  lat_deg: float
  lon_deg: float
  date: datetime.datetime | None
  split: int | None
  targets: tuple[float | int | tuple[int, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that was checked.

  Attributes:
    rows: The `Row`s that can be used, sorted by name.
    bands: Names of the band columns, in their order; () with a column `file`.
    targets: The `targets.Target`s, in the order asked for.
    has_split: Whether there is a column `split`.
  """

  rows: list[Row]
  bands: tuple[str, ...]
  targets: tuple[targets.Target, ...]
  has_split: bool


def digest(path):
  """SHA-256 of a table's bytes; raises `tiles.TileError` without a file."""
  try:
    return rasters.sha256(path)
  except OSError as error:
    raise tiles.TileError(path, f"no table: {error.strerror}") from error


def read(path, folder, bands=(), target_columns=(), date_from=None):
  """Reads a table and checks each of its rows.

  Args:
    path: The table, `*.csv` or `*.parquet`.
    folder: Folder that files are below.
    bands: Names of the bands, for tables with a column a band.
    target_columns: Columns of targets, each `NAME`, `NAME:class`,
      `NAME:number` or `NAME:classes`.
    date_from: Function of a file's name that returns its date, for rows without
      one, or None.

  Returns:
    A `Table` and a list of `tiles.TileError`, one for each row left out.

  Raises:
    tiles.TileError: The table cannot be read, or a column is missing.
  """
  path = pathlib.Path(path)
  errors = {}

  def fail(number, reason):
    errors.setdefault(number, reason)

  columns, records = _read_records(path, fail)
  asked = [targets.split_kind(column) for column in target_columns]
  bands = _check_columns(path, columns, bands, [name for name, _ in asked])
  found = [
    targets.find(name, [record[name] for record in records], kind, fail)
    for name, kind in asked
  ]
  files = _Files(folder)
  rows = []
  for number, record in enumerate(records, 1):
    if number in errors:
      continue
    try:
      rows.append(_parse(number, record, bands, found, files, date_from))
    except ValueError as error:
      fail(number, str(error))
  rows = _without_repeats(rows, fail)
  table = Table(
    rows=sorted(rows, key=lambda row: row.name),
    bands=bands,
    targets=tuple(found),
    has_split="split" in columns,
  )
  return table, [
    tiles.TileError(path, f"row {number}: {errors[number]}")
    for number in sorted(errors)
  ]


def _read_records(path, fail):
  """Names of the columns, and the rows as dicts of text by column."""
  try:
    if path.suffix.lower() == ".parquet":
      table = parquet.read_table(path)
      columns = table.column_names
      cells = [map(_as_text, table[name].to_pylist()) for name in columns]
      lines = zip(*cells, strict=True)
    elif path.suffix.lower() == ".csv":
      with open(path, newline="", encoding="utf-8-sig") as file:
        columns, *lines = [line for line in csv.reader(file) if line] or [[]]
      columns = [name.strip() for name in columns]
    else:
      raise tiles.TileError(path, "expected a table *.csv or *.parquet")
  except (OSError, UnicodeDecodeError, csv.Error, ArrowException) as error:
    raise tiles.TileError(path, f"no table: {error}") from error
  repeated = [name for name, n in collections.Counter(columns).items() if n > 1]
  if repeated:
    raise tiles.TileError(path, f"two columns {repeated[0]!r}")
  records = []
  for number, line in enumerate(lines, 1):
    if len(line) != len(columns):
      fail(
        number,
        f"{len(line)} cells, expected {len(columns)}, one a column; quote cells"
        " that contain a comma",
      )
    cells = itertools.zip_longest(columns, map(str.strip, line), fillvalue="")
    records.append(dict(cells))
  if not records:
    raise tiles.TileError(path, "the table has no rows")
  return columns, records


def _as_text(value):
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return ""
  if isinstance(value, datetime.date):
    return value.isoformat()
  return str(value).strip()


def _check_columns(path, columns, bands, target_names):
  """Returns the band columns, or () if there is a column `file`."""
  for name in target_names:
    if name not in columns:
      raise tiles.TileError(
        path,
        f"no column {name}, the target; it has {', '.join(columns)}",
      )
  if ("lat" in columns) != ("lon" in columns):
    raise tiles.TileError(path, "columns lat and lon go together, found one")
  if "file" in columns:
    return ()
  if bands and all(band in columns for band in bands):
    return tuple(bands)
  found = tuple(name for name in columns if name in bands)
  missing = [band for band in bands if band not in columns]
  raise tiles.TileError(
    path,
    "no column file; it has "
    + ", ".join(columns)
    + (
      f". As columns of bands, {', '.join(missing)} of --bands are missing"
      if found
      else ". For scenes of one file a band, name those columns in --bands"
    ),
  )


def _parse(number, record, bands, found, files, date_from):
  """Returns a `Row`; raises ValueError with the reason why it has none."""
  columns = bands or ("file",)
  names = []
  for column in columns:
    if not record[column]:
      raise ValueError(f"column {column} is empty")
    names.append(record[column])
  paths = tuple(files.find(name) for name in names)
  lat_deg, lon_deg = _parse_place(record)
  date = _parse_date(record.get("date", ""))
  if date is None and date_from is not None:
    date = date_from(names[0])
  split = None
  if "split" in record:
    if record["split"] not in _SPLIT_NAMES:
      raise ValueError(
        f"split {record['split']!r}, expected one of {', '.join(splits.SPLITS)}"
      )
    split = splits.SPLITS.index(_SPLIT_NAMES[record["split"]])
  name = pathlib.PurePosixPath(names[0]).with_suffix("").as_posix()
  return Row(
    number=number,
    name=name,
    files=paths,
    lat_deg=lat_deg,
    lon_deg=lon_deg,
    date=date,
    split=split,
    targets=tuple(target.parse(record[target.name]) for target in found),
  )


def _parse_place(record):
  texts = record.get("lat", ""), record.get("lon", "")
  if texts == ("", ""):
    return math.nan, math.nan
  place = []
  for name, text, limit in zip(("lat", "lon"), texts, (90, 180), strict=True):
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not abs(value) <= limit:
      raise ValueError(
        f"{name} {text!r}, expected degrees in [-{limit}, {limit}]"
      )
    place.append(value)
  return tuple(place)


def _parse_date(text):
  if not text:
    return None
  try:
    date = datetime.datetime.fromisoformat(text)
  except ValueError:
    raise ValueError(
      f"date {text!r}, expected ISO 8601 such as 2020-06-15"
    ) from None
  if date.tzinfo is not None:
    date = date.astimezone(datetime.UTC).replace(tzinfo=None)
  return date


def _without_repeats(rows, fail):
  """Drops all rows that share a file, or the name of their records."""
  places = collections.defaultdict(set)
  for row in rows:
    for key in (*row.files, row.name):
      places[key].add(row.number)
  kept = []
  for row in rows:
    for key in (*row.files, row.name):
      if len(places[key]) > 1:
        numbers = ", ".join(map(str, sorted(places[key])))
        what = "listed" if key in row.files else "the name of the records"
        fail(row.number, f"{key} is {what} in rows {numbers}; keep one of them")
        break
    else:
      kept.append(row)
  return kept


class _Files:
  """Finds files below a folder, or in the zip archives in it."""

  def __init__(self, folder):
    self._folder = pathlib.Path(folder)
    self._members = None

  def find(self, name):
    """Returns a file's path; raises ValueError if there is none."""
    pure = pathlib.PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
      raise ValueError(f"file {name!r} must lie below {self._folder}")
    path = self._folder / pure
    if path.is_file():
      return path
    archive, member = image_files.split_archive(path)
    if (
      member is not None
      and archive.is_file()
      and member in image_files.open_archive(archive).NameToInfo
    ):
      return path
    holders = self._archives_by_member().get(pure.as_posix(), [])
    if len(holders) > 1:
      raise ValueError(
        f"file {name} is in {' and '.join(map(str, holders))}; write the one"
        f" that is meant as {holders[0].name}/{name}"
      )
    if not holders:
      raise ValueError(
        f"no file {name} in {self._folder}, nor in a zip archive there"
      )
    return holders[0] / pure

  def _archives_by_member(self):
    if self._members is None:
      self._members = collections.defaultdict(list)
      for archive in sorted(self._folder.glob("*.zip")):
        for member in image_files.open_archive(archive).NameToInfo:
          self._members[member].append(archive)
    return self._members
