"""Codes and values of arrays, as records hold them."""

import numpy as np
import pytest

from data_prep import array_targets, configs, land_cover, tiles

LC = array_targets.ArrayTarget("lc", "class_map")
ROADS = array_targets.ArrayTarget("roads", "value_map", ("denmark-1",))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32"])
def test_codes_become_positions_in_the_legend(dtype):
  codes = np.array([*land_cover.WORLD_COVER, 0], dtype).reshape(1, 3, 4, 1)
  found = LC.convert(codes, "lc.npy", [0])
  assert found.dtype == np.uint8
  assert found.shape == (1, 3, 4)
  assert found.ravel().tolist() == [*range(11), 255]


def test_what_is_not_known_is_unknown():
  pixels = np.array([[[[10.0], [np.nan], [0.0]]]])
  assert LC.convert(pixels, "lc.npy", [0]).ravel().tolist() == [0, 255, 255]
  found = ROADS.convert(pixels, "roads.npy", [0])
  assert found.dtype == np.float16
  np.testing.assert_array_equal(found.ravel(), [10, np.nan, 0])


@pytest.mark.parametrize(
  "code", [15, 255, 256, 266, -10, 10.5, np.inf, -np.inf]
)
def test_a_code_without_a_class_is_an_error(code):
  pixels = np.full((2, 1, 2, 1), 10.0)
  pixels[1, 0, 1] = code
  with pytest.raises(
    tiles.TileError, match=rf"lc.npy: {code:g} at row 0, column 1 of patch 7, "
  ):
    LC.convert(pixels, "lc.npy", [4, 7])


def test_targets_are_described_as_those_of_maps_are():
  pixels = np.array([[0, 0, 10, 255]], np.uint8)
  described = LC.describe({"train": LC.count(pixels)})
  assert described == {
    "name": "lc",
    "kind": "class_map",
    "unknown": 0.25,
    "classes": [name for name, _ in land_cover.WORLD_COVER.values()],
    "colors": [color for _, color in land_cover.WORLD_COVER.values()],
    "counts": {
      "train": {
        name: {"Tree cover": 2, "Moss and lichen": 1}.get(name, 0)
        for name, _ in land_cover.WORLD_COVER.values()
      }
    },
  }
  values = np.array([[0.5, 1.0, np.nan, np.nan]], np.float16)
  assert ROADS.describe({"test": ROADS.count(values)}) == {
    "name": "roads",
    "kind": "value_map",
    "without": ["denmark-1"],
    "threshold": 0.5,
    "unknown": 0.5,
    "counts": {"test": 2},
    "mean": {"test": 0.75},
  }


def test_targets_are_kept_in_the_settings():
  settings = {"name": "roads", "kind": "value_map", "without": ["denmark-1"]}
  assert configs._pixel_target(settings) == ROADS
