"""Draws have the right sizes, are nested, and change only with their seed."""

import numpy as np
import pytest

from geojax.transfer import draws

_SHOTS = (1, 5, 10, 60)


def _groups(seed=0, sizes=(100, 0, 3, 30, 7)):
  """Groups 0, 2, 3 and 4 of these sizes, and 40 examples of none."""
  groups = np.concatenate(
    [np.repeat(np.arange(len(sizes)), sizes), np.repeat([-1, -7], 20)]
  )
  return np.random.default_rng(seed).permutation(groups)


def test_counts_of_each_group():
  groups = _groups()
  drawn = draws.draw(groups, _SHOTS, seed=0)
  assert list(drawn) == list(_SHOTS)
  for number, positions in drawn.items():
    assert (np.diff(positions) > 0).all()
    assert (groups[positions] >= 0).all()
    counts = np.bincount(groups[positions], minlength=5)
    expected = [min(number, size) for size in (100, 0, 3, 30, 7)]
    assert counts.tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_nested(seed):
  drawn = draws.draw(_groups(), (0, 60, 5, 1, 10), seed=seed)
  for fewer, more in ((1, 5), (5, 10), (10, 60), (60, 0)):
    assert set(drawn[fewer]) < set(drawn[more])


def test_zero_shots_are_all_that_are_eligible():
  groups = _groups()
  everything = draws.draw(groups, [0], seed=0)[0]
  np.testing.assert_array_equal(everything, np.flatnonzero(groups >= 0))


def test_the_same_seed_gives_the_same_draws():
  groups = _groups()
  first = draws.draw(groups, _SHOTS, seed=1)
  alone = draws.draw(groups, [5], seed=1)
  np.testing.assert_array_equal(first[5], alone[5])
  other = draws.draw(groups, _SHOTS, seed=2)
  for number in (1, 5, 10, 60):
    assert set(first[number]) != set(other[number])


def test_draws_of_a_group_do_not_depend_on_others():
  groups = _groups()
  fewer = np.where(np.isin(groups, (0, 2)), -1, groups)
  more = np.concatenate([groups, np.repeat([9, 1, -1], 50)])
  expected = draws.draw(groups, [5], seed=0)[5]
  for others in (fewer, more):
    drawn = draws.draw(others, [5], seed=0)[5]
    for group in (3, 4):
      np.testing.assert_array_equal(
        drawn[others[drawn] == group], expected[groups[expected] == group]
      )


def test_groups_of_one_size_are_shuffled_apart():
  groups = np.repeat([0, 1], 100)
  drawn = draws.draw(groups, [10], seed=0)[10]
  assert set(drawn[:10]) != set(drawn[10:] - 100)


def test_each_example_is_drawn_as_often_as_any_other():
  groups = np.repeat([0, 1], (20, 40))
  times = np.zeros(60)
  for seed in range(1000):
    times[draws.draw(groups, [5], seed=seed)[5]] += 1
  expected = np.repeat([250, 125], (20, 40))
  assert (np.abs(times - expected) < 5 * np.sqrt(expected)).all()


def test_nothing_to_draw():
  for groups in (np.full(4, -1), np.zeros(0, int)):
    drawn = draws.draw(groups, (0, 3), seed=0)
    assert [len(positions) for positions in drawn.values()] == [0, 0]


def test_wrong_arguments_raise():
  for groups in ([0.0, 1.0], [[0, 1]], [True]):
    with pytest.raises(ValueError, match="groups must be integers"):
      draws.draw(groups, [1], seed=0)
  with pytest.raises(ValueError, match="must not be negative"):
    draws.draw([0, 1], [1, -1], seed=0)
  with pytest.raises(TypeError):
    draws.draw([0, 1], [1.5], seed=0)


def test_regions_are_cells_of_longitude_and_latitude():
  rng = np.random.default_rng(0)
  lat, lon = rng.uniform(-90, 90, 500), rng.uniform(-180, 180, 500)
  found = draws.regions(lat, lon, size_deg=10)
  assert found.dtype == np.int64
  for group, y, x in zip(found, lat, lon, strict=True):
    south, west = -90 + 10 * (group // 36), -180 + 10 * (group % 36)
    assert south <= y < south + 10
    assert west <= x < west + 10


def test_regions_at_the_edges():
  found = draws.regions(
    [-90, 90, 90, 0, 0, 0, 0, -0.1],
    [-180, 179, -181, 180, -180, 359.5, -0.5, -0.5],
    size_deg=10,
  )
  assert found[0] == 0
  assert found[1] == found[2] == 18 * 36 - 1
  assert found[3] == found[4]
  assert found[5] == found[6] == found[7] + 36
  # Rows of 70, 70 and 40 degrees; columns of 70, five times, and of 10.
  odd = draws.regions([-90, 60, 89, 90], [-180, 175, 165, 0], size_deg=70)
  assert odd.tolist() == [0, 2 * 6 + 5, 2 * 6 + 4, 2 * 6 + 2]
  # One bucket, however large.
  assert draws.regions([-90, 90], [-180, 179], size_deg=500).tolist() == [0, 0]


def test_unknown_places_are_in_no_region():
  lat, lon = np.array([[np.nan, 1, np.nan, 5], [1, np.nan, np.nan, 5]])
  found = draws.regions(lat, lon, size_deg=2)
  assert found[:3].tolist() == [-1, -1, -1]
  assert found[3] >= 0
  for size_deg in (0, -1, np.nan):
    with pytest.raises(ValueError, match="size_deg must be positive"):
      draws.regions(lat, lon, size_deg=size_deg)


def test_hash_of_ids():
  ids = ["tile/0_1", "tile/0_0", "é"]
  # printf '["tile/0_0", "tile/0_1", "\\u00e9"]' | sha256sum
  expected = "1238a3d3ef852ace"
  assert draws.ids_hash(ids) == expected
  assert draws.ids_hash(iter(ids[::-1])) == expected
  assert draws.ids_hash(np.array(ids)) == expected
  assert draws.ids_hash([i.encode() for i in ids]) == expected
  others = (ids[:2], [*ids, "é"], ["tile/0_1tile/0_0", "é"], [])
  assert len({draws.ids_hash(other) for other in (ids, *others)}) == 5
