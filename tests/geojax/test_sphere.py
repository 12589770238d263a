import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from geojax import sphere

LATLON = np.array(
  [
    (0.0, 0.0),
    (90.0, 0.0),
    (-90.0, 0.0),
    (0.0, 180.0),
    (0.0, -90.0),
    (48.8, 2.3),
    (-33.9, 151.2),
    (89.999, -179.9),
    (-1e-3, 179.99),
    (12.5, 45.0),
  ]
)


def random_units(num, seed=0):
  x = np.random.default_rng(seed).normal(size=(num, 3))
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def oracle_km(a, b):
  """Distance by 50-digit Vincenty form: atan2(|a x b|, a.b)."""
  with mpmath.workdps(50):
    a = [mpmath.mpf(float(v)) for v in a]
    b = [mpmath.mpf(float(v)) for v in b]
    cross = [
      a[1] * b[2] - a[2] * b[1],
      a[2] * b[0] - a[0] * b[2],
      a[0] * b[1] - a[1] * b[0],
    ]
    dot = sum(p * q for p, q in zip(a, b, strict=True))
    angle = mpmath.atan2(mpmath.sqrt(sum(c * c for c in cross)), dot)
    return float(angle * mpmath.mpf("6371.0088"))


@pytest.mark.parametrize("xp", [np, jnp])
def test_units_match_mpmath(xp):
  lat, lon = xp.asarray(LATLON[:, 0]), xp.asarray(LATLON[:, 1])
  x = sphere.latlon_to_unit(lat, lon)
  expected = []
  for lat_deg, lon_deg in zip(np.asarray(lat), np.asarray(lon), strict=True):
    p, t = mpmath.radians(float(lat_deg)), mpmath.radians(float(lon_deg))
    cos = mpmath.cos(p)
    row = cos * mpmath.cos(t), cos * mpmath.sin(t), mpmath.sin(p)
    expected.append([float(v) for v in row])
  assert x.dtype == lat.dtype
  tolerance = 1e-15 if xp is np else 2e-7
  np.testing.assert_allclose(x, expected, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiples_of_90_are_exact(dtype):
  angles = np.arange(-720, 721, 90).astype(dtype)
  sin, cos = sphere.sin_cos_deg(angles)
  turn = np.arange(-8, 9) % 4
  np.testing.assert_array_equal(sin, np.array([0, 1, 0, -1])[turn])
  np.testing.assert_array_equal(cos, np.array([1, 0, -1, 0])[turn])


def test_sine_and_cosine_of_any_angle():
  angles = np.linspace(-400, 400, 4001)
  sin, cos = sphere.sin_cos_deg(angles)
  np.testing.assert_allclose(sin, np.sin(np.radians(angles)), atol=3e-15)
  np.testing.assert_allclose(cos, np.cos(np.radians(angles)), atol=3e-15)
  slope = jax.jit(jax.vmap(jax.grad(lambda a: sphere.sin_cos_deg(a)[0])))(
    jnp.asarray([0.0, 45.0, 90.0, 135.0, -100.0, 300.0])
  )
  expected = np.pi / 180 * np.cos(np.radians([0, 45, 90, 135, -100, 300]))
  np.testing.assert_allclose(slope, expected, atol=1e-8)


@pytest.mark.parametrize("xp", [np, jnp])
def test_round_trip(xp):
  rng = np.random.default_rng(0)
  lat = np.r_[LATLON[:, 0], rng.uniform(-90, 90, 200)]
  lon = np.r_[LATLON[:, 1], rng.uniform(-180, 180, 200)]
  run = jax.jit if xp is jnp else lambda function: function
  x = run(sphere.latlon_to_unit)(xp.asarray(lat), xp.asarray(lon))
  lat_back, lon_back = run(sphere.unit_to_latlon)(x)
  tolerance = 1e-9 if xp is np else 2e-5
  np.testing.assert_allclose(lat_back, lat, atol=tolerance)
  apart = np.abs(np.asarray(lon_back, np.float64) - lon)
  east_km = np.minimum(apart, 360 - apart) * np.cos(np.radians(lat))
  assert east_km.max() < tolerance
  assert float(lon_back[3]) == 180


def test_date_line_and_poles():
  lat, lon = sphere.unit_to_latlon(
    sphere.latlon_to_unit([0.0, 0.0, 90.0, -90.0], [180.0, -180.0, 50.0, 9.0])
  )
  np.testing.assert_array_equal(lat, [0, 0, 90, -90])
  np.testing.assert_array_equal(lon, [180, 180, 0, 0])
  # The pole is one place, whatever longitude it is given.
  np.testing.assert_array_equal(
    sphere.latlon_to_unit(90.0, 50.0), [0.0, 0.0, 1.0]
  )


def test_numpy_stays_numpy_and_jax_traces():
  assert type(sphere.latlon_to_unit(1, 2)) is np.ndarray
  assert sphere.latlon_to_unit(1, 2).dtype == np.float64
  assert sphere.great_circle_km(*random_units(2)).dtype == np.float64
  single = random_units(2).astype(np.float32)
  assert sphere.great_circle_km(*single).dtype == np.float32
  narrow = jnp.ones(3, jnp.bfloat16)
  assert sphere.unit_to_latlon(narrow)[0].dtype == jnp.float32
  x = jax.jit(sphere.latlon_to_unit)(jnp.asarray([10, 20]), jnp.zeros(2))
  assert x.dtype == jnp.float32
  expected = sphere.latlon_to_unit(np.array([10, 20]), np.zeros(2))
  np.testing.assert_allclose(x, expected, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pole", [1, -1])
def test_distance_near_and_antipodal(dtype, pole):
  a = random_units(60)
  step = np.logspace(-7, 0.1, 60)[:, None] * random_units(60, seed=2)
  b = a + step
  b = pole * b / np.linalg.norm(b, axis=1, keepdims=True)
  a, b = a.astype(dtype), b.astype(dtype)
  found = sphere.great_circle_km(a, b)
  expected = [oracle_km(*pair) for pair in zip(a, b, strict=True)]
  # The inputs' own rounding, times the radius, is the least error possible.
  ulp_km = 6371 * np.finfo(dtype).eps
  np.testing.assert_allclose(found, expected, rtol=3e-7, atol=2 * ulp_km)


def test_distance_of_known_cities():
  paris = sphere.latlon_to_unit(48.8566, 2.3522)
  sydney = sphere.latlon_to_unit(-33.8688, 151.2093)
  quarter = sphere.great_circle_km(
    sphere.latlon_to_unit(0, 0), sphere.latlon_to_unit(90, 0)
  )
  assert sphere.great_circle_km(paris, sydney) == pytest.approx(16960, abs=2)
  assert quarter == pytest.approx(np.pi / 2 * 6371.0088, rel=1e-14)


def test_distance_gradients():
  a, b = jnp.asarray(random_units(2), jnp.float32)
  check_grads(jax.jit(sphere.great_circle_km), (a, b), order=1, rtol=2e-2)
  gradient = jax.jit(jax.grad(sphere.great_circle_km))
  np.testing.assert_array_equal(gradient(a, a), np.zeros(3))
  np.testing.assert_array_equal(gradient(a, -a), np.zeros(3))
  # Away from the ends, distance grows by the radius for each radian walked.
  for angle in [1e-5, 1e-2, 1.0, 3.1]:
    p = jnp.asarray([1.0, 0.0, 0.0])
    q = jnp.asarray([np.cos(angle), np.sin(angle), 0.0], jnp.float32)
    along = gradient(p, q) @ jnp.asarray([0.0, -1.0, 0.0])
    assert float(along) == pytest.approx(6371.0088, rel=1e-3)


def test_latlon_gradients():
  check_grads(
    jax.jit(sphere.latlon_to_unit), (48.8, 2.3), order=1, eps=1e-1, rtol=1e-2
  )
  jacobian = jax.jit(jax.jacobian(lambda x: sphere.unit_to_latlon(x)))
  x = jnp.asarray(random_units(1)[0], jnp.float32)
  check_grads(
    jax.jit(sphere.unit_to_latlon), (x,), order=1, eps=1e-2, rtol=1e-2
  )
  for special in ([0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]):
    assert np.isfinite(jacobian(jnp.asarray(special))).all()
  for rho in (0.0, 1e-25):
    jacobian_lon = jacobian(jnp.asarray([rho, 0.0, 1.0]))[1]
    np.testing.assert_array_equal(jacobian_lon, np.zeros(3))


def test_fibonacci_lattice_is_even():
  x = sphere.fibonacci_lattice(2000)
  np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-14)
  # Means of low polynomials are those of the sphere.
  np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
  np.testing.assert_allclose(x.T @ x / 2000, np.eye(3) / 3, atol=1e-4)
  dots = x @ x.T - 2 * np.eye(2000)
  spacing = np.arccos(dots.max(axis=1)) / np.sqrt(4 * np.pi / 2000)
  assert spacing.min() > 0.7
  assert spacing.max() < 1.2


@pytest.mark.parametrize("num_cells", [1, 2, 3, 7, 50, 1000, 4321])
def test_equal_area_grid_indexes_its_centers(num_cells):
  x = sphere.equal_area_grid(num_cells)
  assert x.shape == (num_cells, 3)
  np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-14)
  np.testing.assert_array_equal(
    sphere.equal_area_index(x, num_cells), np.arange(num_cells)
  )


