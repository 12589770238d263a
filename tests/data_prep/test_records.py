"""Patches of single tiles, cut and written."""

import collections
import dataclasses
import datetime
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from array_record.python import array_record_data_source

from data_prep import (
  kept_shards,
  places,
  records,
  sources,
  splits,
  tile_patches,
  tile_source,
  tile_writer,
  tiles,
)
from geojax import encodings

CONFIG = sources.find("earth_smoke")
REPO = pathlib.Path(__file__).parents[2]


def test_a_full_disk_is_an_error(tmp_path):
  with pytest.raises(OSError, match="no-such-folder"):
    records.write_shard(tmp_path / "no-such-folder/x", [], "test", CONFIG)


def one_tile(path, **kwargs):
  rng = np.random.default_rng(0)
  arguments = {
    "pixels": rng.integers(0, 255, (102, 102, 5)).astype(np.int16),
    "bands": CONFIG.bands,
    "west": 10.0,
    "north": 50.0,
    "pixel_size": 1 / 15,
    "date": datetime.datetime(2004, 6, 15, 12),
  } | kwargs
  tile_writer.write_tile(path, arguments.pop("pixels"), **arguments)
  return path


def test_records_are_the_same_bytes_in_each_process(tmp_path):
  """The order of a protobuf map depends on the process."""
  tile = one_tile(tmp_path / "tile.tif")
  code = (
    "import sys; from data_prep import records, sources;"
    "config = sources.find('earth_smoke');"
    "parts = [records.Part(sys.argv[2])];"
    "records.write_shard(sys.argv[1], parts, 'train', config)"
  )
  shards = [tmp_path / name for name in "abc"]
  for shard in shards[:2]:
    command = [sys.executable, "-c", code, str(shard), str(tile)]
    subprocess.run(command, check=True, cwd=REPO)
  records.write_shard(shards[2], [records.Part(tile)], "train", CONFIG)
  written = {shard.read_bytes() for shard in shards}
  assert len(written) == 1
  assert len(written.pop()) > 2**16


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"date": None}, "no date"),
    ({"pixels": np.zeros((102, 102, 5), np.uint16)}, "dtype uint16"),
    ({"bands": ("red", "green", "blue", "dem", "haze")}, "band altitude"),
  ],
)
def test_a_tile_that_cannot_be_used_is_named(tmp_path, kwargs, message):
  path = one_tile(tmp_path / "bad.tif", **kwargs)
  with pytest.raises(tiles.TileError, match=rf"bad\.tif: {message}"):
    cut_whole(path, CONFIG, "train")
  report = records.count_patches(path, CONFIG)
  assert not report.counts
  (error,) = report.errors
  assert message in str(error)


def cut_whole(path, config, split):
  """All of a tile's patches of one split; of a tile read in one go."""
  errors = []
  ((patches, left_out),) = records.cut_patches(
    records.Part(path), config, split, errors
  )
  assert not left_out
  assert not errors
  return patches


def test_bands_are_read_by_name(tmp_path):
  swapped = ("blue", "green", "red", "turbidity", "altitude")
  plain = one_tile(tmp_path / "plain.tif")
  other = one_tile(tmp_path / "other.tif", bands=swapped)
  a = cut_whole(plain, CONFIG, "train")["image"]
  b = cut_whole(other, CONFIG, "train")["image"]
  assert len(a) > 10
  np.testing.assert_array_equal(a, b[..., [2, 1, 0, 4, 3]])


def test_a_tile_is_opened_once_to_count_and_once_to_cut(tmp_path, monkeypatch):
  pixels = np.ones((600, 102, 5), np.int16)
  path = one_tile(tmp_path / "tile.tif", pixels=pixels)
  monkeypatch.setattr(tile_patches, "_ROWS_AT_ONCE", 1)
  opened, real = [], tifffile.TiffFile

  def open_file(file, **kwargs):
    # Not the map of a target, which whoever needs it first opens.
    if file == path:
      opened.append(file)
    return real(file, **kwargs)

  monkeypatch.setattr(tifffile, "TiffFile", open_file)
  records.count_patches(path, CONFIG)
  assert opened == [path]
  assert (
    len(list(records.cut_patches(records.Part(path), CONFIG, "train", []))) > 1
  )
  assert opened == [path, path]


def test_a_source_must_not_take_the_name_of_a_label(monkeypatch):
  monkeypatch.setattr(type(CONFIG.source), "features", {"date": str})
  with pytest.raises(ValueError, match="there is a feature date already"):
    records.features(CONFIG)


