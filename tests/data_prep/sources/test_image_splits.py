"""Splits of images: by longitude, by a table, and those of another build."""

import csv

import numpy as np
import pytest
from geotiff_samples import write_band
from image_samples import COUNT, build_images, read_table, records_of, without

from data_prep import configs, grids, sources, splits, tiles


def test_longitude_gives_each_split_its_share_from_west_to_east(
  folder, tmp_path
):
  rows = without(read_table(folder), "split")
  builder = build_images(
    folder, tmp_path, rows, source={"split": "longitude:50,25,25"}
  )
  found = records_of(builder)
  assert len(found) == COUNT
  west = [
    [float(r["lon"]) for r in found.values() if r["split"] == split]
    for split in splits.SPLITS
  ]
  assert list(map(len, west)) == [20, 10, 10]
  assert max(west[0]) < min(west[1]) < max(west[1]) < min(west[2])
  assert "nearest_km" in builder.info.metadata["leaks"]["test"]
  # What the data set keeps restores the rule.
  settings = builder.info.metadata["settings"]
  restored = configs.restore(sources.find("images"), settings)
  assert restored.patches == builder.builder_config.patches


def test_longitude_splits_patches_of_one_image(tmp_path):
  (tmp_path / "in").mkdir()
  grid = grids.Grid(32, 160, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  write_band(tmp_path / "in/a.tif", np.ones((32, 160), np.uint8), grid)
  builder = build_images(
    tmp_path / "in",
    tmp_path,
    [{"file": "a.tif"}],
    source={"split": "longitude:60,20,20"},
    patches={"size": 16},
    bands=("x",),
  )
  counts = [builder.counts[split] for split in splits.SPLITS]
  assert counts == [12, 4, 4]
  assert builder.info.metadata["leaks"]["validation"]["touching"] == 2
  other = tmp_path / "other"
  other.mkdir()
  np.save(other / "b.npy", np.ones((16, 16, 1), np.uint8))
  with pytest.raises(tiles.TileError, match="no longitude is known"):
    build_images(
      other,
      other,
      [{"file": "b.npy"}],
      source={"split": "longitude:60,20,20"},
      bands=("x",),
    )


def test_another_build_takes_the_splits_of_a_file(folder, tmp_path):
  first = build_images(folder, tmp_path)
  listed = first.data_path / "splits.csv"
  with open(listed, newline="") as file:
    lines = list(csv.DictReader(file))
  assert {line["id"]: line["split"] for line in lines} == {
    name: record["split"] for name, record in records_of(first).items()
  }
  # Without those of the table, and one patch less.
  listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
  other = tmp_path / "other"
  other.mkdir()
  rows = without(read_table(folder), "split")
  second = build_images(folder, other, rows, splits=str(listed))
  assert {name: r["split"] for name, r in records_of(second).items()} == {
    line["id"]: line["split"] for line in lines[:-1]
  }
  assert second.counts["not in the splits file"] == 1
  assert (
    first.info.metadata["splits_sha256"]
    != second.info.metadata["splits_sha256"]
  )
