"""Targets of several classes at once, from a table to records."""

import json

import numpy as np
import pytest
from image_samples import (
  build_images,
  read_table,
  records_of,
  run_build,
  write_table,
)

from data_prep import report, targets, tiles

ASKED = {"target": ("seen:classes",)}
CELLS = ("river|wood", "wood | road", "-", "", "wood|river|road")
CLASSES = ("river", "road", "wood")


def with_cells(folder, cells=CELLS):
  """Rows of the table, with a column `seen` that repeats some cells."""
  return [
    {**row, "seen": cells[i % len(cells)]}
    for i, row in enumerate(read_table(folder))
  ]


def errors_of(builder):
  return [str(error) for error in builder.errors]


def test_the_command_writes_what_cells_list(folder, tmp_path):
  rows = with_cells(folder)
  table = write_table(tmp_path / "table.csv", rows)
  done = run_build(folder, tmp_path, table, "--target=seen:classes")
  assert done.returncode == 0, done.stderr
  assert "target seen: 3 classes, any number at once, 20.0% unknown" in (
    done.stdout
  )
  builder = build_images(folder, tmp_path, rows, source=ASKED)
  assert not builder.counts
  (target,) = builder.builder_config.targets
  assert target == targets.Target("seen", "classes", CLASSES)
  records = records_of(builder)
  assert len(records) == len(rows)
  counts = {split: dict.fromkeys(CLASSES, 0) for split in ("train", "test")}
  for row in rows:
    record = records[f"{row['file'].removesuffix('.png')}/0_0"]
    seen = row["seen"].replace(" ", "").split("|")
    expected = [255] * 3 if row["seen"] == "" else [c in seen for c in CLASSES]
    assert record["seen"].dtype == np.uint8
    np.testing.assert_array_equal(record["seen"], expected)
    for name in {*CLASSES} & {*seen} if row["split"] in counts else ():
      counts[row["split"]][name] += 1
  report = json.loads((tmp_path / "report.json").read_text())
  (described,) = report["targets"]
  assert described == builder.info.metadata["targets"][0]
  assert described["kind"] == "classes"
  assert described["classes"] == list(CLASSES)
  for split, numbers in counts.items():
    assert described["counts"][split] == numbers
    known = sum(r["split"] == split and r["seen"] != "" for r in rows)
    assert described["known"][split] == known
  assert described["unknown"] == sum(not r["seen"] for r in rows) / len(rows)


@pytest.mark.parametrize(
  ("cell", "reason"),
  [
    ("wood|lake", "the only one of seen 'lake'; correct the spelling"),
    ("wood||road", "seen is 'wood||road', expected names separated by '|'"),
    ("wood|", "seen is 'wood|', expected names separated by '|', each once"),
    ("wood|wood", "seen is 'wood|wood', expected names separated by '|', each"),
    ("wood|-", "seen is 'wood|-', expected names separated by '|', each once"),
    ("|", "seen is '|', expected names separated by '|', each once, or '-' f"),
  ],
)
def test_a_cell_that_cannot_be_is_an_error_of_its_row(
  folder, tmp_path, cell, reason
):
  rows = with_cells(folder)
  rows[4]["seen"] = cell
  builder = build_images(folder, tmp_path, rows, source=ASKED)
  (error,) = errors_of(builder)
  assert f"row 5: {reason}" in error
  (target,) = builder.builder_config.targets
  assert target.classes == CLASSES
  assert len(records_of(builder)) == len(rows) - 1


def test_a_class_that_loses_its_second_row_is_an_error_too(folder, tmp_path):
  """`lake` is in two rows, one of which `pond` alone leaves out."""
  rows = with_cells(folder)
  rows[2]["seen"], rows[7]["seen"] = "lake|pond", "wood|lake"
  builder = build_images(folder, tmp_path, rows, source=ASKED)
  first, second = errors_of(builder)
  assert "row 3: the only one of seen 'pond'" in first
  assert "row 8: the only one of seen 'lake'" in second


def test_a_column_without_classes_is_an_error(folder, tmp_path):
  for cell in ("", "-"):
    rows = with_cells(folder, (cell,))
    with pytest.raises(tiles.TileError, match="no row has a class of seen tha"):
      build_images(folder, tmp_path, rows, source=ASKED)


def test_a_split_that_lacks_a_class_is_named():
  target = targets.Target("seen", "classes", ("a", "b"))
  values = {
    "train": np.array([[1, 0], [1, 1], [255, 255]], np.uint8),
    "test": np.array([[1, 0], [0, 0]], np.uint8),
  }
  described = target.describe(values)
  assert described["counts"] == {
    "train": {"a": 2, "b": 1},
    "test": {"a": 1, "b": 0},
  }
  assert described["known"] == {"train": 2, "test": 2}
  assert described["unknown"] == pytest.approx(1 / 5)
  (sentence,) = targets.warn(described)
  assert "target seen: split test has no b; with smaller blocks" in sentence
  (sentence,) = targets.warn(described, has_rule=False)
  assert sentence == "target seen: split test has no b"


def test_codes_go_by_their_value():
  def fail(number, reason):
    raise AssertionError(f"row {number}: {reason}")

  target = targets.find("seen", ["10|9", "9", "10", ""], "classes", fail)
  assert target.classes == ("9", "10")
  assert target.parse("10") == (0, 1)
  assert target.parse("-") == (0, 0)
  assert target.parse("") == (255, 255)


def test_bars_are_shares_of_the_known_records():
  target = targets.Target("seen", "classes", ("a", "b"))
  seen = np.array([[1, 1], [0, 1], [255, 255]], np.uint8)
  found = {
    "seen": seen,
    **dict.fromkeys(("lat", "lon", "day"), np.full(3, np.nan)),
  }
  listed = [target.describe({"train": seen})]
  figure = report.draw_places({"train": found}, listed)
  widths = [bar.get_width() for bar in figure.axes[-1].patches]
  assert widths == [50, 100]
