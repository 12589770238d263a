"""Tables: each row is used as it is, or named with what is wrong with it."""

import csv
import datetime
import math
import random
import zipfile

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data_prep import splits, tables, targets, tiles


def write(folder, rows, name="table.csv"):
  path = folder / name
  with open(path, "w", newline="") as file:
    out = csv.DictWriter(file, rows[0].keys())
    out.writeheader()
    out.writerows(rows)
  return path


@pytest.fixture
def folder(tmp_path):
  for name in "abcdefgh":
    (tmp_path / f"{name}.png").write_bytes(b"")
  return tmp_path


GOOD = {
  "file": "a.png",
  "lat": "-12.5",
  "lon": "180",
  "date": "2020-06-15",
  "split": "val",
  "crop": "rice",
  "yield": "1.5",
}


def rows_like(**columns):
  """A row of each file, those of `columns` changed."""
  count = len(next(iter(columns.values())))
  return [
    {**GOOD, "file": f"{'abcdefgh'[i]}.png"}
    | {name: values[i] for name, values in columns.items()}
    for i in range(count)
  ]


def read(folder, rows, **kwargs):
  return tables.read(write(folder, rows), folder, **kwargs)


def test_a_row_holds_what_its_cells_say(folder):
  table, errors = read(
    folder,
    rows_like(
      crop=["rice", "rice", ""],
      lat=["-12.5", "-12.5", ""],
      lon=["180"] * 2 + [""],
    ),
    target_columns=("crop", "yield"),
  )
  assert not errors
  first, _, last = table.rows
  assert first == tables.Row(
    number=1,
    name="a",
    files=(folder / "a.png",),
    lat_deg=-12.5,
    lon_deg=180.0,
    date=datetime.datetime(2020, 6, 15),
    split=splits.VALIDATION,
    targets=(0, 1.5),
  )
  assert math.isnan(last.lat_deg)
  assert math.isnan(last.lon_deg)
  assert last.targets == (targets.UNKNOWN_CLASS, 1.5)
  assert [(t.name, t.kind, t.classes) for t in table.targets] == [
    ("crop", "class", ("rice",)),
    ("yield", "number", ()),
  ]


@pytest.mark.parametrize(
  ("column", "bad", "reason"),
  [
    ("lat", "91", "lat '91', expected degrees in [-90, 90]"),
    ("lat", "north", "lat 'north', expected degrees"),
    ("lat", "nan", "lat 'nan', expected degrees"),
    ("lon", "", "lon '', expected degrees in [-180, 180]"),
    ("lon", "180.5", "lon '180.5', expected degrees"),
    ("date", "15.06.2020", "date '15.06.2020', expected ISO 8601"),
    ("date", "2020-02-30", "date '2020-02-30', expected ISO 8601"),
    ("split", "dev", "split 'dev', expected one of train, validation, test"),
    ("split", "", "split '', expected one of"),
    ("file", "", "column file is empty"),
    ("file", "z.png", "no file z.png in"),
    ("file", "/etc/hosts", "file '/etc/hosts' must lie below"),
    ("file", "../b.png", "file '../b.png' must lie below"),
    ("yield", "much", "yield is 'much', expected a number"),
    ("yield", "inf", "yield is 'inf', expected a number"),
    ("crop", "7", "crop is the number 7, but text in most rows"),
    ("crop", "rcie", "the only one of crop 'rcie'; correct the spelling"),
  ],
)
def test_a_bad_cell_is_an_error_of_its_row_alone(folder, column, bad, reason):
  rows = rows_like(crop=["rice"] * 4)
  rows[2][column] = bad
  table, (error,) = read(folder, rows, target_columns=("crop", "yield"))
  assert str(error).startswith(f"{folder / 'table.csv'}: row 3: {reason}")
  assert [row.number for row in table.rows] == [1, 2, 4]


def test_all_rows_of_a_file_that_is_listed_twice_are_left_out(folder):
  rows = rows_like(crop=["rice"] * 4)
  rows[3]["file"] = "a.png"
  table, errors = read(folder, rows)
  assert [row.name for row in table.rows] == ["b", "c"]
  assert [error.reason.split(":")[0] for error in errors] == ["row 1", "row 4"]
  assert all("is listed in rows 1, 4; keep one" in str(e) for e in errors)


