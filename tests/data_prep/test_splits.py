import numpy as np
import pytest

from data_prep import splits

RULE = splits.SplitRule(block_deg=5, buffer_deg=32 / 15, inset_deg=11 / 15)
PATCH = 32 / 15


def patches_on(rule, lats, lons, size):
  """Patches whose upper left corners lie on a grid, and their splits."""
  north, west = (a.ravel() for a in np.meshgrid(lats, lons, indexing="ij"))
  bounds = north - size, west, north, west + size
  return bounds, rule.assign(*bounds)


def gaps(a, b):
  """Distance of each rectangle of `a` to each of `b`: the larger of the two.

  In degrees of latitude and of longitude, the short way round; `[n, m]`.
  """
  south_a, west_a, north_a, east_a = (x[:, None] for x in a)
  south_b, west_b, north_b, east_b = (x[None, :] for x in b)
  lat = np.maximum(south_a - north_b, south_b - north_a)
  # Of the middles, less half of both widths.
  apart = ((west_a + east_a) - (west_b + east_b)) / 2
  apart = np.abs((apart + 180) % 360 - 180)
  lon = apart - ((east_a - west_a) + (east_b - west_b)) / 2
  return np.maximum(lat, lon)


def assert_apart(bounds, split, buffer_deg):
  """No two patches of different splits are nearer than the buffer."""
  kept = [tuple(x[split == s] for x in bounds) for s in range(3)]
  assert all(len(k[0]) for k in kept), "this test sees nothing"
  for s, t in [(0, 1), (0, 2), (1, 2)]:
    for start in range(0, len(kept[s][0]), 500):
      part = tuple(x[start : start + 500] for x in kept[s])
      assert gaps(part, kept[t]).min() >= buffer_deg - 1e-6, (s, t)


@pytest.mark.parametrize(
  ("north", "west"),
  [(60, -20), (20, 165), (90, 100), (-60, -200)],
)  # the open, across 180, at the north pole, at the south pole
@pytest.mark.parametrize("seed", range(3))
def test_splits_keep_their_distance(north, west, seed):
  # Half of the blocks held out, so that all kinds meet, corners too.
  rule = splits.SplitRule(
    block_deg=5,
    buffer_deg=PATCH,
    inset_deg=11 / 15,
    validation=0.25,
    test=0.25,
    seed=seed,
  )
  lats = north - np.arange(0, 30 - PATCH, 1 / 3)
  lons = west + np.arange(0, 60, 1 / 3)
  bounds, split = patches_on(rule, lats, lons, PATCH)
  assert_apart(bounds, split, rule.buffer_deg)


@pytest.mark.parametrize("case", range(6))
def test_the_distance_is_kept_whatever_the_rule(case):
  rng = np.random.default_rng(case)
  block = [0.5, 1, 2.5, 7.5, 10, 15][case]
  buffer_deg = block * rng.uniform(0.05, 0.45)
  rule = splits.SplitRule(
    block_deg=block,
    buffer_deg=buffer_deg,
    inset_deg=buffer_deg * rng.uniform(),
    validation=0.3,
    test=0.3,
    seed=case,
  )
  size = block * rng.uniform(0.05, 0.2)
  span = min(90, 8 * block)
  lats = 40 - np.arange(0, span, block / 9)
  lons = 150 + np.arange(0, span, block / 9)
  bounds, split = patches_on(rule, lats, lons, size)
  assert_apart(bounds, split, buffer_deg)


@pytest.mark.parametrize("inset_deg", [0.0, 11 / 15, PATCH])
def test_held_out_patches_lie_inside_their_block(inset_deg):
  rule = splits.SplitRule(5, PATCH, inset_deg, validation=0.3, test=0.3)
  (south, west, north, east), split = patches_on(
    rule, np.arange(80, 20, -1 / 3), np.arange(150, 210, 1 / 3), 0.5
  )
  held_out = split > splits.TRAIN
  assert held_out.sum() > 50
  inset = inset_deg - 1e-6
  assert (north % 5 <= 5 - inset)[held_out].all()
  assert (south % 5 >= inset)[held_out].all()
  assert (west % 5 >= inset)[held_out].all()
  assert (east % 5 <= 5 - inset)[held_out].all()


def test_a_patch_that_fills_the_shrunk_block_is_kept():
  """What touches an edge does not cross it, whatever the rounding."""
  rule = splits.SplitRule(5, 5.0, 1 / 3, validation=0.0, test=1.0)
  rows, cols = np.mgrid[1:35, 0:72]
  upper, left = 90 - 5 * rows.ravel(), 5 * cols.ravel() - 180
  bounds = np.array(
    [upper - 5 + 1 / 3, left + 1 / 3, upper - 1 / 3, left + 5 - 1 / 3]
  )
  assert (rule.assign(*bounds) == splits.TEST).all()
  bounds += [[0], [1e-3], [0], [1e-3]]
  assert (rule.assign(*bounds) == splits.DROPPED).all()


