import dataclasses
import datetime
import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import climate_maps, geo_tiles, sources, splits, tile_patches
from data_prep.sources import earth
from geojax import encodings

CONFIG = sources.find("earth_smoke")


@pytest.fixture(scope="module")
def dataset(smoke):
  """A built data set as training sees it: by its folder alone."""
  return tfds.builder_from_directory(smoke / "geo_tiles/earth_smoke/1.0.0")


@pytest.fixture(scope="module")
def records(dataset):
  return {split: list(dataset.as_data_source(split)) for split in splits.SPLITS}


def place_of(record):
  """Row and column of a record's patch on the map of the whole Earth."""
  name, corner = record["id"].decode().split("/")
  row, col = map(int, corner.split("_"))
  lat, lon = int(name[1:3]), int(name[4:7])
  lat, lon = lat if name[0] == "N" else -lat, lon if name[3] == "E" else -lon
  return (90 - lat) * 15 + row, (lon + 180) * 15 + col


def test_the_data_set_tells_all_that_training_must_know(dataset):
  metadata = dataset.info.metadata
  assert metadata["bands"] == ["red", "green", "blue", "altitude", "turbidity"]
  assert metadata["scale"] == [[96, 64]] * 3 + [[400, 1000], [60, 20]]
  assert metadata["settings"] == CONFIG.settings()
  assert dataset.info.features["image"].shape == (32, 32, 5)
  assert set(dataset.info.splits) == set(splits.SPLITS)


def test_records_are_as_promised(records):
  for split in splits.SPLITS:
    assert len(records[split]) > 5
    for record in records[split][:20]:
      assert set(record) == set(
        ["image", "climate", "coords", "date", "land_cover"]
        + ["lat", "lon", "row", "col", "acquired", "id"]
      )
      assert record["image"].shape == (32, 32, 5)
      assert record["image"].dtype == np.int16
      for name, width in {"climate": 31, "coords": 3, "date": 2}.items():
        assert record[name].shape == (width,)
        assert record[name].dtype == np.float32


def test_ids_are_unique(records):
  ids = [r["id"] for split in splits.SPLITS for r in records[split]]
  assert len(ids) == len(set(ids))


def test_images_are_the_pixels_of_their_place_and_month(records):
  opened = {m: CONFIG.source.open_month(None, m) for m in (2, 6, 9)}
  compared = 0
  for split in splits.SPLITS:
    for record in records[split][::7]:
      month = datetime.datetime.fromisoformat(record["acquired"].decode()).month
      if month in opened:
        row, col = place_of(record)
        np.testing.assert_array_equal(
          record["image"],
          opened[month](slice(row, row + 32), slice(col, col + 32)),
        )
        compared += 1
  assert compared > 40


def test_labels_are_those_of_their_place_and_date(records):
  climate_map = climate_maps.load()
  for split in splits.SPLITS:
    for record in records[split][::17]:
      row, col = place_of(record)
      lat, lon = 90 - (row + 16) / 15, (col + 16) / 15 - 180
      np.testing.assert_allclose(
        [record["lat"], record["lon"]], [lat, lon], atol=1e-4
      )
      np.testing.assert_allclose(
        encodings.decode_coordinates(record["coords"]),
        [lat, lon],
        atol=1e-4,
      )
      rows, cols = np.mgrid[row : row + 32, col : col + 32]
      zones = climate_map.lookup(
        90 - (rows + 0.5) / 15, (cols + 0.5) / 15 - 180
      )
      np.testing.assert_allclose(
        record["climate"],
        np.bincount(zones.ravel(), minlength=31) / 1024,
        atol=1e-6,
      )
      date = datetime.datetime.fromisoformat(record["acquired"].decode())
      assert (date.year, date.day, date.hour) == (2004, 15, 12)
      day = encodings.decode_day_of_year(record["date"])
      np.testing.assert_allclose(day, date.timetuple().tm_yday, atol=1e-3)


def test_no_train_patch_overlaps_or_touches_a_held_out_one(records):
  """On the records themselves, patch by patch."""
  where = {s: np.array([place_of(r) for r in records[s]]) for s in records}
  for one, other in [
    ("train", "test"),
    ("train", "validation"),
    ("validation", "test"),
  ]:
    apart = np.abs(where[one][:, None] - where[other][None])
    # The corners are two patch widths apart: a whole one lies between.
    assert apart.max(-1).min() >= 64


def test_scaled_bands_are_about_in_minus_2_to_2(records, dataset):
  images = np.stack([r["image"] for r in records["train"]]).astype(float)
  offset, divisor = np.array(dataset.info.metadata["scale"]).T
  scaled = (images - offset) / divisor
  low, high = np.percentile(scaled, [1, 99], axis=(0, 1, 2))
  assert (low > -2.5).all()
  assert (high < 3.5).all()
  assert (scaled.std(axis=(0, 1, 2)) > 0.3).all()


def test_what_is_slow_is_handed_to_the_given_map(smoke, tmp_path, records):
  paths = sorted((smoke / "tiles/earth_smoke").glob("*.tif"))
  asked = []

  def executor_map(function, *iterables):
    asked.append(len(iterables[0]))
    return map(function, *iterables)

  builder = geo_tiles.GeoTiles(
    config=CONFIG,
    data_dir=tmp_path,
    tile_paths=paths,
    executor_map=executor_map,
  )
  builder.download_and_prepare()
  num_shards = sum(s.num_shards for s in builder.info.splits.values())
  assert asked == [len(paths), num_shards]
  counts = builder.counts
  assert counts.total() == len(paths) * 15 * 15
  assert all(counts[s] == len(records[s]) for s in splits.SPLITS)


