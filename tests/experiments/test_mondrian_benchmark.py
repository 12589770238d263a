"""Levels by groups: what is known to gain by them does, and nothing else."""

import numpy as np

from experiments.benchmarks import mondrian


def make_table(power_of_third, seed=0):
  """Levels whose distribution differs between thirds, in 60 blocks."""
  rng = np.random.default_rng(seed)
  count = 6000
  third = rng.integers(3, size=count)
  return {
    "coords_counts": rng.random(count) < 0.9,
    "block": rng.integers(60, size=count),
    "raw_credible_level": rng.random(count) ** np.array(power_of_third)[third],
    "raw_area_km2": np.stack([third + rng.random(count)] * 3, axis=-1),
  }


def spread(values):
  return (values.max(axis=2) - values.min(axis=2)).mean(axis=0)


def test_groups_that_differ_gain_by_maps_of_their_own():
  # The surest third is too sure, the last one not sure enough.
  found = mondrian.measure([make_table((0.5, 1, 2))], num_halves=4)
  one, own = found["one map"], found["a map for each third"]
  assert spread(one)[:2].min() > 0.2
  assert spread(own).max() < 0.06
  np.testing.assert_allclose(own.mean(axis=(0, 2)), (0.5, 0.8, 0.95), atol=0.03)
  np.testing.assert_allclose(
    found["the model's own"].mean(axis=0)[:, 0],
    np.square((0.5, 0.8, 0.95)),
    atol=0.03,
  )


def test_groups_that_are_alike_gain_nothing():
  found = mondrian.measure([make_table((1, 1, 1))], num_halves=4)
  one, own = found["one map"], found["a map for each third"]
  assert (spread(own) >= spread(one) - 0.01).all()
  lines = mondrian.describe(found).splitlines()
  assert len(lines) == 2 + 3 * 3
  assert lines[2].startswith("| the model's own | 50% | 0.")
