"""Legends, flags and what a map must be."""

import dataclasses
import json

import numpy as np
import pytest
from geotiff_samples import write_band
from map_samples import (
  COLS,
  IMAGE,
  ROWS,
  SIZE,
  around,
  class_map,
  first_patch,
  value_map,
)

from data_prep import grids, map_targets, maps, tiles

RNG = np.random.default_rng(0)


def test_a_map_whose_projection_does_not_reach_the_image_is_named(tmp_path):
  """Places that a projection cannot hold have no position, not a warning."""
  # Around the south pole; the image's place is beyond the projection.
  grid = grids.Grid(8, 8, -4e6, 4e6, 1e6, 1e6, 3031)
  codes = np.ones((8, 8), np.uint8)
  path = write_band(tmp_path / "map.tif", codes, grid)
  far = dataclasses.replace(IMAGE, north=0.0)
  for target in (class_map(path), value_map(path)):
    with pytest.raises(tiles.TileError, match="lies outside of the map"):
      target.check_covers("a.tif", far)


def test_places_without_a_position_are_unknown():
  """As a projection may have none for a part of a tile."""

  class Nowhere:
    grid = dataclasses.replace(IMAGE, height=8, width=8)
    scale, no_data = (1.0, 0.0), None

  nothing = np.full((2, 3, 3), np.nan)
  codes = maps.codes_at(Nowhere, nothing, nothing, np.zeros(256, np.uint8))
  assert codes.dtype == np.uint8
  assert (codes == maps.UNKNOWN).all()
  values = maps.values_at(Nowhere, nothing, nothing)
  assert np.isnan(values).all()


def test_a_legend_names_codes_and_gives_them_colours(tmp_path):
  grid = around(IMAGE, 32633, 10.0)
  codes = RNG.choice([10, 20, 95], (grid.height, grid.width)).astype(np.uint8)
  path = write_band(tmp_path / "map.tif", codes, grid)
  legend = tmp_path / "legend.json"
  legend.write_text(
    json.dumps(
      {
        "95": {"name": "mangroves", "color": "#00cf75"},
        "10": {"name": "trees", "color": "#006400"},
        "20": {"name": "shrubs", "color": "#ffbb22"},
      }
    )
  )
  target = class_map(path, legend)
  assert target.classes() == (
    ("trees", "shrubs", "mangroves"),
    ("#006400", "#ffbb22", "#00cf75"),
  )
  found = target.sample(IMAGE, ROWS, COLS, SIZE)
  np.testing.assert_array_equal(
    np.array([10, 20, 95])[found[0]], first_patch(codes, grid)
  )
  described = target.describe({"train": target.count(found)})
  assert described["unknown"] == 0
  assert described["counts"]["train"]["trees"] == np.sum(found == 0)
  legend.write_text(json.dumps({"10": "trees", "20": "shrubs"}))
  map_targets._read_legend.cache_clear()
  with pytest.raises(
    tiles.TileError, match="does not name; add it to the lege"
  ):
    target.sample(IMAGE, ROWS, COLS, SIZE)


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    ("no", "not JSON"),
    ("[1]", "expected an object such as"),
    ('{"a": "forest"}', "code 'a', expected a number"),
    ('{"1": 2}', "class 2 of code 1, expected a name"),
  ],
)
def test_a_legend_that_is_none_is_named(tmp_path, content, reason):
  grid = around(IMAGE, 32633, 10.0)
  codes = np.ones((grid.height, grid.width), np.uint8)
  path = write_band(tmp_path / "map.tif", codes, grid)
  (tmp_path / "legend.json").write_text(content)
  with pytest.raises(ValueError, match=reason):
    class_map(path, tmp_path / "legend.json").check()


def test_a_map_that_cannot_be_one_is_named(tmp_path):
  grid = around(IMAGE, 32633, 10.0)
  values = np.full((grid.height, grid.width), 1e5, np.float32)
  path = write_band(tmp_path / "map.tif", values, grid)
  with pytest.raises(tiles.TileError, match="float32 pixels, expected codes"):
    class_map(path).check()
  with pytest.raises(tiles.TileError, match="value 100000, but records hold"):
    value_map(path).sample(IMAGE, ROWS, COLS, SIZE)
  with pytest.raises(tiles.TileError, match="no such file"):
    value_map(tmp_path / "none.tif").check()
  elsewhere = dataclasses.replace(IMAGE, north=6500000.0)
  with pytest.raises(tiles.TileError, match=r"a\.tif: lies outside of the map"):
    value_map(path).check_covers("a.tif", elsewhere)
  value_map(path).check_covers("a.tif", IMAGE)


@pytest.mark.parametrize(
  ("text", "kind"),
  [("a.tif", "class_map"), ("=a.tif", "value_map"), ("x=a,b", "value_map")],
)
def test_a_flag_of_another_form_is_named(text, kind):
  with pytest.raises(ValueError, match=f"--{kind}={text}, expected NAME=FILE"):
    map_targets.parse(text, kind)
