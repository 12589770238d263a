"""Tiles are predicted as their records would be, and a bad one stops none."""

import dataclasses
import json

import geopandas
import numpy as np
import pytest
import shapely
import tensorflow_datasets as tfds
from predicted_tiles import BEFORE, make_run, run_command, write_tile

from data_prep import build, grids, products, tiles
from experiments import tile_predictions
from geojax import cell_regions, climate, predict
from geojax.training import calibrations


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
  return make_run(tmp_path_factory.mktemp("run"), "earth_smoke")


def test_a_tile_is_predicted_as_its_records(sentinel2, tmp_path):
  path = write_tile(tmp_path / "in")
  written, errors = run_command(sentinel2, [path], tmp_path / "out")
  assert not errors
  (folder,), (found,) = written.keys(), written.values()
  assert json.loads((folder / "prediction.json").read_text()) == found
  assert found["patches"] == {
    "count": 5,
    "size": 128,
    "left_out": {products.CLOUD: 1},
  }
  # The builder makes records of the same tile; offset and clouds are its own.
  build.build(
    "sentinel2",
    tmp_path,
    tmp_path / "in",
    split={"validation": 0.0, "test": 0.0},
  )
  folder = tmp_path / "geo_tiles/sentinel2/1.0.0"
  records = tfds.builder_from_directory(folder).as_data_source("train")
  records = {(int(r["row"]), int(r["col"])): r for r in records}
  per_patch = {(p["row"], p["col"]): p for p in found["per_patch"]}
  assert per_patch.keys() == records.keys()
  images = np.stack([records[key]["image"] for key in per_patch])
  expected = sentinel2.predict(images)
  for i, (key, patch) in enumerate(per_patch.items()):
    where, record = patch["where"], records[key]
    np.testing.assert_allclose(
      [where["lat"], where["lon"]],
      [expected.lat_lon[0][i], expected.lat_lon[1][i]],
      atol=2e-3,
    )
    np.testing.assert_allclose(
      [where["truth"]["lat"], where["truth"]["lon"]],
      [record["lat"], record["lon"]],
      atol=1e-3,
    )
    np.testing.assert_allclose(patch["when"]["day"], expected.day[i], atol=0.1)
    for zone, share in patch["climate"]["zones"].items():
      probability = expected.climate_probs[i, climate.ZONES.index(zone)]
      np.testing.assert_allclose(share, probability, atol=1e-3)
  assert found["when"]["truth"]["day"] == 186
  tile = sentinel2.combine(predict.sum_up(expected))
  np.testing.assert_allclose(
    found["where"]["lat"], tile.lat_lon[0][0], atol=1e-2
  )


