"""A tile that cannot be predicted is named, and stops no other."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from predicted_tiles import (
  AFTER,
  BEFORE,
  ROOT,
  make_pixels,
  make_run,
  run_command,
  write_tile,
)

from data_prep import geo_tiles
from experiments.benchmarks import predict as benchmark
from geojax.training import data_info
from geojax.training.errors import ConfigError


def test_bad_tiles_are_reported_and_stop_no_other(sentinel2, tmp_path):
  good = write_tile(tmp_path / "in")
  clouded = make_pixels()
  clouded[0] = 9
  bad = {
    write_tile(tmp_path / "in", BEFORE, clouded): "no clear patch (6 cloud)",
    tmp_path / "missing_s2.tif": "no such file",
    write_tile(
      tmp_path / "in", "nothing"
    ): "not the name of a Sentinel-2 product",
    write_tile(tmp_path / "twice"): "another tile's",
  }
  truncated = tmp_path / "in" / f"{AFTER[:-1]}1_s2.tif"
  truncated.write_bytes(good.read_bytes()[:5000])
  bad[truncated] = ""
  written, errors = run_command(
    sentinel2, [*list(bad)[:2], good, *list(bad)[2:]], tmp_path / "out"
  )
  assert [folder.name for folder in written] == [f"{AFTER}_s2"]
  for error, (path, reason) in zip(errors, bad.items(), strict=True):
    assert str(path) in str(error)
    assert reason in str(error)


def test_the_command_ends_with_3_where_a_tile_was_bad(smoke, tmp_path):
  make_run(tmp_path / "run", "earth_smoke")
  good = next((smoke / "tiles/earth_smoke").glob("*.tif"))

  def run(*inputs, workdir=tmp_path / "run"):
    return subprocess.run(
      [
        *(sys.executable, "experiments/predict.py", f"--workdir={workdir}"),
        *(*inputs, f"--output={tmp_path / 'out'}"),
      ],
      cwd=ROOT,
      env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
      capture_output=True,
      text=True,
      check=False,
    )

  done = run(good, "/nowhere.tif")
  assert done.returncode == 3, done.stderr
  assert "/nowhere.tif: no such file" in done.stderr
  assert good.stem in done.stdout
  files = {path.name for path in (tmp_path / "out" / good.stem).iterdir()}
  assert files == {
    *("prediction.json", "prediction.png"),
    *("credible_regions.geojson", "climate_zones.tif"),
  }
  done = run(good, workdir=tmp_path)
  assert done.returncode == 1
  assert "no workdir of a run" in done.stderr
  assert "Traceback" not in done.stderr


def test_a_run_whose_patches_come_from_no_tiles_is_refused(tmp_path):
  predictor = make_run(tmp_path / "run", "sentinel2")
  for name, message in (
    ("geo_tiles/arrays", "are not cut from tiles"),
    ("mine/own", "no source of the data set mine/own is known"),
  ):
    predictor.data = dataclasses.replace(predictor.data, name=name)
    with pytest.raises(ConfigError, match=message):
      run_command(predictor, [], tmp_path)
  predictor.data = dataclasses.replace(
    predictor.data, name="geo_tiles/sentinel2", settings={"colour": 1}
  )
  with pytest.raises(ConfigError, match="another version"):
    run_command(predictor, [], tmp_path)


def test_the_description_of_unbuilt_tiles_is_that_of_records(smoke):
  folder = smoke / "geo_tiles/earth_smoke/1.0.0"
  metadata = json.loads((folder / "metadata.json").read_text())
  info = benchmark.describe_tiles("earth_smoke")
  assert info.settings == metadata["settings"]
  assert [list(pair) for pair in info.scale] == metadata["scale"]
  assert isinstance(info, data_info.DataInfo)
  assert geo_tiles.GeoTiles.name in info.name
