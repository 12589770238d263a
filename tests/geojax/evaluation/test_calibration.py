import math

import numpy as np
import pytest

from geojax.evaluation import calibration


def test_reliability_counts_what_falls_into_a_bin():
  confidence = [0.0, 0.05, 0.1, 0.1001, 0.55, 1.0, 1.0]
  correct = [0, 1, 0, 1, 1, 1, 0]
  curve = calibration.reliability_curve(confidence, correct, num_bins=10)
  assert curve["count"].tolist() == [3, 1, 0, 0, 0, 1, 0, 0, 0, 2]
  assert curve["accuracy"][[0, 1, 5, 9]] == pytest.approx([1 / 3, 1, 1, 0.5])
  assert curve["confidence"][[0, 9]] == pytest.approx([0.05, 1.0])
  assert np.isnan(curve["accuracy"][2])
  error = calibration.expected_calibration_error(
    confidence, correct, num_bins=10
  )
  gaps = [3 * (1 / 3 - 0.05), 1 - 0.1001, 1 - 0.55, 2 * 0.5]
  assert error == pytest.approx(sum(gaps) / 7)


def test_honest_confidence_has_little_error_and_nothing_has_none():
  rng = np.random.default_rng(0)
  confidence = rng.random(50_000)
  honest = rng.random(50_000) < confidence
  error = calibration.expected_calibration_error
  assert error(confidence, honest) < 0.01
  boastful = rng.random(50_000) < confidence - 0.2
  assert error(confidence, boastful) == pytest.approx(0.18, abs=0.01)
  assert math.isnan(error([], []))


def test_coverage_counts_levels_up_to_the_mass():
  level = np.arange(1, 101) / 100
  found = calibration.coverage(level, [0.0, 0.5, 0.8, 1.0])
  np.testing.assert_allclose(found, [0, 0.5, 0.8, 1.0])
  assert np.isnan(calibration.coverage([], [0.5])).all()


def test_the_temperature_lies_between_those_tried():
  temperatures = np.exp(np.linspace(-2, 2, 17))
  for best in (0.5, 1.0, 1.37, 3.3):
    nll = (np.log(temperatures) - np.log(best)) ** 2 - 3
    found = calibration.best_temperature(temperatures, nll)
    assert found == pytest.approx(best, rel=1e-6)
  at_the_end = calibration.best_temperature(temperatures, -temperatures)
  assert at_the_end == pytest.approx(temperatures[-1])
