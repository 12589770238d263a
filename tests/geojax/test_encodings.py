import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from geojax import encodings, sphere

PLACES = np.array(
  [(90, 0), (-90, 0), (0, 180), (0, -180), (48.8, 2.3), (-33.9, 151.2)], float
)


def test_codes_by_the_formula():
  rng = np.random.default_rng(0)
  lat, lon = rng.uniform(-90, 90, 100), rng.uniform(-180, 180, 100)
  theta = np.radians(lon)
  expected = [
    (90 - lat) / 180,
    (np.sin(theta) + 1) / 2,
    (np.cos(theta) + 1) / 2,
  ]
  code = encodings.encode_coordinates(lat, lon)
  np.testing.assert_allclose(code, np.stack(expected, -1), atol=1e-15)
  day = np.arange(1, 366)
  d = 2 * np.pi * day / 365
  expected = [(np.sin(d) + 1) / 2, (np.cos(d) + 1) / 2]
  code = encodings.encode_day_of_year(day)
  np.testing.assert_allclose(code, np.stack(expected, -1), atol=1e-15)


@pytest.mark.parametrize("xp", [np, jnp])
def test_places_come_back(xp):
  rng = np.random.default_rng(0)
  lat = np.r_[PLACES[:, 0], rng.uniform(-90, 90, 300)]
  lon = np.r_[PLACES[:, 1], rng.uniform(-180, 180, 300)]
  run = jax.jit if xp is jnp else lambda function: function
  code = run(encodings.encode_coordinates)(xp.asarray(lat), xp.asarray(lon))
  assert np.min(code) >= 0
  assert np.max(code) <= 1
  lat_back, lon_back = run(encodings.decode_coordinates)(code)
  tolerance = 1e-12 if xp is np else 4e-5
  np.testing.assert_allclose(lat_back, lat, atol=tolerance)
  apart = np.abs(np.asarray(lon_back, np.float64) - lon)
  assert np.minimum(apart, 360 - apart).max() < tolerance
  np.testing.assert_array_equal(lat_back[:2], [90, -90])
  np.testing.assert_array_equal(lon_back[2:4], [180, 180])
  x = run(encodings.coordinates_to_unit)(code)
  tolerance = 1e-14 if xp is np else 1e-6
  np.testing.assert_allclose(x, sphere.latlon_to_unit(lat, lon), atol=tolerance)


@pytest.mark.parametrize("xp", [np, jnp])
def test_days_come_back(xp):
  run = jax.jit if xp is jnp else lambda function: function
  day = xp.arange(1, 366)
  code = run(encodings.encode_day_of_year)(day)
  back = run(encodings.decode_day_of_year)(code)
  np.testing.assert_allclose(back, day, atol=1e-9 if xp is np else 1e-4)
  np.testing.assert_array_equal(np.round(back), day)
  assert np.min(back) >= 1


def test_year_wraps():
  day = np.array([0.25, 0.9, 365.0, 365.75, 366.0])
  back = encodings.decode_day_of_year(encodings.encode_day_of_year(day))
  expected = [365.25, 365.9, 365, 365.75, 1]
  np.testing.assert_allclose(back, expected, atol=1e-9)
  # What rounding leaves below day 1 is day 1, not the year's end.
  code = encodings.encode_day_of_year(np.array([1 - 9e-5, 1 - 2e-4]))
  back = encodings.decode_day_of_year(code)
  np.testing.assert_allclose(back, [1, 366 - 2e-4], atol=1e-9)


def test_any_code_decodes():
  lat, lon = encodings.decode_coordinates(
    np.array([[-0.2, 0.5, 0.5], [1.3, 0.9, 0.5], [0.5, 0.55, 0.45]])
  )
  np.testing.assert_allclose(lat, [90, -90, 0])
  np.testing.assert_allclose(lon, [0, 90, 135])
  assert encodings.decode_day_of_year(np.array([0.5, 0.5])) == 365


