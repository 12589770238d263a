"""Initial centers and concentrations of a mixture on the sphere.

Runs once, on the host, in NumPy and SciPy; every method is seeded. `places` are
unit vectors of the train split, one per patch, shape `[n, 3]`. Repeated places
weigh more in k-means and partition, and count once elsewhere. Each method
returns k = `num_centers` unit vectors, float64, shape `[k, 3]`.
"""

import math

import numpy as np
from scipy import spatial

from geojax import sphere, vmf

# Places per block in the search for the farthest one.
_BLOCK = 256
# Below, a center is nearly uniform; above, it is finer than float32 labels.
_MIN_KAPPA, _MAX_KAPPA = 1.0, 1e8

METHODS = ("fibonacci", "land", "train_subset", "kmeans", "partition")


def initialize(
  method,
  places,
  num_centers,
  *,
  seed=0,
  is_land=None,
  min_distance_km=50.0,
  mass=0.5,
):
  """Makes the centers of a mixture and their concentrations.

  Args:
    method: `fibonacci` (even over the sphere), `land` (even over land),
      `train_subset` (train places far apart), `kmeans` (means of train places)
      or `partition` (cells of equal train mass).
    places: Train places, unit vectors, shape `[n, 3]`, with repetitions.
    num_centers: Number of centers k.
    seed: Random seed.
    is_land: For `land`, see `uniform_on_land`; by default, within 200 km of a
      train place.
    min_distance_km: For `train_subset`, the least distance of two centers.
    mass: See `log_kappa_from_spacing`.

  Returns:
    `mu`, unit vectors, float32 `[k, 3]`, and `log_kappa`, float32 `[k]`.

  Raises:
    ValueError: If the method is unknown, places are not unit vectors or there
      are too few of them.
  """
  if method == "fibonacci":
    mu = sphere.fibonacci_lattice(num_centers)
  elif method == "land":
    is_land = is_land or near_places(places, 200.0)
    mu = uniform_on_land(num_centers, is_land, seed=seed)
  elif method == "train_subset":
    mu = train_subset(
      places, num_centers, min_distance_km=min_distance_km, seed=seed
    )
  elif method == "kmeans":
    mu = spherical_kmeans(places, num_centers, seed=seed)
  elif method == "partition":
    mu = adaptive_partition(places, num_centers)
  else:
    raise ValueError(f"method must be one of {METHODS}, found {method!r}")
  return mu.astype(np.float32), log_kappa_from_spacing(mu, mass=mass)


def uniform_on_land(num_centers, is_land, *, seed=0):
  """Evenly spread centers on land: the points of a rotated lattice on land.

  Args:
    num_centers: Number of centers.
    is_land: A function from unit vectors `[n, 3]` to booleans `[n]`.
    seed: Seed of the rotation.

  Raises:
    ValueError: If `is_land` is True nowhere.
  """
  rng = np.random.default_rng(seed)
  rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  # Start from the density that should put k points on land, and raise it until
  # it does.
  land_share = np.mean(is_land(sphere.fibonacci_lattice(2**16)))
  if land_share == 0:
    raise ValueError("is_land must be True somewhere, found no land")
  num_points = math.ceil(num_centers / land_share)
  while True:
    points = sphere.fibonacci_lattice(num_points) @ rotation
    points = points[is_land(points)]
    if len(points) >= num_centers:
      keep = rng.choice(len(points), num_centers, replace=False)
      return points[np.sort(keep)]
    num_points = math.ceil(1.01 * num_points)


def near_places(places, distance_km):
  """Returns an `is_land`: True within a great circle distance of a place."""
  tree = spatial.cKDTree(_check_places(places))
  chord = _chord(distance_km)

  def is_near(x):
    distance, _ = tree.query(x, distance_upper_bound=chord, workers=-1)
    return np.isfinite(distance)

  return is_near


