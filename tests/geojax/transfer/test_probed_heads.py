"""Heads that answer as ridge regression does."""

import numpy as np
import pytest

from geojax.evaluation import probes
from geojax.transfer import probed_heads


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def _drawn(num_outputs, **more):
  return {
    "kernel": np.zeros((6, num_outputs)),
    "bias": np.ones(num_outputs),
    **more,
  }


def test_the_likeliest_class_is_that_of_ridge_regression(rng):
  features = rng.normal(size=(40, 6))
  encoded = np.eye(3)[rng.integers(3, size=40)]
  drawn = _drawn(3)
  assert probed_heads.is_linear(drawn)
  head = probed_heads.fit(drawn, features, encoded)
  numbers = probes.ridge(features, encoded)(features)
  logits = features @ head["kernel"] + head["bias"]
  np.testing.assert_array_equal(logits.argmax(-1), numbers.argmax(-1))
  # Above 0, and so likelier than not, where a label's number is above 1/2.
  np.testing.assert_array_equal(logits > 0, numbers > 0.5)


def test_a_number_is_that_of_ridge_regression(rng):
  features = rng.normal(size=(40, 6))
  encoded = 100 + features[:, :1] ** 3
  drawn = _drawn(1, offset=np.float32(90), scale=np.float32(7))
  assert probed_heads.is_linear(drawn)
  head = probed_heads.fit(drawn, features, encoded)
  assert (head["offset"], head["scale"]) == (90, 7)
  values = 90 + 7 * (features @ head["kernel"] + head["bias"])
  expected = probes.ridge(features, encoded)(features)
  np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_other_heads_are_not_linear():
  assert not probed_heads.is_linear({"smooth_0": _drawn(2), "kernel": 0})
