"""Calibrated levels, against order statistics and simulated blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from geojax import mixture, sphere
from geojax.evaluation import conformal

PROMISED = np.array([0.5, 0.8, 0.95])


def test_blocks_of_one_patch_are_order_statistics():
  level = np.random.default_rng(0).permutation(np.arange(1, 256) ** 2 / 256**2)
  found = conformal.fit(level, np.arange(255))
  assert found["num_blocks"] == 255
  # The i-th of 255 is reached with probability i/256.
  np.testing.assert_allclose(
    found["level_knots"], (np.arange(257) / 256) ** 2, rtol=1e-6
  )


def test_blocks_weigh_the_same_whatever_their_patches():
  level = np.array([0.1, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65])
  found = conformal.fit(level, np.array([7, 3, 3, 3, 3, 3, 3]))
  knots = found["level_knots"]
  assert found["num_blocks"] == 2
  # A third each; the third that is left over is spread over both ends.
  for reached, expected in ((1 / 3, 0.1), (19 / 36, 0.6), (29 / 36, 0.65)):
    found = np.interp(reached, np.arange(257) / 256, knots)
    assert found == pytest.approx(expected, abs=0.01)


def test_without_a_truth_levels_stay():
  found = conformal.fit(np.zeros(0), np.zeros(0, int))
  assert found["num_blocks"] == 0
  np.testing.assert_allclose(found["level_knots"], np.arange(257) / 256)
  level = np.random.default_rng(0).random((4, 5))
  assert conformal.calibrate(level, None) is level
  assert conformal.model_level(level, None) is level


@pytest.mark.parametrize("xp", [np, jnp])
def test_the_two_directions_are_inverse(xp):
  rng = np.random.default_rng(1)
  knots = conformal.fit(rng.beta(2, 5, 400), rng.integers(0, 40, 400))
  knots = knots["level_knots"]
  assert (np.diff(knots) > 0).all()
  promised = xp.asarray(rng.random((30, 3)), dtype=np.float32)
  back = conformal.calibrate(conformal.model_level(promised, knots), knots)
  assert isinstance(back, type(promised))
  assert back.shape == (30, 3)
  np.testing.assert_allclose(back, promised, atol=1e-4)


def test_levels_that_many_share_count_as_reached():
  # Half of the truths are the answer itself, as the likeliest of some classes.
  level = np.concatenate([np.zeros(500), np.linspace(0.5, 1, 500)])
  knots = conformal.fit(level, np.arange(1000))["level_knots"]
  assert conformal.calibrate(0.0, knots) == pytest.approx(0.5, abs=0.01)
  assert conformal.model_level(0.4, knots) == 0


def simulate(rng, num_blocks):
  """Levels of patches of blocks that differ, in number and in how hard."""
  size = rng.choice([1, 4, 16], num_blocks)
  block = np.repeat(np.arange(num_blocks), size)
  mean = rng.normal(1.0, 1.0, num_blocks)[block]
  return special.ndtr(mean + rng.normal(size=len(block))), block


@pytest.mark.parametrize("num_blocks", [10, 31])
def test_new_blocks_are_covered_as_promised(num_blocks):
  """The mean over draws of blocks, far from the model's own levels."""
  rng = np.random.default_rng(2)
  covered, raw = [], []
  for _ in range(2000):
    level, block = simulate(rng, num_blocks + 1)
    old = block < num_blocks
    knots = conformal.fit(level[old], block[old])["level_knots"]
    new = level[~old]
    covered.append(
      np.mean(conformal.calibrate(new, knots)[:, None] <= PROMISED, 0)
    )
    raw.append(np.mean(new[:, None] <= PROMISED, 0))
  assert np.abs(np.mean(raw, axis=0) - PROMISED).min() > 0.05
  covered = np.mean(covered, axis=0)
  known = num_blocks / (num_blocks + 1) > PROMISED
  np.testing.assert_allclose(covered[known], PROMISED[known], atol=0.015)
  # Above the last block nothing is known: no less is held, and some more.
  assert (covered >= PROMISED - 0.015).all()


def test_patches_that_are_taken_for_independent_promise_too_much():
  """Why the block is the unit: the same with a block a patch."""
  rng = np.random.default_rng(3)
  covered = []
  for _ in range(2000):
    level, block = simulate(rng, 4)
    old = block < 3
    knots = [
      conformal.fit(level[old], unit)["level_knots"]
      for unit in (block[old], np.arange(old.sum()))
    ]
    new = level[~old]
    covered.append([np.mean(conformal.calibrate(new, k) <= 0.8) for k in knots])
  by_block, by_patch = np.mean(covered, axis=0)
  assert by_block == pytest.approx(0.8, abs=0.03)
  assert by_patch < 0.75


def test_a_known_posterior_is_left_and_one_too_sure_is_mended():
  """Places drawn from a mixture, predicted by it and by one twice as sure."""
  rng = np.random.default_rng(4)
  count, log_kappa = 4000, np.log(np.float32([30, 80, 200]))
  mu = np.float32(sphere.fibonacci_lattice(3))
  logits = np.float32(rng.normal(size=(count, 3)))
  odds = np.exp(logits)
  share = np.cumsum(odds / odds.sum(1, keepdims=True), axis=1)
  chosen = np.sum(rng.random((count, 1)) > share[:, :2], axis=1)
  x = np.float32([vmf_draw(rng, mu[i], np.exp(log_kappa[i])) for i in chosen])
  level = jax.jit(mixture.credible_level)
  half = np.arange(count) < count // 2
  for sharper, gap in ((1.0, 0.0), (2.0, 0.1)):
    raw = np.asarray(level(x, logits, mu, log_kappa + np.log(sharper)))
    found = np.mean(raw[~half, None] <= PROMISED, axis=0)
    assert (PROMISED - found)[0] == pytest.approx(
      gap, abs=0.03 if not gap else 0.08
    )
    knots = conformal.fit(raw[half], np.arange(count // 2))["level_knots"]
    if not gap:
      np.testing.assert_allclose(knots, np.arange(257) / 256, atol=0.04)
    served = conformal.calibrate(raw[~half], knots)
    np.testing.assert_allclose(
      np.mean(served[:, None] <= PROMISED, axis=0), PROMISED, atol=0.03
    )


def vmf_draw(rng, mu, kappa):
  """One unit vector of a von Mises-Fisher distribution."""
  z = 1 + np.log1p(-rng.random() * -np.expm1(-2 * kappa)) / kappa
  turn = rng.uniform(0, 2 * np.pi)
  other = np.eye(3)[np.argmin(np.abs(mu))]
  east = np.cross(mu, other)
  east /= np.linalg.norm(east)
  side = np.cos(turn) * east + np.sin(turn) * np.cross(mu, east)
  return z * mu + np.sqrt(max(0, 1 - z * z)) * side
