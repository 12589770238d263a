"""Dots, great circles, credible regions and circles of the maps."""

import numpy as np
import pytest

from geojax import cell_regions, sphere
from geojax.views import maps


def _climate_map():
  zones = np.zeros((90, 180), int)
  zones[20:40, 60:100] = 5
  return zones


def _unit(rng, *shape):
  x = rng.normal(size=(*shape, 3))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _offsets(collection):
  return np.asarray(collection.get_offsets())


def test_the_error_map_draws_all_places_and_leads_on_from_the_worst():
  rng = np.random.default_rng(0)
  true = np.repeat(_unit(rng, 20), 3, axis=0)
  predicted = _unit(rng, 60)
  figure = maps.error_map(
    place_true=true,
    place_predicted=predicted,
    climate_map=_climate_map(),
    max_lines=4,
  )
  world, bar = figure.axes
  distance = sphere.great_circle_km(true, predicted)
  assert type(world.projection).__name__ == "Robinson"
  (dots,) = [c for c in world.collections if len(_offsets(c)) == 60]
  np.testing.assert_allclose(dots.get_array(), np.sort(distance))
  lat, lon = sphere.unit_to_latlon(true[np.argsort(distance)])
  np.testing.assert_allclose(_offsets(dots), np.stack([lon, lat], -1))
  assert "4 worst places" in world.get_title()
  assert f"{np.median(distance):,.0f} km" in world.get_title()
  assert "km" in bar.get_xlabel()
  # The land of the map handed in.
  assert len(world.images) == 1


def test_circles_keep_their_distance_from_their_centers():
  center = sphere.latlon_to_unit(np.array([0.0, 60.0]), np.array([180.0, 20.0]))
  radius = np.array([1000.0, 500.0])
  figure = maps.centers_map(
    centers=center, radius_km=radius, climate_map=_climate_map()
  )
  world = figure.axes[0]
  circles = world.collections[0]
  for path, x, km in zip(circles.get_paths(), center, radius, strict=True):
    lon, lat = path.vertices.T
    away = sphere.great_circle_km(sphere.latlon_to_unit(lat, lon), x)
    np.testing.assert_allclose(away, km, rtol=1e-6)
  # Cut at the edge of the map.
  to_map = circles.get_transform() - world.transData
  x = to_map.transform_path_non_affine(circles.get_paths()[0]).vertices[:, 0]
  assert np.abs(x).min() > 0.9 * world.projection.x_limits[1]
  assert "2 centers" in world.get_title()
  assert "500 to 1,000 km, median 750 km" in world.get_title()


def test_the_probability_map_colours_the_densest_cells():
  cells = sphere.equal_area_grid(4096)
  true = sphere.latlon_to_unit(20.0, 30.0)
  probability = np.exp(200 * (cells @ true - 1))
  probability /= probability.sum()
  centers = _unit(np.random.default_rng(4), 30)
  weights = np.arange(30) / np.arange(30).sum()
  figure = maps.probability_map(
    cell_levels=cell_regions.cell_levels(probability),
    climate_map=_climate_map(),
    place_true=true,
    place_predicted=-true,
    centers=centers,
    weights=weights,
    title="A patch",
    max_centers=5,
  )
  globe = figure.axes[0]
  assert globe.get_title() == "A patch"
  regions = globe.images[-1].get_array()
  # Densest in the middle of a globe seen from above the place.
  height, width = regions.shape
  assert regions[height // 2, width // 2] == 0
  assert regions.mask[5, 5]
  assert set(np.unique(regions.compressed())) == {0, 1, 2}
  places = [
    tuple(_offsets(c)[0]) for c in globe.collections if len(_offsets(c)) == 1
  ]
  assert places[1] == pytest.approx((30, 20))  # the star, last
  (rings,) = [c for c in globe.collections if len(_offsets(c)) == 5]
  lat, lon = sphere.unit_to_latlon(centers[:-6:-1])
  np.testing.assert_allclose(_offsets(rings), np.stack([lon, lat], -1))
  words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
  assert words[:3] == ["50 %", "80 %", "95 %"]
  assert {
    "true place",
    "predicted place (far side)",
    "largest components",
  } <= set(words)


def test_a_map_of_an_unknown_place_has_no_star():
  probability = np.full(512, 1 / 512)
  figure = maps.probability_map(
    cell_levels=cell_regions.cell_levels(probability),
    climate_map=_climate_map(),
  )
  words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
  assert words == ["50 %", "80 %", "95 %"]