def train_subset(places, num_centers, *, min_distance_km=50.0, seed=0):
  """Train places far apart: each is the farthest from all chosen before it.

  Exact. A new center visits only the blocks of places in which it can be nearer
  to a place than the centers before it. The first j of the centers are the
  result for j centers.

  Args:
    places: Train places, unit vectors, shape `[n, 3]`.
    num_centers: Number of centers.
    min_distance_km: Least distance between two centers.
    seed: Seed of the first center.

  Raises:
    ValueError: If fewer than k places are that far apart.

  References:
    Gonzalez, Clustering to Minimize the Maximum Intercluster Distance,
    Theoretical Computer Science 38, 1985.
  """
  places, _ = _unique(_check_places(places))
  blocks = _blocks(places)
  points = places[blocks].astype(np.float32)
  middle = points.mean(axis=1)
  radius = np.linalg.norm(points - middle[:, None], axis=-1).max(axis=1)
  # Chords to the nearest center: of each place, and the longest of each block.
  nearest = np.full(blocks.shape, np.inf, np.float32)
  worst = np.full(len(blocks), np.inf, np.float32)
  least = _chord(min_distance_km)

  rng = np.random.default_rng(seed)
  block = rng.integers(len(blocks))
  place = rng.integers(blocks.shape[1])
  chosen = []
  while len(chosen) < num_centers:
    if worst[block] < least or worst[block] == 0:
      raise ValueError(
        f"num_centers must be at most {len(chosen)}, the number of train "
        f"places at least {min_distance_km} km apart, found {num_centers}; use "
        "fewer centers or a smaller min_distance_km"
      )
    chosen.append(blocks[block, place])
    center = points[block, place]
    gap = np.sqrt(((middle - center) ** 2).sum(axis=1)) - radius
    hit = np.flatnonzero(gap < worst)
    chord = np.sqrt(((points[hit] - center) ** 2).sum(axis=-1))
    nearest[hit] = np.minimum(nearest[hit], chord)
    worst[hit] = nearest[hit].max(axis=1)
    block = worst.argmax()
    place = nearest[block].argmax()
  return places[chosen]


def spherical_kmeans(
  places, num_centers, *, seed=0, num_epochs=10, batch_size=2**16
):
  """Means of their nearest places, by mini-batch spherical k-means.

  A center is the direction of a running sum of its places that decays over one
  epoch. With all places in one batch this is Lloyd's algorithm.

  Args:
    places: Train places, unit vectors, shape `[n, 3]`.
    num_centers: Number of centers.
    seed: Seed of the first centers (random places) and of the batches.
    num_epochs: Passes over the places.
    batch_size: Places per batch.

  Raises:
    ValueError: If there are fewer than k distinct places.

  References:
    Sculley, Web-Scale K-Means Clustering, WWW 2010. Dhillon & Modha, Concept
    Decompositions for Large Sparse Text Data, Machine Learning 42, 2001.
  """
  places = _check_places(places)
  unique, _ = _unique(places)
  _check_enough(unique, num_centers)
  rng = np.random.default_rng(seed)
  mu = rng.permutation(unique)[:num_centers]
  sums = np.zeros_like(mu)
  for _ in range(num_epochs):
    order = rng.permutation(len(places))
    for start in range(0, len(places), batch_size):
      batch = places[order[start : start + batch_size]]
      _, nearest = spatial.cKDTree(mu).query(batch, workers=-1)
      sums *= 1 - len(batch) / len(places)
      for axis in range(3):
        sums[:, axis] += np.bincount(nearest, batch[:, axis], num_centers)
      # A center that has no places, or whose places cancel out, stays.
      length = np.linalg.norm(sums, axis=1, keepdims=True)
      mu = np.where(length > 1e-6, sums / np.maximum(length, 1e-6), mu)
  return mu


