"""Credible regions over cells: against a loop, and in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import cell_regions, mixture, sphere, vmf


def loop_levels(row):
  """The same, cell by cell."""
  return [sum(p for p in row if p > own) for own in row]


@pytest.fixture
def probabilities():
  rows = np.random.default_rng(0).dirichlet(np.full(50, 0.2), size=4)
  return rows


@pytest.mark.parametrize("xp", [np, jnp])
def test_levels_are_the_mass_of_what_is_likelier(probabilities, xp):
  found = cell_regions.cell_levels(xp.asarray(probabilities))
  expected = [loop_levels(row) for row in probabilities]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_region_holds_its_level_and_no_cell_too_many(probabilities):
  levels = cell_regions.cell_levels(probabilities)
  for level in (0.3, 0.8, 0.99):
    inside = levels < level
    mass = np.sum(probabilities * inside, axis=-1)
    least = np.min(np.where(inside, probabilities, 1), axis=-1)
    assert (mass >= level).all()
    assert (mass - least < level).all()


@pytest.mark.parametrize("xp", [np, jnp])
def test_shares_hold_the_mass_of_each_level_whatever_the_cells(
  probabilities, xp
):
  falling = -np.sort(-probabilities, axis=-1)
  levels = (0.3, 0.8, 0.99)
  share = cell_regions.shares(xp.asarray(falling), levels)
  assert share.shape == (4, 3, 50)
  mass = np.sum(np.asarray(share) * falling[:, None], axis=-1)
  np.testing.assert_allclose(mass, [levels] * 4, rtol=1e-5)
  if xp is np:  # In float32 the levels of tiny cells are all rounding.
    # Only the last cell of a region may lie in it by a part.
    assert np.all(np.diff(share, axis=-1) <= 0)
    assert np.all(np.sum((share > 0) & (share < 1), axis=-1) <= 1)


@pytest.mark.parametrize("xp", [np, jnp])
def test_the_level_of_a_place_is_the_mass_of_denser_cells(xp):
  # Cells of unlike area: density and mass do not sort alike.
  mass = xp.asarray([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
  density = xp.asarray([[1.0, 4.0, 2.0], [3.0, 2.0, 1.0]])
  level = cell_regions.level_of_density(xp.asarray([1.5, 2.0]), mass, density)
  np.testing.assert_allclose(level, [0.5, 0.1], rtol=1e-6)


def test_tiny_masses_overflow_nothing():
  mass = np.float32([[1, 1e-42, 0]])
  with np.errstate(all="raise", under="ignore"):
    share = cell_regions.shares(mass, (0.5, 1.0))
  np.testing.assert_array_equal(share, [[[0.5, 0, 0], [1, 0, 0]]])


@pytest.mark.parametrize("xp", [np, jnp])
def test_areas_lie_between_those_of_whole_cells(probabilities, xp):
  cell = cell_regions.EARTH_AREA_KM2 / 50
  levels = (0.3, 0.8, 0.99)
  found = cell_regions.credible_area_km2(xp.asarray(probabilities), levels)
  for i, level in enumerate(levels):
    whole = cell * np.sum(
      cell_regions.cell_levels(probabilities) < level, axis=-1
    )
    assert (found[:, i] <= whole * (1 + 1e-6)).all()
    assert (found[:, i] > whole - cell).all()


def test_the_area_of_one_component_is_that_of_a_cap():
  kappa, level = 40.0, 0.8
  mu = np.array([[0.0, 0.6, 0.8]], np.float32)
  cells = sphere.equal_area_grid(20_000)
  found = jax.jit(
    lambda: cell_regions.credible_area_km2(
      mixture.probability_map(np.zeros((1, 1)), mu, np.log([kappa]), cells),
      (level,),
    )
  )()
  # A cap of angle a has the area 2 pi (1 - cos a); vmf.kappa_for_cap inverts.
  angles = np.linspace(0.01, 1, 5000)
  angle = np.interp(level, vmf.cap_mass(kappa, angles), angles)
  cap = cell_regions.EARTH_AREA_KM2 / 2 * (1 - np.cos(angle))
  np.testing.assert_allclose(found, [[cap]], rtol=0.01)


def test_the_sure_have_no_area_and_the_ignorant_all():
  sure, ignorant = np.eye(50)[0], np.full(50, 1 / 50)
  found = cell_regions.credible_area_km2(np.stack([sure, ignorant]), (0.5,))
  cell = cell_regions.EARTH_AREA_KM2 / 50
  np.testing.assert_allclose(found[:, 0], [cell / 2, 25 * cell])
