"""Images and a table of them, and what is built of both."""

import csv
import subprocess
import sys
import zipfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import build

SIZE = 16
COUNT = 40


def write_table(path, rows):
  with open(path, "w", newline="") as file:
    out = csv.DictWriter(file, rows[0].keys())
    out.writeheader()
    out.writerows(rows)
  return path


def read_table(folder):
  with open(folder / "table.csv", newline="") as file:
    return list(csv.DictReader(file))


def build_images(folder, output, rows=None, *, source=None, **kwargs):
  """Builds the images of some rows, those of the table by default."""
  rows = read_table(folder) if rows is None else rows
  table = write_table(output / "table.csv", rows)
  return build.build(
    "images",
    output,
    folder,
    source={"table": str(table), **(source or {})},
    **kwargs,
  )


def records_of(builder):
  """Records by id, with their split."""
  read = tfds.builder_from_directory(builder.data_path)
  return {
    record["id"].decode(): {**record, "split": split}
    for split in read.info.splits
    for record in read.as_data_source(split)
  }


def without(rows, *columns):
  return [
    {name: text for name, text in row.items() if name not in columns}
    for row in rows
  ]


def pixels_of(folder, name):
  if (folder / name).exists():
    return np.asarray(Image.open(folder / name))
  with zipfile.ZipFile(folder / "more.zip").open(name) as file:
    return np.asarray(Image.open(file))


def run_build(folder, output, table, *arguments):
  """Runs the command on a table, without further processes."""
  return subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--config=images"),
      f"--source={folder}",
      f"--table={table}",
      f"--output={output}",
      "--num_workers=0",
      *arguments,
    ],
    capture_output=True,
    text=True,
    check=False,
  )
