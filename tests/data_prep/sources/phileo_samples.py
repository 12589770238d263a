"""Arrays in the layout of PhilEO-Bench, and what is built of them."""

import subprocess
import sys

import numpy as np
import tensorflow_datasets as tfds

from data_prep import (
  build,
)

SIZE = 16
CODES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
COUNTS = {"train": 7, "val": 3, "test": 4}


def make_arrays(seed, count, size=SIZE):
  """What the files of one tile and split hold, by the end of their names."""
  rng = np.random.default_rng(seed)
  shape = (count, size, size)
  return {
    "s2": rng.integers(1, 9000, (*shape, 10)).astype(np.uint16),
    "label_roads": rng.uniform(0, 1, (*shape, 1)).astype(np.float32),
    "label_building": rng.uniform(0, 100, (*shape, 1)),
    "label_lc": rng.choice([0, *CODES], (*shape, 1)).astype(np.uint8),
  }


def save(folder, region, split, arrays):
  folder.mkdir(parents=True, exist_ok=True)
  for name, values in arrays.items():
    if values is not None:
      np.save(folder / f"{region}_{split}_{name}.npy", values)


def save_all(folder, *regions, **changes):
  """Saves all splits of some tiles; returns the arrays by stem."""
  kept = {}
  for i, region in enumerate(regions):
    for j, (split, count) in enumerate(COUNTS.items()):
      kept[f"{region}_{split}"] = arrays = make_arrays(9 * i + j, count)
      for name, function in changes.items():
        arrays[name] = function(arrays.get(name), count)
      save(folder, region, split, arrays)
  return kept


def run(folder, output, *arguments, size=SIZE):
  return subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--config=phileo"),
      *(f"--source={folder}", f"--output={output}", "--num_workers=0"),
      *(f"--size={size}", *arguments),
    ],
    capture_output=True,
    text=True,
    check=False,
  )


def build_phileo(folder, output, patches=None, **kwargs):
  patches = {"size": SIZE, **(patches or {})}
  return build.build("phileo", output, folder, patches=patches, **kwargs)


def read(output, name="phileo"):
  """The builder, and its records by id with their split."""
  builder = tfds.builder_from_directory(output / f"geo_tiles/{name}/1.0.0")
  return builder, {
    record["id"].decode(): {**record, "split": split}
    for split in builder.info.splits
    for record in builder.as_data_source(split)
  }


def described(builder, name):
  return {t["name"]: t for t in builder.info.metadata["targets"]}[name]


def errors_of(builder):
  return [
    f"{error['file']}: {error['reason']}"
    for error in builder.info.metadata["errors"]
  ]


def of_patches(width):
  def make(values, count):
    del values
    return np.eye(width)[np.arange(count) % width]

  return make
