"""The command that builds images of a table, and settings it refuses."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from geotiff_samples import write_band
from image_samples import (
  COUNT,
  build_images,
  read_table,
  records_of,
  run_build,
  write_table,
)

from data_prep import build, grids, sources, tiles

RNG = np.random.default_rng(0)


def test_the_same_command_does_it_once_and_notices_another_table(
  folder, tmp_path
):
  build_images(folder, tmp_path, name="mine")
  again = build_images(folder, tmp_path, name="mine")
  assert not again.counts
  assert again.info.metadata["bands"] == ["red", "green", "blue"]
  assert again.data_path == tmp_path / "geo_tiles/mine/1.0.0"
  rows = read_table(folder)
  rows[0]["lat"] = "1.5"
  with pytest.raises(build.BuildError, match=r"source\.table_sha256 was"):
    build_images(folder, tmp_path, rows, name="mine")


def test_workers_and_any_order_of_rows_give_the_same_records(folder, tmp_path):
  def contents(name, rows, num_workers):
    output = tmp_path / name
    output.mkdir()
    return records_of(
      build_images(folder, output, rows, num_workers=num_workers)
    )

  rows = read_table(folder)
  one = contents("one", rows, 0)
  two = contents("two", rows[::-1], 2)
  assert list(one) == list(two)
  for name, record in one.items():
    for key, value in record.items():
      np.testing.assert_array_equal(two[name][key], value)


def test_the_command_names_what_it_left_out_and_ends_with_3(folder, tmp_path):
  rows = read_table(folder)
  rows[3]["lat"] = "91"
  table = write_table(tmp_path / "table.csv", rows)
  done = run_build(folder, tmp_path, table, "--target=cover", "--name=mine")
  assert done.returncode == 3
  assert "row 4: lat '91', expected degrees in [-90, 90]" in done.stderr
  assert "warning: split test: its 13 patches lie" in done.stderr
  assert "target cover: 2 classes, 0.0% unknown" in done.stdout
  assert "scale (mean,deviation of train): red" in done.stdout
  report = json.loads((tmp_path / "report.json").read_text())
  assert report["targets"][0]["classes"] == ["field", "wood"]
  assert report["figures"]["tiles read"] == COUNT - 1
  assert report["leaks"]["test"]["count"] == 13


def test_maps_become_targets_of_each_pixel(tmp_path):
  """Of georeferenced images and of others, by the command's own flags."""
  (tmp_path / "in").mkdir()
  grid = grids.Grid(16, 16, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  far = dataclasses.replace(grid, north=6500020.0)
  for name, where in (("here", grid), ("far", far)):
    write_band(tmp_path / f"in/{name}.tif", np.ones((16, 16), np.uint8), where)
  np.save(tmp_path / "in/nowhere.npy", np.ones((16, 16, 1), np.uint8))
  codes = RNG.choice([10, 20], (24, 24)).astype(np.uint8)
  around = dataclasses.replace(grid, height=24, width=24)
  write_band(tmp_path / "codes.tif", codes, around)
  heights = RNG.normal(size=(24, 24)).astype(np.float32)
  write_band(tmp_path / "heights.tif", heights, around)
  (tmp_path / "legend.json").write_text('{"10": "trees", "20": "crops"}')
  files = ("here.tif", "far.tif", "nowhere.npy")
  table = write_table(
    tmp_path / "table.csv",
    [{"file": name, "split": "train"} for name in files],
  )
  done = run_build(
    tmp_path / "in",
    tmp_path,
    table,
    "--bands=x",
    f"--class_map=cover={tmp_path}/codes.tif,{tmp_path}/legend.json",
    f"--value_map=height={tmp_path}/heights.tif",
  )
  assert done.returncode == 3
  assert "far.tif: lies outside of the map cover" in done.stderr
  builder = tfds.builder_from_directory(tmp_path / "geo_tiles/images/1.0.0")
  found = {r["id"].decode(): r for r in builder.as_data_source("train")}
  assert set(found) == {"here/0_0", "nowhere/0_0"}
  here, nowhere = found["here/0_0"], found["nowhere/0_0"]
  np.testing.assert_array_equal(here["cover"], codes[:16, :16] == 20)
  np.testing.assert_allclose(here["height"], heights[:16, :16], atol=2e-3)
  assert (nowhere["cover"] == 255).all()
  assert np.isnan(nowhere["height"]).all()
  cover, height = builder.info.metadata["targets"]
  assert cover["classes"] == ["trees", "crops"]
  assert cover["counts"]["train"]["crops"] == np.sum(codes[:16, :16] == 20)
  assert cover["unknown"] == height["unknown"] == 0.5
  assert height["mean"]["train"] == pytest.approx(
    heights[:16, :16].mean(), abs=1e-3
  )


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"source": {"split": "longitude:60"}}, "longitude:60,20,20"),
    ({"source": {"split": "latitude:6,2,2"}}, "expected place, or longit"),
    ({"source": {"date_from": "("}}, "date_from '('"),
    ({"source": {"date_from": "x"}}, "expected one group"),
    ({"source": {"target": ("lat",)}}, "there is a feature lat already"),
    ({"scale": "1"}, "expected OFFSET,DIVISOR with DIVISOR > 0"),
    ({"scale": "1,0"}, "expected OFFSET,DIVISOR with DIVISOR > 0"),
    ({"scale": "1,2,3,4"}, "2 pairs of --scale for 3 bands"),
    (
      {"source": {"target": ("cover", "cover")}},
      "there is a feature cover already",
    ),
    ({"split": {"test": 0.2}}, "about the splits; leave out --test"),
    ({"split": {"seed": 1}}, "about the splits; leave out --split_seed"),
    ({"source": {"default_baseline": "1"}}, "images has no default_baseline"),
  ],
)
def test_settings_that_cannot_be_are_named(folder, tmp_path, kwargs, message):
  with pytest.raises(build.BuildError) as caught:
    build_images(folder, tmp_path, **kwargs)
  assert message in str(caught.value)