def test_files_whose_records_would_have_one_name_are_left_out(folder):
  (folder / "a.jpg").write_bytes(b"")
  rows = rows_like(crop=["rice"] * 3)
  rows[1]["file"] = "a.jpg"
  table, errors = read(folder, rows)
  assert [row.name for row in table.rows] == ["c"]
  assert "a is the name of the records in rows 1, 2" in errors[0].reason


def test_a_row_with_too_many_cells_is_an_error(folder):
  path = folder / "table.csv"
  path.write_text("file,lat,lon\na.png,1,2\nb.png,1,2,3\nc.png,1,2\n")
  table, (error,) = tables.read(path, folder)
  assert "row 2: 4 cells, expected 3" in str(error)
  assert [row.name for row in table.rows] == ["a", "c"]


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    ("name,lat,lon\na.png,1,2\n", "no column file; it has name, lat, lon"),
    ("file,lat\na.png,1\n", "columns lat and lon go together"),
    ("file,file\na.png,1\n", "two columns 'file'"),
    ("file,lat,lon\n", "the table has no rows"),
    ("", "the table has no rows"),
  ],
)
def test_a_table_that_cannot_be_used_is_named(folder, content, reason):
  path = folder / "table.csv"
  path.write_text(content)
  with pytest.raises(tiles.TileError, match=reason):
    tables.read(path, folder)


def test_a_target_that_is_no_column_is_named(folder):
  rows = rows_like(lat=["1"])
  with pytest.raises(tiles.TileError, match="no column corn, the target; it h"):
    read(folder, rows, target_columns=("corn",))


def test_a_table_that_is_no_table_is_named(folder):
  for name, content in (("a.parquet", b"PAR1"), ("a.csv", b"file\n\xff\xfe")):
    (folder / name).write_bytes(content)
    with pytest.raises(tiles.TileError, match="no table: "):
      tables.read(folder / name, folder)
  with pytest.raises(tiles.TileError, match="expected a table"):
    tables.read(folder / "table.xlsx", folder)


def test_parquet_gives_the_rows_of_csv(folder):
  rows = rows_like(crop=["rice", "rice", ""], lat=["1.25", "2.5", "-3"])
  expected = read(folder, rows, target_columns=("crop", "yield"))
  columns = {name: [row[name] for row in rows] for name in rows[0]}
  columns["lat"] = [float(x) for x in columns["lat"]]
  columns["yield"] = [1.5] * 3
  columns["date"] = [datetime.date(2020, 6, 15)] * 3
  columns["crop"][2] = None
  path = folder / "table.parquet"
  parquet.write_table(pyarrow.table(columns), path)
  assert tables.read(path, folder, target_columns=("crop", "yield")) == expected


def test_a_date_with_a_zone_is_utc(folder):
  rows = rows_like(date=["2020-01-01T01:30:00+02:00"])
  table, _ = read(folder, rows)
  assert table.rows[0].date == datetime.datetime(2019, 12, 31, 23, 30)


def test_kinds_of_targets_can_be_asked_for(folder):
  rows = rows_like(crop=["10", "9", "10", "9"])
  table, _ = read(folder, rows, target_columns=("crop",))
  assert table.targets[0].kind == "number"
  table, _ = read(folder, rows, target_columns=("crop:class",))
  # Codes are in order of their value.
  assert table.targets[0].classes == ("9", "10")
  assert [row.targets for row in table.rows] == [(1,), (0,), (1,), (0,)]
  rows[1]["crop"] = "rice"
  _, (error,) = read(folder, rows, target_columns=("crop:number",))
  assert "row 2: crop is 'rice', expected a number" in str(error)


