"""Ridge regression of pixels against scikit-learn on all pixels at once."""

import jax
import numpy as np
from sklearn import linear_model, preprocessing

from geojax.evaluation import probes
from geojax.transfer import pixels

SIZE, PATCHES = (8, 8), 70


def make_maps(count, seed):
  rng = np.random.default_rng(seed)
  return [
    rng.normal(2.0, 3.0, (count, side, side, channels)).astype(np.float16)
    for side, channels in ((4, 3), (2, 2))
  ]


def stacked(maps):
  parts = [
    np.asarray(
      jax.image.resize(
        m.astype(np.float32), (len(m), *SIZE, m.shape[-1]), "bilinear"
      )
    )
    for m in maps
  ]
  return np.concatenate(parts, axis=-1)


def test_answers_are_those_of_a_ridge_of_all_known_pixels():
  rng = np.random.default_rng(0)
  maps, test = make_maps(PATCHES, 1), make_maps(5, 2)
  kernel = rng.normal(size=(5, 2))
  numbers = stacked(maps) @ kernel + rng.normal(size=(PATCHES, *SIZE, 2))
  known = rng.random((PATCHES, *SIZE)) < 0.7
  numbers[~known] = np.nan
  penalties = []

  def choose(found):
    # The middle penalty is preferred, whatever its answers.
    penalties.append(found)
    return -abs(len(penalties) - 1 - len(probes.PENALTIES) // 2)

  def read(part):
    return [m[part] for m in maps], np.float32(numbers[part]), known[part]

  solved = pixels.fit(read, PATCHES, SIZE, choose)
  x, y = stacked(maps)[known], numbers[known]
  scaler = preprocessing.StandardScaler().fit(x)
  oracle = linear_model.Ridge(
    alpha=probes.PENALTIES[len(probes.PENALTIES) // 2]
  ).fit(scaler.transform(x), y)
  expected = oracle.predict(scaler.transform(stacked(test).reshape(-1, 5)))
  found = solved(test)
  assert found.shape == (5, *SIZE, 2)
  np.testing.assert_allclose(found.reshape(-1, 2), expected, atol=2e-3)


def test_a_channel_that_is_the_same_everywhere_changes_nothing():
  maps, test = make_maps(10, 3), make_maps(4, 4)
  numbers = stacked(maps)[..., :1]
  known = np.ones(numbers.shape[:3], bool)

  def fit(maps):
    return pixels.fit(
      lambda part: ([m[part] for m in maps], numbers[part], known[part]),
      10,
      SIZE,
      lambda solution: (
        -float(np.abs(solution([m[:2] for m in maps]) - numbers[:2]).mean())
      ),
    )

  def more(maps):
    constant = np.full((*maps[0].shape[:3], 1), 7, np.float16)
    return [np.concatenate([maps[0], constant], axis=-1), maps[1]]

  np.testing.assert_allclose(
    fit(more(maps))(more(test)), fit(maps)(test), atol=1e-3
  )