def test_a_tile_may_belong_to_several_splits(tmp_path):
  rule = places.PatchRule(
    size=8,
    stride=8,
    split=splits.SplitRule(1, 0, 0, validation=0.3, test=0.3),
    train_kept=1.0,
    max_sea=1.0,
    sea_kept=1.0,
  )
  config = dataclasses.replace(CONFIG, patches=rule)
  path = one_tile(tmp_path / "tile.tif")
  tile = tiles.open_tile(path)
  pixels = tile.read(CONFIG.bands)
  chosen = places.select_places(tile.grid, rule)
  counts = records.count_patches(path, config).counts
  for index, split in enumerate(splits.SPLITS):
    mine = np.flatnonzero(chosen.split == index)
    assert len(mine) == counts[split] > 5
    cut = cut_whole(path, config, split)
    assert len(cut["id"]) == len(mine)
    for i, place in enumerate(mine):
      row, col = chosen.rows[place], chosen.cols[place]
      assert cut["id"][i] == f"tile/{row}_{col}"
      np.testing.assert_array_equal(
        cut["image"][i], pixels[row : row + 8, col : col + 8]
      )
      np.testing.assert_array_equal(cut["climate"][i], chosen.climate[place])
      np.testing.assert_allclose(
        [cut["lat"][i], cut["lon"][i]],
        [chosen.lat_deg[place], chosen.lon_deg[place]],
        rtol=1e-6,
      )


@dataclasses.dataclass(frozen=True)
class BesideSource(tile_source.TileSource):
  bands = CONFIG.bands

  def files_beside(self, path):
    return [path.with_name("beside")]


@pytest.mark.parametrize(
  "changed", [*("climate_map", "legend", "water_mask", "dem"), "tile", "beside"]
)
def test_a_finished_shard_is_that_of_its_files(tmp_path, monkeypatch, changed):
  written = []

  def write_shard(path, *args):
    written.append(path)
    path.write_bytes(b"records")
    return records.ShardReport(1, collections.Counter(), [], {}, ["a/0_0"])

  monkeypatch.setattr(records, "write_shard", write_shard)
  names = ("climate_map", "legend", "water_mask", "dem", "tile", "beside")
  files = {name: tmp_path / name for name in names}
  for file in files.values():
    file.write_bytes(b"old")
    os.utime(file, ns=(10**18, 10**18))
  config = dataclasses.replace(
    CONFIG,
    **{name: str(files[name]) for name in names[:4]},
    source=BesideSource(),
  )

  def write(stop=9):
    output = tmp_path / "output"
    output.unlink(missing_ok=True)
    report = kept_shards.write_shard(
      output,
      [records.Part(files["tile"], 0, stop)],
      "train",
      config,
      True,
      tmp_path / "kept",
    )
    assert (output.read_bytes(), report.num_records) == (b"records", 1)
    return len(written)

  assert write() == write() == 1
  # Another time of the same size, and another size of that time.
  os.utime(files[changed], ns=(10**18, 10**18 + 1))
  assert write() == write() == 2
  files[changed].write_bytes(b"newer")
  os.utime(files[changed], ns=(10**18, 10**18 + 1))
  assert write() == write() == 3
  # A change that was taken back finds what was kept.
  files[changed].write_bytes(b"old")
  os.utime(files[changed], ns=(10**18, 10**18))
  assert write() == 3
  # Other patches of the same tile.
  assert write(8) == write(8) == 4


def test_labels_changed_after_a_kill_are_the_records(tmp_path):
  config = sources.find("arrays")
  path = tmp_path / "a_s2.npy"
  np.save(path, np.ones((1, 128, 128, 10), np.uint16))

  def label_of_record(name, fractions):
    label = encodings.encode_label(fractions, 50.5, 10.5, 15)
    np.save(tmp_path / "a_label_geo.npy", np.float32(label)[None])
    with config.source.open_patches(path, config) as patches:
      (mine,) = patches.split
    split = splits.SPLITS[mine]
    kept = tmp_path / "kept"
    parts = [records.Part(path)]
    kept_shards.write_shard(tmp_path / name, parts, split, config, True, kept)
    (record,) = array_record_data_source.ArrayRecordDataSource(
      [str(tmp_path / name)]
    )
    return records.features(config).deserialize_example_np(record)["climate"]

  for name, zone in (("first", 7), ("second", 8)):
    fractions = np.eye(31)[zone]
    np.testing.assert_array_equal(label_of_record(name, fractions), fractions)
