import json
import tracemalloc

import numpy as np
import pytest
import tifffile

from data_prep import climate_maps, tiles
from geojax import climate

# The legend that comes with the maps of Beck et al., codes 1 to 30.
BECK = (
  "Af Am Aw BWh BWk BSh BSk Csa Csb Csc Cwa Cwb Cwc Cfa Cfb Cfc "
  "Dsa Dsb Dsc Dsd Dwa Dwb Dwc Dwd Dfa Dfb Dfc Dfd ET EF"
)


def write(
  path, pixels, *, west=-180.0, north=90.0, size=None, epsg=4326, **layout
):
  """Writes a file as GDAL does: no band names, no date."""
  height, width = pixels.shape[:2]
  pixel_width, pixel_height = size or (360 / width, 180 / height)
  model, code = (2, 2048) if epsg == 4326 else (1, 3072)
  keys = (1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, 1, code, 0, 1, epsg)
  tifffile.imwrite(
    path,
    pixels,
    photometric="minisblack",
    metadata=None,
    extratags=[
      (33550, "d", 3, (pixel_width, pixel_height, 0.0), True),
      (33922, "d", 6, (0.0, 0.0, 0.0, west, north, 0.0), True),
      (34735, "H", len(keys), keys, True),
    ],
    **layout,
  )
  return path


@pytest.fixture
def codes():
  return np.random.default_rng(0).integers(0, 31, (90, 180)).astype(np.uint8)


@pytest.fixture
def path(tmp_path, codes):
  return write(tmp_path / "map.tif", codes)


@pytest.mark.parametrize(
  "layout",
  [
    {},
    {"compression": "zlib", "rowsperstrip": 7},
    {"compression": "lzw", "tile": (32, 16)},
    {"compression": "zlib", "rowsperstrip": 90},
  ],
)
def test_a_map_is_read_whole_strip_by_strip(
  tmp_path, codes, layout, monkeypatch
):
  # 11 rows a strip, 9 strips.
  monkeypatch.setattr(climate_maps, "_STRIP_PIXELS", 11 * 180)
  path = write(tmp_path / "map.tif", codes, **layout)
  zones = climate_maps.load(path).zones
  assert zones.dtype == np.uint8
  np.testing.assert_array_equal(zones, codes)


@pytest.mark.parametrize(
  ("layout", "strips"),
  [
    ({}, 1),
    ({"rowsperstrip": 16, "compression": "zlib"}, 1),
    # All in one: that has to be decoded whole.
    ({"rowsperstrip": 2048, "compression": "zlib"}, 128),
  ],
)
def test_memory_is_that_of_the_map_and_a_few_strips(
  tmp_path, layout, strips, monkeypatch
):
  monkeypatch.setattr(climate_maps, "_STRIP_PIXELS", 2**16)
  codes = np.zeros((2048, 4096), np.uint8)
  path = write(tmp_path / "map.tif", codes, **layout)
  tracemalloc.start()
  climate_maps.load(path, water_mask=path)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < codes.size + (60 + 3 * strips) * 2**16


def test_the_default_legend_is_that_of_beck_et_al(tmp_path):
  codes = np.repeat(np.arange(31, dtype=np.uint8), 2).reshape(31, 2)
  zones = climate_maps.load(write(tmp_path / "m.tif", codes)).zones
  assert " ".join(climate.ZONES[z] for z in zones[1:, 0]) == BECK
  assert climate.ZONES[zones[0, 0]] == "sea"


def test_places_are_the_map_s(path, codes):
  climate_map = climate_maps.load(path)
  # Pixels of 2 degrees: row 20 begins at 50 N, column 96 at 12 E.
  assert climate_map.lookup(49.5, 13.5) == codes[20, 96]
  assert climate_map.lookup(-89.5, -179.5) == codes[89, 0]


def write_legend(folder, legend):
  path = folder / "legend.json"
  path.write_text(legend if isinstance(legend, str) else json.dumps(legend))
  return path


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_a_legend_gives_other_codes_their_zones(tmp_path, dtype):
  high = np.iinfo(dtype).max
  low = np.iinfo(dtype).min
  codes = np.array([[1, high], [low, 7]], dtype)
  # The last two fit no file of 16 bits: they must not wrap into it.
  legend = {1: "EF", high: "sea", low: 8, 7: "Cfb", 7 + 2**16: 1, 7 - 2**16: 1}
  path = write(tmp_path / "map.tif", codes)
  zones = climate_maps.load(path, write_legend(tmp_path, legend)).zones
  names = [climate.ZONES[z] for z in zones.ravel()]
  assert names == ["EF", "sea", "Csa", "Cfb"]