def test_files_are_found_in_archives(folder):
  for name in ("one", "two"):
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
      archive.writestr("in/both.png", b"")
      archive.writestr(f"in/{name}.png", b"")
  rows = rows_like(crop=["rice"] * 5)
  files = ("in/one.png", "two.zip/in/two.png", "in/both.png", "b.png")
  for row, name in zip(rows, (*files, "one.zip/no.png"), strict=True):
    row["file"] = name
  table, errors = read(folder, rows)
  assert [
    row.files[0].relative_to(folder).as_posix() for row in table.rows
  ] == [
    "b.png",
    "one.zip/in/one.png",
    "two.zip/in/two.png",
  ]
  assert [row.name for row in table.rows] == ["b", "in/one", "two.zip/in/two"]
  reasons = [error.reason for error in errors]
  assert "in/both.png is in" in reasons[0]
  assert "write the one that is meant as one.zip/in/both.png" in reasons[0]
  assert "no file one.zip/no.png" in reasons[1]


def test_a_scene_of_a_file_a_band(folder):
  rows = [{"B04": "a.png", "B03": "b.png", "other": "x"}]
  table, errors = read(folder, rows, bands=("B03", "B04"))
  assert not errors
  assert table.bands == ("B03", "B04")
  assert table.rows[0].files == (folder / "b.png", folder / "a.png")
  assert table.rows[0].name == "b"
  with pytest.raises(tiles.TileError, match=r"B02 of --bands are missing"):
    read(folder, rows, bands=("B02", "B03"))
  with pytest.raises(tiles.TileError, match=r"name those columns in --bands"):
    read(folder, rows)


_TEXTS = st.one_of(
  st.sampled_from(["", "1", "91", "-200", "nan", "inf", "2020-01-01", "train"]),
  st.sampled_from([f"{name}.png" for name in "abcdefgh"]),
  st.text(max_size=6),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_no_row_of_a_bad_table_is_lost_or_believed(tmp_path_factory, data):
  """Each row is either a `Row` that repeats its cells, or one error."""
  folder = tmp_path_factory.mktemp("tables")
  for name in "abcdefgh":
    (folder / f"{name}.png").write_bytes(b"")
  count = data.draw(st.integers(1, 8))
  rows = rows_like(crop=["rice"] * count)
  for row in rows:
    for column in data.draw(st.sets(st.sampled_from(sorted(GOOD)))):
      # Neither the end of a line nor of the text is part of a cell.
      row[column] = data.draw(_TEXTS)
  table, errors = read(folder, rows, target_columns=("crop", "yield"))
  numbers = [row.number for row in table.rows]
  failed = [int(e.reason.split(":")[0].removeprefix("row ")) for e in errors]
  assert sorted(numbers + failed) == list(range(1, count + 1))
  crop, _ = table.targets
  for found in table.rows:
    row = {name: text.strip() for name, text in rows[found.number - 1].items()}
    assert found.files == (folder / row["file"],)
    for name, value in (("lat", found.lat_deg), ("lon", found.lon_deg)):
      np.testing.assert_equal(value, float(row[name] or "nan"))
    assert splits.SPLITS[found.split].startswith(row["split"])
    if row["date"]:
      date = datetime.datetime.fromisoformat(row["date"])
      assert found.date.date() in (
        date.date(),
        date.astimezone(datetime.UTC).date(),
      )
    else:
      assert found.date is None
    code, number = found.targets
    if crop.kind == "class":
      assert ("" if code == -1 else crop.classes[code]) == row["crop"]
    np.testing.assert_equal(number, float(row["yield"] or "nan")) if (
      table.targets[1].kind == "number"
    ) else None


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False))
def test_any_order_of_rows_gives_the_same_records(tmp_path_factory, order):
  folder = tmp_path_factory.mktemp("tables")
  for name in "abcdefgh":
    (folder / f"{name}.png").write_bytes(b"")
  rows = rows_like(
    crop=random.Random(0).choices(["rice", "corn", ""], k=8),
    lat=[str(i) for i in range(8)],
  )
  expected, _ = read(folder, rows, target_columns=("crop",))
  order.shuffle(rows)
  found, _ = read(folder, rows, target_columns=("crop",))

  def without_number(row):
    return (row.name, row.files, row.lat_deg, row.split, row.targets)

  assert list(map(without_number, found.rows)) == list(
    map(without_number, expected.rows)
  )
  assert found.targets == expected.targets