def test_the_zones_lie_where_the_patches_do(sentinel2, tmp_path):
  path = write_tile(tmp_path / "in")
  (folder,), _ = run_command(sentinel2, [path], tmp_path / "out")
  zones = tiles.open_tile(folder / "climate_zones.tif", "uint8")
  # 2 x 3 patches of 1,280 m from the tile's corner, in its projection.
  assert zones.grid == grids.Grid(
    2, 3, 600000.0, 5500020.0, 1280.0, 1280.0, 32633
  )
  codes = zones.read(["climate zone"])[..., 0]
  assert codes[0, 1] == 255
  found = json.loads((folder / "prediction.json").read_text())
  for patch in found["per_patch"]:
    likeliest = next(iter(patch["climate"]["zones"]))
    zone = codes[patch["row"] // 128, patch["col"] // 128]
    assert climate.ZONES[zone] == likeliest


def test_overlapping_patches_are_pixels_about_their_middles(earth, smoke):
  path = next((smoke / "tiles/earth_smoke").glob("*.tif"))
  (folder,), errors = run_command(earth, [path], smoke / "out", stride=10)
  assert not errors
  of_tile = tiles.open_tile(path).grid
  zones = tiles.open_tile(folder / "climate_zones.tif").grid
  assert (zones.height, zones.width) == (8, 8)
  np.testing.assert_allclose(zones.west, of_tile.west + 11 / 15)
  np.testing.assert_allclose(zones.north, of_tile.north - 11 / 15)
  np.testing.assert_allclose(zones.pixel_width, 10 / 15)


def test_regions_hold_each_other_and_the_truth_has_its_level(earth, smoke):
  path = next((smoke / "tiles/earth_smoke").glob("*.tif"))
  written, _ = run_command(earth, [path], smoke / "out")
  (folder,), (found,) = written.keys(), written.values()
  where = found["where"]
  inner, middle, outer = where["credible_regions"]
  assert [r["level"] for r in (inner, middle, outer)] == [0.5, 0.8, 0.95]
  regions = geopandas.read_file(folder / "credible_regions.geojson")
  assert regions.level.tolist() == [0.95, 0.8, 0.5]
  assert regions.area_km2.tolist() == [
    region["area_km2"] for region in (outer, middle, inner)
  ]
  large, medium, small = regions.geometry
  assert large.covers(medium)
  assert medium.covers(small)
  of_cells = regions.to_crs("ESRI:54034").area / 1e6
  cell_km2 = cell_regions.EARTH_AREA_KM2 / tile_predictions.NUM_CELLS
  # A region's last cell is part of its polygon as a whole.
  assert ((of_cells / regions.area_km2) > 0.99).all()
  assert (of_cells < 1.01 * regions.area_km2 + cell_km2).all()
  level = where["truth"]["credible_level"]
  assert 0 <= level <= 1
  truth = shapely.Point(where["truth"]["lon"], where["truth"]["lat"])
  for region, geometry in zip(regions.level, regions.geometry, strict=True):
    # Within the resolution of the cells.
    if abs(level - region) > 0.1:
      assert geometry.contains(truth) == (level < region)
  areas = [
    r["area_km2"] for r in found["per_patch"][0]["where"]["credible_regions"]
  ]
  assert areas == sorted(areas)
  shares = found["climate"]["predicted"]["classes"]
  np.testing.assert_allclose(sum(shares.values()), 1, atol=0.01)


def test_levels_of_a_tile_are_the_calibrated_ones(earth, smoke, tmp_path):
  path = next((smoke / "tiles/earth_smoke").glob("*.tif"))
  make_run(tmp_path / "run", "earth_smoke")
  knots = np.linspace(0, 1, 257) ** 0.5
  fitted = {"level_knots": knots, "num_blocks": 5}
  calibrations.save(
    tmp_path / "run", 0, dict.fromkeys(("coords", "climate", "date"), fitted)
  )
  before, after = (
    next(iter(run_command(predictor, [path], tmp_path / name)[0].values()))
    for name, predictor in (
      ("raw", earth),
      ("calibrated", predict.load(tmp_path / "run")),
    )
  )
  assert before["where"]["levels"] == "the model's own"
  for part in (after["where"], after["when"], after["climate"]["set"]):
    assert part["levels"] == "calibrated"
  raw = before["where"]["truth"]["credible_level"]
  level = after["where"]["truth"]["credible_level"]
  assert level == pytest.approx(raw**2, abs=0.01)
  for part in ("where", "per_patch"):
    small, large = (
      (found[part] if part == "where" else found[part][0]["where"])
      for found in (before, after)
    )
    for one, other in zip(
      small["credible_regions"], large["credible_regions"], strict=True
    ):
      assert other["area_km2"] > 1.02 * one["area_km2"]
  assert (
    after["when"]["spread"][0]["within_days"]
    > before["when"]["spread"][0]["within_days"]
  )
  sets = [found["climate"]["set"]["zones"] for found in (before, after)]
  assert set(sets[0]) < set(sets[1])


def test_how_patches_are_combined_is_recorded_and_matters(earth, smoke):
  path = next((smoke / "tiles/earth_smoke").glob("*.tif"))
  areas = []
  for combine in (
    {"how": "mean"},
    {"how": "product", "num_independent": 50.0},
  ):
    (found,) = run_command(earth, [path], smoke / "out", **combine)[0].values()
    assert found["combined_by"] == combine["how"]
    assert found.get("num_independent") == combine.get("num_independent")
    areas.append(found["where"]["credible_regions"][1]["area_km2"])
  # Many witnesses are surer than any of them.
  assert areas[1] < areas[0]


def test_a_regression_has_places_without_regions(smoke, tmp_path):
  predictor = make_run(tmp_path / "run", "earth_smoke", coords="mse")
  path = next((smoke / "tiles/earth_smoke").glob("*.tif"))
  written, errors = run_command(predictor, [path], tmp_path / "out")
  assert not errors
  (folder,), (found,) = written.keys(), written.values()
  assert "credible_regions" not in found["where"]
  assert (folder / "prediction.png").stat().st_size > 10_000


@pytest.mark.shared_data
def test_a_real_scene(sentinel2, shared_data, tmp_path):
  """One of its quarters is clouded by 30 %, the others by 9 % or less."""
  folder = shared_data / "sentinel2/landcovernet/image1_36N_date-unknown"
  names = (
    *("Scene Classification Layer", "blue", "green", "red", "NIR"),
    *("Vegetation Red Edge", "Vegetation Red Edge B06"),
    *("Vegetation Red Edge B07", "Narrow NIR", "SWIR", "SWIR B12"),
  )
  opened = [
    dataclasses.replace(tiles.open_tile(folder / f"{name}.tif"), bands=("b",))
    for name in names
  ]
  planes = [tile.read(["b"])[..., 0] for tile in opened]
  path = write_tile(tmp_path, BEFORE, planes, opened[0].grid)
  written, errors = run_command(sentinel2, [path], tmp_path / "out")
  assert not errors
  (found,) = written.values()
  assert found["patches"]["count"] == 3
  truth = found["where"]["truth"]
  np.testing.assert_allclose(
    [truth["lat"], truth["lon"]], [36.14, 33.52], atol=0.03
  )
