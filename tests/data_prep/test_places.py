import dataclasses

import numpy as np
import pytest

from data_prep import climate_maps, grids, labels, places, sources, splits

CONFIG = sources.find("earth")


def block_grid(row, col):
  """The grid of a block's tile, without cutting it."""
  rows, cols = CONFIG.source.window(row, col)
  return grids.Grid(
    height=rows.stop - rows.start,
    width=cols.stop - cols.start,
    west=-180 + 5.0 * col,
    north=90 - 5.0 * row,
    pixel_width=1 / 15,
    pixel_height=1 / 15,
    epsg=4326,
  )


@pytest.fixture(scope="module")
def alps():
  return block_grid(8, 38)


# Of which nothing is left out.
ALL = places.PatchRule(
  size=32,
  stride=15,
  split=splits.SplitRule(5, 0, 0, validation=0.0, test=0.0),
  train_kept=1.0,
  max_sea=1.0,
  sea_kept=1.0,
)


@pytest.fixture(scope="module")
def whole_earth():
  """Pixel rows and columns and split of every place of the `earth` config."""
  found = []
  for row, col in CONFIG.source.blocks():
    chosen = places.select_places.__wrapped__(
      block_grid(row, col), CONFIG.patches
    )
    found.append((75 * row + chosen.rows, 75 * col + chosen.cols, chosen.split))
  return tuple(map(np.concatenate, zip(*found, strict=True)))


def painted(rows, cols, grow):
  """The pixels that patches cover, grown on all sides; wraps eastwards."""
  image = np.zeros((2700, 5400), bool)
  for row, col in zip(rows, cols, strict=True):
    across = np.arange(col - grow, col + 32 + grow) % 5400
    image[max(row - grow, 0) : row + 32 + grow, across] = True
  return image


@pytest.mark.parametrize(
  ("split", "other"),
  [("train", "test"), ("train", "validation"), ("validation", "test")],
)
def test_splits_of_the_earth_are_a_patch_width_apart(whole_earth, split, other):
  rows, cols, kinds = whole_earth
  own = kinds == splits.SPLITS.index(split)
  others = kinds == splits.SPLITS.index(other)
  assert own.sum() > 100
  assert others.sum() > 100
  # 32 pixels lie between: grown by 16 each, they do not overlap.
  mine = painted(rows[own], cols[own], 16)
  theirs = painted(rows[others], cols[others], 16)
  assert not (mine & theirs).any()


def test_held_out_places_lie_inside_their_blocks(whole_earth):
  rows, cols, kinds = whole_earth
  # The row of blocks at a pole is one block.
  held_out = (kinds > splits.TRAIN) & (rows >= 75) & (rows < 2625)
  assert held_out.sum() > 300
  inset = round(CONFIG.patches.split.inset_deg * 15)
  for first in (rows[held_out], cols[held_out]):
    assert (first % 75 >= inset).all()
    assert (first % 75 + 32 <= 75 - inset).all()


def test_no_place_is_chosen_twice(whole_earth):
  rows, cols, _ = whole_earth
  assert len(np.unique(rows * 5400 + cols)) == len(rows)


def test_without_rules_every_patch_of_the_grid_is_a_place(alps):
  chosen = places.select_places(alps, ALL)
  corners = list(zip(chosen.rows, chosen.cols, strict=True))
  assert corners == [(15 * i, 15 * j) for i in range(5) for j in range(5)]
  assert chosen.left_out == dict.fromkeys(places.REASONS, 0)
  # A patch's middle is 16 pixels of 1/15 degree off its corner.
  np.testing.assert_allclose(
    chosen.lat_deg, 50 - (chosen.rows + 16) / 15, atol=1e-9
  )
  np.testing.assert_allclose(
    chosen.lon_deg, 10 + (chosen.cols + 16) / 15, atol=1e-9
  )
  np.testing.assert_array_equal(
    chosen.climate,
    labels.climate_fractions(
      alps, climate_maps.load(), chosen.rows, chosen.cols, 32
    ),
  )


def test_what_is_left_out_is_counted(alps):
  for rule in (CONFIG.patches, dataclasses.replace(CONFIG.patches, stride=15)):
    chosen = places.select_places(alps, rule)
    starts = len(range(0, alps.height - 32 + 1, rule.stride))
    assert len(chosen.rows) + sum(chosen.left_out.values()) == starts**2
    assert tuple(chosen.left_out) == places.REASONS


def test_train_places_are_thinned_and_no_others(alps):
  every = dataclasses.replace(
    ALL,
    size=8,
    stride=1,
    split=splits.SplitRule(1, 0, 0, validation=0.3, test=0.3),
  )
  some = dataclasses.replace(every, train_kept=0.35)
  whole, thinned = (
    np.bincount(places.select_places(alps, rule).split, minlength=3)
    for rule in (every, some)
  )
  assert whole.min() > 500
  assert abs(thinned[splits.TRAIN] / whole[splits.TRAIN] - 0.35) < 0.03
  np.testing.assert_array_equal(thinned[1:], whole[1:])


def test_sea_is_thinned_but_land_is_not():
  grid = block_grid(10, 34)  # the coast of Portugal
  every, some, none = (
    places.select_places(
      grid, dataclasses.replace(ALL, stride=1, max_sea=0.5, sea_kept=kept)
    )
    for kept in (1.0, 0.25, 0.0)
  )
  is_sea = every.climate[:, 0] > 0.5
  assert 400 < is_sea.sum() < len(is_sea) - 400
  assert len(none.rows) == (~is_sea).sum()
  assert (none.climate[:, 0] <= 0.5).all()
  assert none.left_out[places.SEA] == is_sea.sum()
  kept = (len(some.rows) - len(none.rows)) / is_sea.sum()
  assert abs(kept - 0.25) < 0.06


def test_tiles_that_overlap_agree_on_a_place():
  """Thinned by place, not by tile."""
  rule = dataclasses.replace(
    ALL, stride=1, train_kept=0.7, max_sea=0.5, sea_kept=0.5
  )
  left, right = (block_grid(5, 30 + i) for i in range(2))
  kept = []
  for grid, cols in [(left, range(75, 103)), (right, range(28))]:
    chosen = places.select_places(dataclasses.replace(grid, width=140), rule)
    inside = np.isin(chosen.cols, cols)
    kept.append(
      set(
        zip(
          chosen.rows[inside].tolist(),
          (chosen.cols[inside] - cols[0]).tolist(),
          strict=True,
        )
      )
    )
  assert kept[0] == kept[1]
  assert 100 < len(kept[0]) < 71 * 28 - 100


def test_a_tile_smaller_than_a_patch_has_no_place():
  grid = grids.Grid(20, 92, 10.0, 50.0, 1 / 15, 1 / 15, 4326)
  chosen = places.select_places(grid, CONFIG.patches)
  assert chosen.rows.shape == (0,)
  assert chosen.climate.shape == (0, 31)