def test_shards_hold_whole_tiles_unless_one_is_larger():
  counts = [30, 80, 0, 40, 350, 10, 0, 60, 60]
  paths = [f"tile {i}" for i in range(len(counts))]
  groups = geo_tiles._group(paths, counts, 100)
  # All patches in their order, each once.
  found = [
    (part.path, position)
    for group in groups
    for part in group
    for position in range(part.start, part.stop)
  ]
  assert found == [
    (path, position)
    for path, count in zip(paths, counts, strict=True)
    for position in range(count)
  ]
  sizes = [sum(p.stop - p.start for p in group) for group in groups]
  assert len(groups) == -(-sum(counts) // 100)
  assert all(0 < size < 2 * 100 for size in sizes)
  parts = [part.path for group in groups for part in group]
  assert {p: parts.count(p) for p in paths if parts.count(p) != 1} == {
    "tile 2": 0,
    "tile 6": 0,
    "tile 4": 4,
  }


@pytest.mark.parametrize("shard_bytes", [1_500_000, 60_000])
def test_shards_are_cut_by_bytes(
  smoke, tmp_path, records, monkeypatch, shard_bytes
):
  """In shards of some tiles, and of less than a tile; nothing else changes."""
  monkeypatch.setattr(geo_tiles, "SHARD_BYTES", shard_bytes)
  builder = geo_tiles.GeoTiles(
    config=CONFIG,
    data_dir=tmp_path,
    tile_paths=sorted((smoke / "tiles/earth_smoke").glob("*.tif")),
  )
  builder.download_and_prepare()
  infos = builder.info.splits
  # Images of 10 kB and land cover of 1 kB, compressed.
  a_record = 0.66 * (32 * 32 * (5 * 2 + 1) + 4 * 36 + 4 * 4)
  for split in splits.SPLITS:
    count = len(records[split])
    wanted = -(-count // int(shard_bytes / a_record))
    assert infos[split].num_shards == pytest.approx(wanted, rel=0.1)
    assert infos[split].num_examples == count
    files = list(builder.data_path.glob(f"*-{split}.array_record-*"))
    sizes = [os.path.getsize(file) for file in files]
    assert infos[split].num_bytes == sum(sizes)
    # ArrayRecord pads files to blocks of 64 KiB, two at least.
    assert max(sizes) < 2 * shard_bytes + 2**17
    read = list(builder.as_data_source(split))
    for a, b in zip(read, records[split], strict=True):
      assert a.keys() == b.keys()
      assert all(np.array_equal(a[k], b[k], equal_nan=k == "date") for k in a)
  if shard_bytes < 100_000:
    ids = {r["id"].split(b"/")[0] for r in records["train"]}
    assert infos["train"].num_shards > len(ids)


def test_a_small_data_set_has_a_shard_a_split(dataset):
  assert [split.num_shards for split in dataset.info.splits.values()] == [1] * 3


def test_a_tile_that_fails_in_every_split_is_told_once(smoke, tmp_path):
  rule = dataclasses.replace(
    CONFIG.patches,
    size=8,
    stride=8,
    split=splits.SplitRule(1, 0, 0, validation=0.3, test=0.3),
  )
  config = dataclasses.replace(CONFIG, patches=rule)
  paths = sorted((smoke / "tiles/earth_smoke").glob("N50E0*.tif"))[:2]
  # Its header is whole, so that its patches are counted.
  bad = tmp_path / "bad.tif"
  bad.write_bytes(paths[0].read_bytes()[:-9000])
  assert {0, 1, 2} <= set(tile_patches.open_tile(bad, config).split)
  builder = geo_tiles.GeoTiles(
    config=config,
    data_dir=tmp_path,
    tile_paths=[bad, paths[1]],
    strict=False,
  )
  builder.download_and_prepare()
  (error,) = builder.errors
  assert error.path == bad
  assert "truncated" in error.reason
  built = tfds.builder_from_directory(builder.data_path)
  assert built.info.metadata["errors"] == [
    {"file": str(bad), "reason": error.reason}
  ]


def test_a_data_set_with_an_empty_split_is_refused(smoke, tmp_path):
  paths = sorted((smoke / "tiles/earth_smoke").glob("N50E010_*.tif"))
  builder = geo_tiles.GeoTiles(
    config=CONFIG, data_dir=tmp_path, tile_paths=paths
  )
  with pytest.raises(
    geo_tiles.EmptySplitError, match=r"validation.*--validation=0"
  ):
    builder.download_and_prepare()
  assert not builder.data_path.exists()


def test_configs_are_whole():
  names = sources.names()
  assert {"earth", "earth_smoke", "blue_marble"} <= set(names)
  for name in names:
    config = sources.find(name)
    assert config.name == name
    if name != "images":
      assert len(config.scale) == len(config.bands) > 0
    patches = config.patches
    assert set(config.bands) <= set(config.source.bands)
    if not isinstance(config.source, earth.Earth):
      continue
    # Each patch of the grid lies in one tile, and in one alone.
    assert earth.BLOCK_PX % patches.stride == 0
    assert config.source.overlap == patches.size - patches.stride
    width_deg = patches.size / earth.PIXELS_PER_DEGREE
    assert patches.split.buffer_deg >= width_deg


def test_settings_tell_configs_apart():
  config = dataclasses.replace(
    CONFIG, patches=dataclasses.replace(CONFIG.patches, stride=15)
  )
  assert config.settings() != CONFIG.settings()
  assert config.settings()["patches"]["stride"] == 15
  assert not any(
    str(pathlib.Path.home()) in str(sources.find(name).settings())
    for name in sources.names()
  )
