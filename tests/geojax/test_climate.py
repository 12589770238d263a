import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import climate

# fmt: off
ORDER = [
  "sea", "Af", "Am", "Aw", "BWh", "BWk", "BSh", "BSk",
  "Csa", "Csb", "Csc", "Cwa", "Cwb", "Cwc", "Cfa", "Cfb", "Cfc",
  "Dsa", "Dsb", "Dsc", "Dsd", "Dwa", "Dwb", "Dwc", "Dwd",
  "Dfa", "Dfb", "Dfc", "Dfd", "ET", "EF",
]
# fmt: on


def test_zones_in_order():
  assert list(climate.ZONES) == ORDER
  assert len(climate.ZONE_NAMES) == 31
  assert climate.ZONE_COLORS.shape == (31, 3)


def test_classes_by_first_letter():
  letters = ["s", "A", "B", "C", "D", "E"]
  expected = [letters.index(zone[0]) for zone in ORDER]
  np.testing.assert_array_equal(climate.ZONE_TO_CLASS, expected)
  assert climate.CLASSES == (
    "sea",
    "tropical",
    "arid",
    "temperate",
    "cold",
    "polar",
  )
  for number, name in zip(
    climate.ZONE_TO_CLASS, climate.ZONE_NAMES, strict=True
  ):
    assert name.lower().startswith(climate.CLASSES[number])


def test_slices_cover_the_zones_once():
  for number, zones in enumerate(climate.CLASS_SLICES):
    assert set(climate.ZONE_TO_CLASS[zones]) == {number}
  covered = np.concatenate([np.arange(31)[s] for s in climate.CLASS_SLICES])
  np.testing.assert_array_equal(covered, np.arange(31))


def test_class_fractions():
  zones = np.random.default_rng(0).dirichlet(np.ones(31), (2, 5))
  expected = np.zeros((2, 5, 6))
  for zone, number in enumerate(climate.ZONE_TO_CLASS):
    expected[..., number] += zones[..., zone]
  found = climate.class_fractions(zones)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, expected, rtol=1e-14)
  traced = jax.jit(climate.class_fractions)(jnp.asarray(zones))
  np.testing.assert_allclose(traced, expected, rtol=1e-6)
  with pytest.raises(ValueError, match=r"zones must have shape .*31.*\(30,\)"):
    climate.class_fractions(np.ones(30))


def test_colors_differ():
  assert len({tuple(c) for c in climate.ZONE_COLORS.tolist()}) == 31
  assert len({tuple(c) for c in climate.CLASS_COLORS.tolist()}) == 6
  # Three entries of the published legend.
  at = climate.ZONES.index
  assert tuple(climate.ZONE_COLORS[at("Af")]) == (0, 0, 255)
  assert tuple(climate.ZONE_COLORS[at("BWh")]) == (255, 0, 0)
  assert tuple(climate.ZONE_COLORS[at("Dfc")]) == (0, 125, 125)
