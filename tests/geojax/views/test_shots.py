"""Curves of accuracy by labels."""

import numpy as np

from geojax.views import shots


def test_draws_that_are_equal_are_drawn():
  mean = float(np.mean([0.7] * 3))
  assert mean != 0.7, "rounding is what this is about"
  curve = shots.Curve(
    name="a", shots=(1, 0), mean=(0.5, mean), low=(0.4, 0.7), high=(0.6, 0.7)
  )
  figure = shots.curves([("ridge", "accuracy", [curve])])
  (bars,) = figure.axes[0].containers
  _, _, (segments,) = bars.lines
  ends = [segment[:, 1] for segment in segments.get_segments()]
  np.testing.assert_allclose(ends, [[0.4, 0.6], [0.7, 0.7]])