def test_no_patch_is_dropped_without_need():
  """A train patch is dropped if and only if a held-out block is too near."""
  bounds, split = patches_on(
    RULE, np.arange(60, 40, -1 / 5), np.arange(150, 210, 1 / 5), PATCH
  )
  south, west, north, east = bounds
  rows, cols = RULE.block_of((south + north) / 2, (west + east) / 2)
  own_train = RULE.block_split(rows, cols) == splits.TRAIN
  # Blocks by brute force, all that there are hereabouts.
  block_rows, block_cols = (a.ravel() for a in np.mgrid[3:15, 62:82])
  held = RULE.block_split(block_rows, block_cols % 72) > splits.TRAIN
  upper, left = 90 - 5 * block_rows[held], 5 * block_cols[held] - 180
  near = gaps(bounds, (upper - 5, left, upper, left + 5)).min(1)
  expected = near >= RULE.buffer_deg - RULE.inset_deg - 1e-6
  np.testing.assert_array_equal(
    split[own_train] == splits.TRAIN, expected[own_train]
  )
  assert 0.2 < expected[own_train].mean() < 0.9


@pytest.mark.parametrize("south", [85.0, -90.0])
def test_what_meets_at_a_pole_is_one_block(south):
  lons = np.arange(-180, 180, 7.0)
  ones = np.ones_like(lons)
  bounds = (south + 1) * ones, lons, (south + 4) * ones, lons + 2
  held_out = set()
  for seed in range(40):
    rule = splits.SplitRule(5, 2, 0.5, validation=0.3, test=0.3, seed=seed)
    kinds = set(rule.assign(*bounds).tolist()) - {splits.DROPPED}
    assert len(kinds) <= 1, "both sides of a pole see each other"
    held_out |= kinds
  assert held_out == {splits.TRAIN, splits.VALIDATION, splits.TEST}


def test_a_patch_is_judged_by_itself():
  """Alone, in company, or a turn farther east: the same answer."""
  rng = np.random.default_rng(0)
  north = rng.uniform(-85, 90, 300)
  west = rng.uniform(-180, 180, 300)
  bounds = np.array([north - PATCH, west, north, west + PATCH])
  split = RULE.assign(*bounds)
  alone = [RULE.assign(*bounds[:, [i]])[0] for i in range(300)]
  np.testing.assert_array_equal(split, alone)
  turn = np.array([[0], [360], [0], [360]])
  np.testing.assert_array_equal(split, RULE.assign(*(bounds + turn)))


def test_blocks_of_places():
  row, col = RULE.block_of(
    np.array([89.0, 84.9, 0.1, -0.1, -84.9, -90.0]),
    np.array([50.0, -180.0, 179.9, 180.0, 184.9, 7.0]),
  )
  assert row.tolist() == [0, 1, 17, 18, 34, 35]
  assert col.tolist() == [0, 0, 71, 0, 0, 0]


def test_blocks_split_in_the_asked_proportions():
  rows, cols = (a.ravel() for a in np.mgrid[1:179, 0:360])
  rule = splits.SplitRule(1, 0.2, 0.1, validation=0.15, test=0.05)
  counts = np.bincount(rule.block_split(rows, cols), minlength=3)
  # 64,080 blocks: 0.002 is more than two standard deviations.
  np.testing.assert_allclose(counts / rows.size, [0.8, 0.15, 0.05], atol=3e-3)
  other = splits.SplitRule(1, 0.2, 0.1, validation=0.15, test=0.05, seed=1)
  same = rule.block_split(rows, cols) == other.block_split(rows, cols)
  assert 0.6 < same.mean() < 0.72


def test_hashes_never_change():
  """Data sets built elsewhere or later must agree; so these are constants."""
  assert splits.stable_uniform(0, 3, 5) == 0.16267257550723346
  assert splits.stable_uniform("sea", 1, "x") == 0.9569552430825629
  rows, cols = np.mgrid[7:9, 30:42]
  assert RULE.block_split(rows, cols).tolist() == [
    [0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 1],
  ]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"block_deg": 7}, "divide 180, got 7"),
    ({"block_deg": 0}, "divide 180, got 0"),
    ({"block_deg": -5}, "divide 180, got -5"),
    ({"block_deg": 1e9}, "divide 180, got"),
    ({"inset_deg": 3}, "got 3"),
    ({"inset_deg": -1}, "got -1"),
    ({"test": 0.7, "validation": 0.7}, "got 0.7 and 0.7"),
    ({"test": -0.1, "validation": 0.2}, "got 0.2 and -0.1"),
  ],
)
def test_rules_that_cannot_be_are_refused(changes, message):
  kwargs = {"block_deg": 5, "buffer_deg": 2, "inset_deg": 1} | changes
  with pytest.raises(ValueError, match=message):
    splits.SplitRule(**kwargs)
