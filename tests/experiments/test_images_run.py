"""A run on images of which not all is known, by the commands."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny_encoder
from PIL import Image

from data_prep import build, splits, tile_writer

_ROOT = pathlib.Path(__file__).parents[2]
_COUNT = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """No image has a date, and every sixth no place."""
  folder = tmp_path_factory.mktemp("images")
  rng = np.random.default_rng(0)
  with open(folder / "table.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(("file", "lat", "lon", "split"))
    for i in range(_COUNT):
      pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
      Image.fromarray(pixels).save(folder / f"{i:02d}.png")
      # Land: places and dates at sea do not count.
      place = (rng.uniform(48, 52), rng.uniform(6, 24))
      rows.writerow(
        (
          f"{i:02d}.png",
          *(("", "") if i % 6 == 0 else place),
          splits.SPLITS[i % 5 % 3],
        )
      )
  build.build(
    "images",
    folder,
    folder,
    source={"table": str(folder / "table.csv")},
    name="mine",
  )
  return folder


def run(script, *arguments):
  return subprocess.run(
    [sys.executable, f"experiments/{script}", *arguments],
    cwd=_ROOT,
    env={**os.environ, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )


def test_it_trains_and_is_compared_without_dates(data, tmp_path):
  workdir = tmp_path / "run"
  done = run(
    "main.py",
    "--config=experiments/configs/base.py",
    f"--config.data.dir={data}",
    "--config.data.name=geo_tiles/mine",
    "--config.tasks=('coords', 'climate')",
    "--config.num_steps=4",
    "--config.eval_every=4",
    "--config.data.batch_size=8",
    "--config.mixture.num_centers=4",
    *tiny_encoder.FLAGS,
    f"--workdir={workdir}",
  )
  assert done.returncode == 0, done.stderr
  table = done.stdout
  for words in ("nearest patch", "best constant", "uniform", "median distance"):
    assert words in table
  assert "day of the year" not in table
  metrics = json.loads((workdir / "eval/test/metrics.json").read_text())
  assert not [name for name in metrics if "date" in name]
  assert not [n for n in metrics["baselines"]["uniform"] if "date" in n]
  # Only those whose place is known count.
  is_test = [i for i in range(_COUNT) if i % 5 % 3 == 2]
  assert metrics["count"] == sum(i % 6 > 0 for i in is_test)
  assert "day of the year" not in (workdir / "report.html").read_text()
  predicted = tmp_path / "predicted"
  done = run(
    "predict.py",
    f"--workdir={workdir}",
    *(str(path) for path in write_tiles(tmp_path)),
    f"--output={predicted}",
  )
  # A PNG has no place to be compared with.
  assert done.returncode == 3
  assert "no_place.png: no georeference" in done.stderr
  found = json.loads((predicted / "tile/prediction.json").read_text())
  assert "when" not in found
  assert found["where"]["truth"]["distance_km"] > 0


def write_tiles(folder):
  """A georeferenced image without a date, and one without a georeference."""
  pixels = np.random.default_rng(1).integers(0, 255, (40, 70, 3), np.uint8)
  tile_writer.write_tile(
    folder / "tile.tif",
    pixels,
    bands=("a", "b", "c"),
    west=10.0,
    north=50.0,
    pixel_size=1e-3,
    date=None,
  )
  Image.fromarray(pixels).save(folder / "no_place.png")
  return folder / "tile.tif", folder / "no_place.png"


def test_a_task_whose_label_is_not_there_is_named(data, tmp_path):
  done = run(
    "main.py",
    "--config=experiments/configs/base.py",
    f"--config.data.dir={data}",
    "--config.data.name=geo_tiles/mine",
    "--config.mixture.num_centers=4",
    *tiny_encoder.FLAGS,
    f"--workdir={tmp_path / 'run'}",
  )
  assert done.returncode == 1
  assert "task 'date' reads date, but the records have climate, coords" in (
    done.stderr
  )
  assert "leave it out of config.tasks" in done.stderr