@pytest.mark.parametrize("legend", ["", {c: c for c in range(31)}])
def test_a_code_without_a_zone_is_told_with_its_pixels(
  tmp_path, codes, legend, monkeypatch
):
  monkeypatch.setattr(climate_maps, "_STRIP_PIXELS", 11 * 180)
  codes[[3, 40, 80], 5] = 31
  codes[50, 50] = 255
  path = write(tmp_path / "map.tif", codes)
  with pytest.raises(
    tiles.TileError, match=r"map.tif: 2 codes .* 31 \(3 pixels\), 255 \(1 pix"
  ):
    climate_maps.load(path, legend and write_legend(tmp_path, legend))


@pytest.mark.parametrize(
  ("legend", "message"),
  [
    ({1: "Xyz"}, "zone 'Xyz' of code 1, expected"),
    ({1: 31}, "zone 31 of code 1"),
    ({1: -1}, "zone -1 of code 1"),
    ({1: True}, "zone True of code 1"),
    ({"one": "Af"}, "code 'one', expected a number"),
    ({"1": "Af", "01": "Am"}, "two entries for code 1"),
    ("{1: 2", "not JSON"),
    ("[1]", "list, expected an object"),
  ],
)
def test_a_wrong_legend_is_told(tmp_path, path, legend, message):
  with pytest.raises(ValueError, match=rf"legend\.json: {message}"):
    climate_maps.load(path, write_legend(tmp_path, legend))


@pytest.mark.parametrize("shape", [(90, 180), (40, 77), (361, 1000), (1, 2)])
def test_water_becomes_sea(tmp_path, path, codes, shape, monkeypatch):
  monkeypatch.setattr(climate_maps, "_STRIP_PIXELS", 3000)
  mask = np.random.default_rng(1).integers(0, 3, shape).astype(np.int16)
  mask_path = write(tmp_path / "mask.tif", mask)
  climate_map = climate_maps.load(path, water_mask=mask_path)
  expected = codes.copy()
  for row in range(90):
    for col in range(180):
      # Each centre in degrees from the corner, 2 degrees a pixel.
      y = int((2 * row + 1) / (180 / shape[0]))
      x = int((2 * col + 1) / (360 / shape[1]))
      if mask[y, x]:
        expected[row, col] = 0
  np.testing.assert_array_equal(climate_map.zones, expected)
  if mask.size > 2:
    assert 0 < np.mean(climate_map.zones != codes) < 1


@pytest.mark.parametrize(
  ("place", "message"),
  [
    ({"west": -178.9}, "covers -178.9 to 181.1 E"),
    ({"west": 0.0}, "covers 0 to 360 E"),
    ({"north": 91.0}, "-89 to 91 N"),
    ({"north": 80.0}, "-100 to 80 N"),
    ({"size": (1.95, 2.0)}, "covers -180 to 171 E"),
    ({"size": (2.0, 1.95)}, "-85.5 to 90 N"),
    ({"epsg": 32633}, "EPSG:32633, expected EPSG:4326"),
  ],
)
def test_a_map_of_another_place_is_told(tmp_path, codes, path, place, message):
  # Pixels of 2 degrees: one of them is half a pixel.
  other = write(tmp_path / "other.tif", codes, **place)
  with pytest.raises(tiles.TileError, match=f"other.tif: .*{message}"):
    climate_maps.load(other)
  with pytest.raises(tiles.TileError, match=f"other.tif: .*{message}"):
    climate_maps.load(path, water_mask=other)


def test_edges_may_be_rounded(tmp_path, codes):
  path = write(tmp_path / "map.tif", codes, west=-179.999, north=90.0001)
  zones = climate_maps.load(path).zones
  np.testing.assert_array_equal(zones, codes)


def test_pixels_that_are_no_codes_are_told(tmp_path, codes):
  path = write(tmp_path / "map.tif", codes.astype(np.float32))
  with pytest.raises(tiles.TileError, match="float32 pixels, expected codes"):
    climate_maps.load(path)
  path = write(
    tmp_path / "map.tif", np.stack([codes] * 2, -1), planarconfig="contig"
  )
  with pytest.raises(tiles.TileError, match="2 bands, expected one"):
    climate_maps.load(path)


def test_a_missing_file_is_told(tmp_path, path):
  with pytest.raises(tiles.TileError, match=r"no\.tif: no such file"):
    climate_maps.load(tmp_path / "no.tif")
  with pytest.raises(tiles.TileError, match=r"no\.tif: no such file"):
    climate_maps.load(path, water_mask=tmp_path / "no.tif")


def test_a_mask_leaves_the_default_map_alone(tmp_path):
  mask = write(tmp_path / "mask.tif", np.ones((1, 2), np.uint8))
  assert not climate_maps.load(water_mask=mask).zones.any()
  # Under other arguments: what `load` returned before would be cached.
  assert climate_maps.load("", "", "").zones.any()