def test_equal_area_cells_are_equal_and_compact():
  num_cells, num_points = 60, 120_000
  x = random_units(num_points, seed=3)
  index = sphere.equal_area_index(x, num_cells)
  counts = np.bincount(index, minlength=num_cells)
  expected = num_points / num_cells
  chi2 = ((counts - expected) ** 2 / expected).sum()
  assert chi2 < 110  # 59 degrees of freedom: less in 99.99 % of draws
  distance_km = sphere.great_circle_km(
    x, sphere.equal_area_grid(num_cells)[index]
  )
  side_km = 6371 * np.sqrt(4 * np.pi / num_cells)
  assert distance_km.max() < 1.2 * side_km
  # The ends of the grid: the poles, and 180E in the last band.
  corners = np.array(
    [[[0, 0, 1.0], [0, 0, -1.0]], [[-1, 0, 0], [-0.01, 0, -1]]]
  )
  index = sphere.equal_area_index(corners, num_cells)
  assert index.shape == (2, 2)
  distance_km = sphere.great_circle_km(
    corners, sphere.equal_area_grid(num_cells)[index]
  )
  assert distance_km.max() < 1.2 * side_km


def test_bad_input():
  with pytest.raises(ValueError, match=r"a must have shape .*3.*found \(2,\)"):
    sphere.great_circle_km(np.ones(2), np.ones(3))
  with pytest.raises(ValueError, match=r"b must have shape"):
    sphere.great_circle_km(np.ones(3), np.ones((3, 4)))
  with pytest.raises(ValueError, match=r"x must have shape"):
    sphere.unit_to_latlon(np.float64(3))
  with pytest.raises(ValueError, match="num_points must be at least 1"):
    sphere.fibonacci_lattice(0)
  with pytest.raises(ValueError, match="num_cells must be at least 1"):
    sphere.equal_area_grid(-1)
