"""Tiles cut, flipped and garbled at random, among some good ones."""

import numpy as np

from data_prep import grids, products, tile_writer

NUM_GOOD = 6
# Where a TIFF of this size keeps its tags and GeoKeys.
_HEADER_BYTES = 3000


def write(folder, count, seed):
  """Writes good tiles and bad ones.

  The first bad one is whole, but its corner lies outside of its projection.

  Args:
    folder: Where to; made if missing.
    count: Number of bad tiles.
    seed: Of what happens to them.

  Returns:
    Names of the good tiles' files, and of the bad ones'.
  """
  rng = np.random.default_rng(seed)
  folder.mkdir(parents=True)
  good, garbled = [], []
  for number in range(NUM_GOOD + count):
    name = (
      f"S2A_MSIL2A_2020{1 + number // 28 % 12:02d}{1 + number % 28:02d}T101411"
      f"_N0213_R{number // 336:03d}_T33UXP_20200110T120000_s2.tif"
    )
    path = folder / name
    pixels = rng.integers(1, 9000, (11, 130, 140)).astype(np.uint16)
    pixels[0] = 4
    _write(path, pixels, west=600000.0)
    if number < NUM_GOOD:
      good.append(name)
    elif number == NUM_GOOD:
      _write(path, pixels, west=1e12)
      garbled.append(name)
    else:
      path.write_bytes(_garble(path.read_bytes(), rng))
      garbled.append(name)
  return good, garbled


def _write(path, pixels, west):
  tile_writer.write_planes(
    path,
    pixels,
    bands=products.BANDS_11,
    grid=grids.Grid(130, 140, west, 5500020.0, 10.0, 10.0, 32633),
    dtype="uint16",
    date=None,
  )


def _garble(content, rng):
  content = bytearray(content)
  # As often in the tags as in the pixels.
  end = rng.choice([_HEADER_BYTES, len(content)])
  kind = rng.choice(["cut", "flip", "garble"])
  if kind == "cut":
    return content[: rng.integers(0, end)]
  if kind == "flip":
    for position in rng.integers(0, end, rng.integers(1, 60)):
      content[position] ^= 1 << rng.integers(8)
    return content
  start = int(rng.integers(0, end))
  length = int(rng.integers(1, 400))
  content[start : start + length] = rng.bytes(length)
  return content
