"""A folder of images with a table, for tests that do not change it."""

import zipfile

import numpy as np
import pytest
from image_samples import COUNT, SIZE, write_table
from PIL import Image

from data_prep import splits


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
  """PNGs of 16 x 16 RGB in two folders, one of them zipped, and a table."""
  rng = np.random.default_rng(0)
  folder = tmp_path_factory.mktemp("images")
  rows = []
  with zipfile.ZipFile(folder / "more.zip", "w") as archive:
    for i in range(COUNT):
      pixels = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
      name = f"{'field' if i % 2 else 'wood'}/{i:02d}.png"
      path = folder / name
      path.parent.mkdir(exist_ok=True)
      Image.fromarray(pixels).save(path)
      if i >= COUNT // 2:
        archive.write(path, name)
        path.unlink()
      rows.append(
        {
          "file": name,
          "lat": f"{rng.uniform(-60, 70):.6f}",
          "lon": f"{rng.uniform(-180, 180):.6f}",
          "date": f"2020-{1 + i % 12:02d}-{1 + i % 28:02d}",
          "split": splits.SPLITS[i % 3],
          "cover": name.split("/")[0],
          "height": f"{i / 4}",
        }
      )
  write_table(folder / "table.csv", rows)
  return folder