def adaptive_partition(places, num_centers):
  """Means of cells of equal train mass.

  The places are halved across their longest axis until each cell has one
  center: cells are small where there are many places, and large elsewhere.

  Raises:
    ValueError: If there are fewer than k distinct places.
  """
  places, counts = _unique(_check_places(places))
  _check_enough(places, num_centers)
  cells = _partition(places, counts, num_centers)
  sums = np.stack([counts[cell] @ places[cell] for cell in cells])
  return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def log_kappa_from_spacing(mu, *, mass=0.5, num_neighbors=4):
  """Concentrations at which a component extends to its neighbors.

  Args:
    mu: Centers, unit vectors, shape `[k, 3]`.
    mass: Mass of a component within the mean distance to the center's nearest
      neighbors.
    num_neighbors: Number of neighbors over which the distance is averaged.

  Returns:
    log(kappa), float32, shape `[k]`, between log 1 and log 1e8.
  """
  mu = np.asarray(mu, np.float64)
  num_neighbors = min(num_neighbors, len(mu) - 1)
  # The cap in which the uniform density holds this mass.
  widest_rad = math.acos(1 - 2 * mass)
  angle_rad = np.full(len(mu), widest_rad)
  if num_neighbors:
    chord, _ = spatial.cKDTree(mu).query(mu, num_neighbors + 1, workers=-1)
    angle_rad = 2 * np.arcsin(np.minimum(chord[:, 1:] / 2, 1)).mean(axis=1)
  angle_rad = np.clip(angle_rad, 1e-7, widest_rad).astype(np.float32)
  kappa = np.asarray(vmf.kappa_for_cap(angle_rad, np.float32(mass)))
  return np.log(np.clip(kappa, _MIN_KAPPA, _MAX_KAPPA))


def _chord(distance_km):
  return 2 * math.sin(distance_km / sphere.EARTH_RADIUS_KM / 2)


def _check_places(places):
  places = np.asarray(places, np.float64)
  if places.ndim != 2 or places.shape[1] != 3 or not len(places):
    raise ValueError(f"places must have shape [n, 3], found {places.shape}")
  error = np.abs(np.linalg.norm(places, axis=1) - 1).max()
  if not error < 1e-5:
    raise ValueError(
      f"places must be unit vectors, found a length that is off by {error:.2g}"
    )
  return places


def _check_enough(unique, num_centers):
  if not 1 <= num_centers <= len(unique):
    raise ValueError(
      f"num_centers must be from 1 to {len(unique)}, the number of distinct "
      f"train places, found {num_centers}"
    )


def _unique(places):
  """The distinct places, and the count of each."""
  ordered = places[np.lexsort(places.T)]
  first = np.r_[True, np.any(ordered[1:] != ordered[:-1], axis=1)]
  starts = np.flatnonzero(first)
  return ordered[starts], np.diff(np.r_[starts, len(places)])


def _blocks(places):
  """Indices of nearby places, padded by repetition, `[blocks, size]`."""
  num_blocks = math.ceil(len(places) / _BLOCK)
  cells = _partition(places, np.ones(len(places)), num_blocks)
  size = max(map(len, cells))
  return np.stack([np.resize(cell, size) for cell in cells])


def _partition(places, weights, num_cells):
  """Splits places into cells of about equal weight, as lists of indices.

  Each cell holds at least one place: `num_cells` is at most their number.
  """
  cells = []
  todo = [(np.arange(len(places)), num_cells)]
  while todo:
    cell, count = todo.pop()
    if count == 1:
      cells.append(cell)
      continue
    x = places[cell]
    _, axes = np.linalg.eigh(np.cov(x, rowvar=False))
    cell = cell[np.argsort(x @ axes[:, -1])]
    left = count // 2
    mass = np.cumsum(weights[cell])
    cut = np.searchsorted(mass, mass[-1] * left / count, side="right")
    cut = np.clip(cut, left, len(cell) - (count - left))
    todo += [(cell[:cut], left), (cell[cut:], count - left)]
  return cells