def test_gradients():
  check_grads(
    jax.jit(encodings.encode_coordinates),
    (10.0, 20.0),
    order=1,
    eps=1.0,
    rtol=1e-2,
  )
  code = encodings.encode_coordinates(jnp.float32(-20), jnp.float32(30))
  check_grads(
    jax.jit(encodings.decode_coordinates), (code,), order=1, rtol=1e-2
  )
  date = encodings.encode_day_of_year(jnp.float32(200))
  check_grads(
    jax.jit(encodings.decode_day_of_year), (date,), order=1, rtol=1e-2
  )
  edges = jnp.asarray([[0.5, 0.5, 0.5], [0.0, 0.5, 0.0], [1.0, 0.5, 1.0]])
  jacobian = jax.jit(jax.vmap(jax.jacobian(encodings.coordinates_to_unit)))
  assert np.isfinite(jacobian(edges)).all()
  dates = jnp.asarray([[0.5, 0.5], [0.5, 1.0], [0.5, 0.0]])
  slope = jax.jit(jax.vmap(jax.grad(encodings.decode_day_of_year)))(dates)
  assert np.isfinite(slope).all()


def test_label_joins_and_splits():
  fractions = np.random.default_rng(0).dirichlet(np.ones(31), 5)
  lat, lon, day = np.linspace(-80, 80, 5), np.linspace(0, 170, 5), np.arange(5)
  label = encodings.encode_label(fractions, lat, lon, day + 1)
  assert label.shape == (5, 36) == (5, encodings.LABEL_DIM)
  parts = encodings.split_label(label)
  np.testing.assert_array_equal(parts["climate"], fractions)
  np.testing.assert_array_equal(
    parts["coords"], encodings.encode_coordinates(lat, lon)
  )
  np.testing.assert_allclose(
    encodings.decode_day_of_year(parts["date"]), day + 1
  )
  traced = jax.jit(encodings.encode_label)(fractions, lat, lon, day + 1)
  np.testing.assert_allclose(traced, label, atol=1e-6)


def test_sea_patch():
  fractions = np.zeros((4, 31), np.float32)
  fractions[:, 0] = [1, 0.95, 0.9499, 0]
  fractions[:, 5] = 1 - fractions[:, 0]
  expected = [True, True, False, False]
  np.testing.assert_array_equal(encodings.is_sea_patch(fractions), expected)
  found = jax.jit(encodings.is_sea_patch)(fractions)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("xp", [np, jnp])
def test_known_labels_count_where_they_can_be_read(xp):
  fractions = np.eye(31)[[8, 0, 0, 8, 8, 8]]
  label = encodings.encode_label(fractions, np.arange(6), np.zeros(6), [9] * 6)
  labels = encodings.split_label(label)
  labels["climate"][2, 0] = labels["coords"][3, 1] = np.nan
  labels["date"][4, 0] = np.inf
  labels = {name: xp.asarray(x) for name, x in labels.items()}
  run = jax.jit if xp is jnp else lambda function: function
  found = run(encodings.known_rows)({**labels, "bands": labels["date"]})
  expected = {
    "climate": [0, 1, 3, 4, 5],
    "coords": [0, 2, 4, 5],
    "date": [0, 2, 3, 5],
  }
  for name, rows in expected.items():
    np.testing.assert_array_equal(np.flatnonzero(found[name]), rows)
  assert found.keys() == expected.keys()
  # Without a climate no patch is known to be sea.
  (found,) = encodings.known_rows({"date": labels["date"]}).values()
  np.testing.assert_array_equal(np.flatnonzero(found), [0, 1, 2, 3, 5])


def test_bad_input():
  with pytest.raises(ValueError, match=r"code must have shape .*3.*\(4,\)"):
    encodings.decode_coordinates(np.ones(4))
  with pytest.raises(ValueError, match="code must have shape"):
    encodings.decode_day_of_year(np.ones((2, 3)))
  with pytest.raises(ValueError, match=r"label must have shape \[..., 36\]"):
    encodings.split_label(np.ones((2, 37)))
  with pytest.raises(ValueError, match=r"climate must have shape"):
    encodings.is_sea_patch(np.ones((2, 36)))
  with pytest.raises(ValueError, match=r"climate must have shape"):
    encodings.encode_label(np.ones(30), 0.0, 0.0, 1.0)


@pytest.mark.parametrize("xp", [np, jnp])
def test_days_are_apart_the_short_way_round(xp):
  day = xp.asarray([1.0, 365.0, 10.0, 365.9, 1.0, 100.0])
  other = xp.asarray([365.0, 1.0, 12.5, 1.0, 183.5, 100.0])
  found = encodings.days_apart(day, other)
  np.testing.assert_allclose(found, [1, 1, 2.5, 0.1, 182.5, 0], atol=1e-4)
