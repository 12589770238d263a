import math

import numpy as np
import pytest
from scipy import stats

from geojax import centers, sphere


def make_places(num=3000, seed=0):
  """Clumps of places of unlike width, on one half of the sphere."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(20, 3)) * [1, 1, 0.7]
  x[:, 0] = np.abs(x[:, 0]) + 0.3
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  clump = rng.integers(20, size=num)
  width = np.logspace(-2.5, -1, 20)[clump, None]
  x = x[clump] + width * rng.normal(size=(num, 3))
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def km_between(a, b):
  dot = np.clip(a @ b.T, -1, 1)
  return 6371.0088 * np.arccos(dot)


def mean_distance_km(places, mu):
  return km_between(places, mu).min(axis=1).mean()


@pytest.mark.parametrize("method", centers.METHODS)
def test_every_method(method):
  places = make_places()
  mu, log_kappa = centers.initialize(method, places, 100, seed=3)
  assert mu.shape == (100, 3)
  assert log_kappa.shape == (100,)
  assert mu.dtype == log_kappa.dtype == np.float32
  np.testing.assert_allclose(np.linalg.norm(mu, axis=1), 1, atol=2e-7)
  assert len(np.unique(mu, axis=0)) == 100
  assert np.isfinite(log_kappa).all()
  again, _ = centers.initialize(method, places, 100, seed=3)
  np.testing.assert_array_equal(mu, again)
  if method not in ("fibonacci", "partition"):  # which draw nothing
    other, _ = centers.initialize(method, places, 100, seed=4)
    assert not np.array_equal(mu, other)
  # One center is where there is nothing to space.
  mu, log_kappa = centers.initialize(method, places, 1)
  assert mu.shape == (1, 3)
  np.testing.assert_allclose(log_kappa, [0], atol=1e-3)


def test_train_subset_is_farthest_first():
  places = make_places(1200)
  found = centers.train_subset(places, 60, min_distance_km=0, seed=1)
  mu = found[:1]
  for _ in range(59):
    farthest = km_between(places, mu).min(axis=1).argmax()
    mu = np.concatenate([mu, places[farthest : farthest + 1]])
  np.testing.assert_allclose(found, mu, atol=1e-12)


def test_train_subset_keeps_its_distance():
  places = make_places()
  places = np.concatenate([places, places[:500]])
  mu = centers.train_subset(places, 60, min_distance_km=300)
  apart = km_between(mu, mu) + np.diag(np.full(60, np.inf))
  assert apart.min() > 299.99
  # The places were asked for one by one: all found are far enough, and every
  # place left over is nearer to one of them.
  with pytest.raises(ValueError, match=r"at most \d+, .* 300 km .* 2000") as e:
    centers.train_subset(places, 2000, min_distance_km=300)
  most = int(str(e.value).split("at most ")[1].split(",")[0])
  mu = centers.train_subset(places, most, min_distance_km=300)
  assert km_between(places, mu).min(axis=1).max() < 300.01
  with pytest.raises(ValueError, match="at most 3,"):
    centers.train_subset(np.eye(3)[[0, 1, 2, 2]], 4, min_distance_km=0)


def test_uniform_on_land():
  def north(x):
    return x[:, 2] > 0.5

  mu = centers.uniform_on_land(500, north, seed=0)
  assert mu.shape == (500, 3)
  assert north(mu).all()
  # Heights are uniform on land, and neighbours evenly spaced.
  assert stats.kstest(mu[:, 2], stats.uniform(0.5, 0.5).cdf).pvalue > 0.5
  apart = km_between(mu, mu) + np.diag(np.full(500, np.inf))
  side = 6371 * math.sqrt(math.pi / 500)
  assert apart.min() > 0.6 * side
  with pytest.raises(ValueError, match="found no land"):
    centers.uniform_on_land(5, lambda x: x[:, 2] > 2)


def test_near_places():
  places = make_places(50)
  x = sphere.fibonacci_lattice(2000)
  is_near = centers.near_places(places, 400)(x)
  expected = km_between(x, places).min(axis=1) < 400
  np.testing.assert_array_equal(is_near, expected)
  assert 0 < is_near.sum() < 2000


def test_kmeans_finds_separate_clumps():
  rng = np.random.default_rng(0)
  tops = sphere.fibonacci_lattice(6)
  clump = np.repeat(np.arange(6), [10, 20, 30, 40, 50, 60])
  places = tops[clump] + 0.05 * rng.normal(size=(210, 3))
  places /= np.linalg.norm(places, axis=1, keepdims=True)
  sums = np.stack([places[clump == i].sum(axis=0) for i in range(6)])
  means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
  # Which clumps the first centers fall into is chance: take the best of some.
  runs = [centers.spherical_kmeans(places, 6, seed=i) for i in range(20)]
  mu = min(runs, key=lambda mu: mean_distance_km(places, mu))
  order = km_between(means, mu).argmin(axis=1)
  assert sorted(order) == list(range(6))
  np.testing.assert_allclose(mu[order], means, atol=1e-12)


@pytest.mark.parametrize("batch_size", [100_000, 300])
def test_kmeans_is_near_all_places(batch_size):
  places = make_places()
  mu = centers.spherical_kmeans(places, 100, batch_size=batch_size)
  np.testing.assert_allclose(np.linalg.norm(mu, axis=1), 1, atol=1e-12)
  chance = np.random.default_rng(0).permutation(places)[:100]
  assert mean_distance_km(places, mu) < 0.9 * mean_distance_km(places, chance)
  nearest = km_between(places, mu).argmin(axis=1)
  assert len(np.unique(nearest)) > 95
  if batch_size > len(places):
    # Nearly at a fixed point of Lloyd's algorithm.
    sums = np.stack([places[nearest == i].sum(axis=0) for i in range(100)])
    means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    moved_km = 6371 * np.linalg.norm(means - mu, axis=1)
    assert np.median(moved_km) < 10


def test_partition_has_equal_mass():
  places = make_places()
  # Some places recur, as revisited ones do.
  places = np.concatenate([places, np.repeat(places[:100], 5, axis=0)])
  unique, counts = centers._unique(places)
  assert counts.sum() == len(places)
  assert len(unique) == 3000
  cells = centers._partition(unique, counts, 50)
  np.testing.assert_array_equal(np.sort(np.concatenate(cells)), np.arange(3000))
  mass = np.array([counts[cell].sum() for cell in cells])
  assert mass.mean() == 70
  assert np.abs(mass - 70).max() <= 14
  mu = centers.adaptive_partition(places, 50)
  means = np.stack([counts[cell] @ unique[cell] for cell in cells])
  means /= np.linalg.norm(means, axis=1, keepdims=True)
  np.testing.assert_allclose(mu, means, atol=1e-12)
  # Cells are compact: nearly as near to their centers as those of k-means.
  best = mean_distance_km(places, centers.spherical_kmeans(places, 50))
  assert mean_distance_km(places, mu) < 1.2 * best
  # As many cells as places: every place is its own center, though most of the
  # mass is at one of them.
  few = np.concatenate([places[:37], np.repeat(places[:1], 500, axis=0)])
  mu = centers.adaptive_partition(few, 37)
  np.testing.assert_allclose(km_between(few, mu).min(axis=1), 0, atol=1e-3)


def test_log_kappa_holds_the_mass():
  mu = sphere.fibonacci_lattice(100)
  angle = np.sort(np.arccos(np.clip(mu @ mu.T, -1, 1)), axis=1)[:, 1:5]
  for mass in (0.3, 0.5, 0.9):
    kappa = np.exp(centers.log_kappa_from_spacing(mu, mass=mass))
    cos = np.cos(angle.mean(axis=1))
    # Mass of a cap by the cumulative distribution of mu.x, in closed form.
    tail = np.exp(-2.0 * kappa)
    found = (1 - np.exp(-kappa * (1 - cos))) / (1 - tail)
    np.testing.assert_allclose(found, mass, rtol=1e-4)


def test_log_kappa_at_the_ends():
  opposite = np.array([[0, 0, 1.0], [0, 0, -1.0]])
  same = np.array([[0, 0, 1.0]] * 100)
  np.testing.assert_allclose(
    centers.log_kappa_from_spacing(opposite), 0, atol=1e-3
  )
  np.testing.assert_allclose(
    centers.log_kappa_from_spacing(same), math.log(1e8), rtol=1e-6
  )


def test_bad_input():
  places = make_places(30)
  with pytest.raises(ValueError, match=r"method must be one of .* 'kmean'"):
    centers.initialize("kmean", places, 3)
  with pytest.raises(ValueError, match=r"places must have shape .*\(30, 2\)"):
    centers.initialize("kmeans", places[:, :2], 3)
  with pytest.raises(ValueError, match="places must be unit vectors"):
    centers.initialize("partition", 1.1 * places, 3)
  with pytest.raises(ValueError, match="places must be unit vectors"):
    centers.initialize("partition", np.nan * places, 3)
  for method in ("kmeans", "partition"):
    with pytest.raises(ValueError, match=r"from 1 to 30, .* found 31"):
      centers.initialize(method, places, 31)
