"""Patches of `earth` as the experiment on centers takes them: 40 features each.

What can be read off a patch at once: mean, deviation and gradient of each band
and the means of its quarters, for every patch of an image by box filters.
"""

import dataclasses
import itertools

import numpy as np
import tqdm
from scipy import ndimage

from data_prep import grids, places, splits
from data_prep.sources import earth
from geojax import sphere

# Patches of validation and of test, at most.
NUM_EVALUATED = 1024


def load_patches(num_train, seed=0):
  """Features and places of patches of every split.

  Args:
    num_train: Patches of train, at most.
    seed: Seed of the choice of patches and of their months.

  Returns:
    A dict by split of `features`, scaled by train, `[n, 40]`, and `x`, unit
    vectors `[n, 3]`, both float32 and in random order.
  """
  config = earth.CONFIG
  rule = dataclasses.replace(
    config.patches, stride=2, train_kept=1.0, sea_kept=0.0
  )
  south, west, north, east = config.source.region
  per_degree = earth.PIXELS_PER_DEGREE
  top, bottom = ((90 - lat) * per_degree for lat in (north, south))
  height, width = bottom - top, (east - west) * per_degree
  grid = grids.Grid(
    height, width, west, north, 1 / per_degree, 1 / per_degree, 4326
  )
  chosen = places.select_places(grid, rule)
  rng = np.random.default_rng(seed)
  limits = {"train": num_train}
  picked = {}
  for index, split in enumerate(splits.SPLITS):
    mine = np.flatnonzero(chosen.split == index)
    # Every place in every month; then as many of them as are asked for.
    count = min(len(mine) * 12, limits.get(split, NUM_EVALUATED))
    draw = rng.choice(len(mine) * 12, count, replace=False)
    picked[split] = mine[draw // 12], draw % 12 + 1
  window = slice(top, bottom), slice(0, width)
  patches = _band_statistics(config.source, window, rule.size, chosen, picked)
  mean, std = patches["train"].mean(axis=0), patches["train"].std(axis=0)
  return {
    split: {
      "features": (features - mean) / std,
      "x": sphere.latlon_to_unit(
        chosen.lat_deg[picked[split][0]], chosen.lon_deg[picked[split][0]]
      ).astype(np.float32),
    }
    for split, features in patches.items()
  }


def _band_statistics(source, window, size, chosen, picked):
  """Statistics of every band of every picked patch, `[n, bands x 8]`."""
  num_features = 8 * len(source.bands)
  patches = {
    split: np.empty((len(rows), num_features), np.float32)
    for split, (rows, _) in picked.items()
  }
  for month in tqdm.trange(1, 13, desc="months", disable=None):
    image = source.open_month(None, month)(*window).astype(np.float32)
    for band in range(len(source.bands)):
      columns = slice(8 * band, 8 * band + 8)
      tables = _window_tables(image[..., band], size)
      for split, (index, months) in picked.items():
        seen = np.flatnonzero(months == month)
        row, col = chosen.rows[index[seen]], chosen.cols[index[seen]]
        patches[split][seen, columns] = np.stack(
          [table[row + r, col + c] for table, r, c in tables], axis=-1
        )
  return patches


def _window_tables(band, size):
  """Tables of statistics, and where a patch's lies from its first pixel."""
  half, quarter = size // 2, size // 4
  band = band - band.mean()
  mean = ndimage.uniform_filter(band, size)
  square = ndimage.uniform_filter(np.square(band), size)
  steps = [np.abs(np.diff(band, axis=a, append=0)) for a in (0, 1)]
  whole = [mean, np.sqrt(np.maximum(square - np.square(mean), 0))]
  whole += [ndimage.uniform_filter(step, size) for step in steps]
  quarters = ndimage.uniform_filter(band, half)
  return [(table, half, half) for table in whole] + [
    (quarters, r, c)
    for r, c in itertools.product((quarter, half + quarter), repeat=2)
  ]
