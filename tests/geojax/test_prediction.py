"""What a prediction says of its columns, without a model."""

import jax.numpy as jnp
import numpy as np
import pytest
from prediction_samples import make_prediction

from geojax import cell_regions, predict


def test_sums_add():
  whole = make_prediction(6)
  parts = [
    predict.sum_up(
      predict.Prediction(
        {name: rows[part] for name, rows in whole.columns.items()},
        mu=whole.mu,
        log_kappa=whole.log_kappa,
      )
    )
    for part in (slice(0, 2), slice(2, 6))
  ]
  expected, found = predict.sum_up(whole), parts[0] + parts[1]
  assert (found.count, found.land) == (6, pytest.approx(expected.land))
  for name, value in expected.columns.items():
    np.testing.assert_allclose(found.columns[name], value)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 3.0, 40.0])
def test_the_day_of_a_known_spread(kappa):
  rng = np.random.default_rng(0)
  angle = 2 * np.pi * 350 / 365 + rng.vonmises(0, kappa, 400_000)
  mean = np.array([[np.sin(angle).mean(), np.cos(angle).mean()]])
  found = predict.Prediction({"date_mean": mean})
  if kappa:
    np.testing.assert_allclose(found.day, [350], atol=1)
  away = np.abs((angle * 365 / (2 * np.pi) - 350 + 182.5) % 365 - 182.5)
  np.testing.assert_allclose(
    found.day_spread((0.5, 0.9)), [np.quantile(away, (0.5, 0.9))], rtol=0.01
  )


def test_the_day_of_one_who_is_sure_is_a_day():
  # Outputs may leave the circle.
  found = predict.Prediction({"date_mean": np.array([[0.0, 1.2]])})
  assert found.day_spread((0.95,))[0, 0] < 1


def test_areas_are_those_of_the_map():
  found = make_prediction()
  levels = (0.5, 0.9)
  areas = found.credible_area_km2(levels, num_cells=2000)
  maps = found.probability_map(2000)
  np.testing.assert_allclose(maps.sum(axis=1), 1, rtol=1e-4)
  np.testing.assert_allclose(
    areas,
    cell_regions.credible_area_km2(jnp.asarray(maps), levels),
    rtol=1e-4,
  )