def test_nothing_but_the_splits_file_decides_where_there_is_one(
  folder, tmp_path
):
  listed = tmp_path / "splits.csv"
  listed.write_text("id,split\nwood/00/0_0,train\n")
  for change, name in (
    ({"split": {"validation": 0.3}}, "validation"),
    ({"source": {"split": "longitude:1,1,1"}}, "split"),
  ):
    with pytest.raises(build.BuildError, match=f"leave out --{name}$"):
      build_images(folder, tmp_path, splits=str(listed), **change)
  listed.write_text("id,split\nwood/00/0_0,train\nwood/00/0_0,test\n")
  with pytest.raises(build.BuildError, match="row 2: wood/00/0_0 has two"):
    build_images(folder, tmp_path, splits=str(listed))
  listed.write_text("id\nwood/00/0_0\n")
  with pytest.raises(build.BuildError, match="no column split; expected a f"):
    build_images(folder, tmp_path, splits=str(listed))


def test_images_that_all_fail_are_named(folder, tmp_path):
  with pytest.raises(tiles.TileError, match=r"no row can be used: .*3 bands"):
    build_images(folder, tmp_path, bands=("x", "y"))
  with pytest.raises(
    tiles.TileError, match=r"no row can be used: .*than a pat"
  ):
    build_images(folder, tmp_path, patches={"size": 99})
  with pytest.raises(tiles.TileError, match="--class_bands SLC: not among"):
    build_images(folder, tmp_path, source={"class_bands": ("SLC",)})
  # What failed does not stand in the way of what is right.
  assert build_images(folder, tmp_path).counts["train"] == 14


def test_a_code_that_the_legend_lacks_names_image_and_map(tmp_path):
  (tmp_path / "in").mkdir()
  grid = grids.Grid(16, 16, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  ones = np.ones((16, 16), np.uint8)
  for name, north in (("good", 0.0), ("bad", 160.0)):
    where = dataclasses.replace(grid, north=grid.north + north)
    write_band(tmp_path / f"in/{name}.tif", ones, where)
  codes = np.repeat(np.array([77, 10], np.uint8), 16)[:, None] * ones[:1]
  around = dataclasses.replace(grid, north=grid.north + 160.0, height=32)
  write_band(tmp_path / "codes.tif", codes.astype(np.uint8), around)
  (tmp_path / "legend.json").write_text('{"10": "trees"}')
  table = write_table(
    tmp_path / "table.csv",
    [{"file": f"{name}.tif", "split": "train"} for name in ("good", "bad")],
  )
  done = run_build(
    tmp_path / "in",
    tmp_path,
    table,
    "--bands=x",
    f"--class_map=cover={tmp_path}/codes.tif,{tmp_path}/legend.json",
  )
  assert done.returncode == 3
  assert f"in/bad.tif: {tmp_path}/codes.tif: the map cover has a code" in (
    done.stderr
  )
  builder = tfds.builder_from_directory(tmp_path / "geo_tiles/images/1.0.0")
  (record,) = builder.as_data_source("train")
  assert record["id"] == b"good/0_0"


def test_a_table_must_be_given(folder, tmp_path):
  with pytest.raises(build.BuildError, match="needs --table=FILE"):
    build.build("images", tmp_path, folder)
  with pytest.raises(tiles.TileError, match="no table: No such file"):
    build.build("images", tmp_path, folder, source={"table": "none.csv"})


def test_a_config_of_ones_own_sets_what_flags_do(folder):
  config = sources.find("images")
  own = dataclasses.replace(
    config, source=dataclasses.replace(config.source, table="table.csv")
  )
  assert own.source.with_inputs(folder).table_sha256
