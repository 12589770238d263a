import dataclasses

import numpy as np
import pytest
from build_runs import VERSION, contents, run_main, smoke_fails, smoke_to, start

from data_prep import (
  build,
  build_folder,
  geo_tiles,
  rasters,
  splits,
)
from data_prep.sources import earth_smoke


def test_the_command_tells_what_it_did_and_does_it_once(smoke, tiles_only):
  """With two processes, the records are those of one."""
  first = start(*smoke_to(tiles_only, num_workers=2))
  stdout, stderr = first.communicate()
  assert (first.returncode, stderr) == (0, "")
  built = contents(tiles_only)
  assert built == contents(smoke)
  for split in splits.SPLITS:
    assert f"kept: {split}" in stdout
    assert f"{len(built[split]):,}" in stdout
  assert str(tiles_only / VERSION) in stdout
  second = start(*smoke_to(tiles_only))
  stdout, _ = second.communicate()
  assert second.returncode == 0
  assert stdout == f"{tiles_only / VERSION} is built already.\n"


def test_a_raster_that_changed_stops_the_build(monkeypatch, capsys, tmp_path):
  raster = dataclasses.replace(rasters.ALTITUDE, size=7)
  monkeypatch.setattr(rasters, "ALTITUDE", raster)
  message = smoke_fails(capsys, tmp_path)
  assert "Altitude.h5: expected 7 bytes, found 1366196" in message
  assert "pip install" in message


def test_a_truncated_tile_stops_a_strict_build(capsys, tiles_only):
  path = sorted((tiles_only / "tiles/earth_smoke").glob("*.tif"))[7]
  path.write_bytes(path.read_bytes()[:-9000])
  message = smoke_fails(capsys, tiles_only, num_workers=2)
  assert f"{path}: " in message
  assert not list(tiles_only.glob("geo_tiles/earth_smoke/*"))


def test_a_missing_folder_of_images_stops_the_build(capsys, tmp_path):
  code = run_main(
    "--config=blue_marble",
    f"--output={tmp_path}",
    f"--manual_dir={tmp_path / 'none'}",
  )
  assert code == 1
  assert f"{tmp_path / 'none'}: expected 200401.jpg" in capsys.readouterr().err


def test_records_of_other_settings_are_not_taken_for_these(
  monkeypatch, capsys, smoke
):
  rule = dataclasses.replace(earth_smoke.CONFIG.patches, stride=15)
  changed = dataclasses.replace(earth_smoke.CONFIG, patches=rule)
  monkeypatch.setattr(earth_smoke, "CONFIG", changed)
  message = smoke_fails(capsys, smoke)
  assert "patches.stride was 5, is now 15" in message
  assert f"delete {smoke / VERSION}" in message


def test_tiles_of_other_settings_are_not_taken_for_these(
  monkeypatch, capsys, tiles_only
):
  source = dataclasses.replace(earth_smoke.CONFIG.source, overlap=17)
  changed = dataclasses.replace(earth_smoke.CONFIG, source=source)
  monkeypatch.setattr(earth_smoke, "CONFIG", changed)
  message = smoke_fails(capsys, tiles_only)
  assert "source.overlap was 27, is now 17" in message
  assert f"delete {tiles_only / 'tiles/earth_smoke'}" in message


def test_a_folder_that_is_no_data_set_is_not_taken_for_one(capsys, tmp_path):
  (tmp_path / VERSION).mkdir(parents=True)
  code = run_main("--config=earth_smoke", f"--output={tmp_path}")
  assert code == 1
  assert f"delete {tmp_path / VERSION}" in capsys.readouterr().err


def test_two_builds_do_not_write_to_one_place(tmp_path):
  with (
    build_folder.lock(tmp_path / "tiles/earth_smoke"),
    pytest.raises(build.BuildError, match="another process"),
  ):
    build.build("earth_smoke", tmp_path)


def test_the_blocks_are_drawn_by_a_seed(monkeypatch, tmp_path):
  found = []

  def note(*args, **kwargs):
    found.append(kwargs["split"])
    raise build.BuildError("enough")

  monkeypatch.setattr(build, "build", note)
  arguments = smoke_to(tmp_path)
  assert run_main(*arguments, "--split_seed=3", "--test=0.2") == 1
  assert run_main(*arguments) == 1
  assert found == [{"seed": 3, "test": 0.2}, {}]
  rules = [splits.SplitRule(5, 0, 0, seed=seed) for seed in (0, 3)]
  of_blocks = [rule.block_split(*np.divmod(range(700), 72)) for rule in rules]
  assert 0.05 < np.mean(of_blocks[0] != of_blocks[1]) < 0.5


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--validation=2", "validation, test and their sum must lie in [0, 1]"),
    ("--block_deg=7", "block_deg must divide 180"),
    ("--block_deg=0", "block_deg must divide 180"),
    ("--default_baseline=04.00", "earth_smoke has no default_baseline"),
  ],
)
def test_settings_that_cannot_be_are_told(capsys, tmp_path, argument, message):
  assert run_main(*smoke_to(tmp_path), argument) == 1
  assert message in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("name", ["climate_map", "legend", "dem"])
def test_a_map_that_cannot_be_used_is_told_before_any_work(
  capsys, tmp_path, name, num_workers
):
  """And once, not once a tile."""
  output, file = tmp_path / "out", tmp_path / "bad"
  file.write_text("neither TIFF nor JSON")
  arguments = smoke_to(output, num_workers)
  assert run_main(*arguments, f"--{name}={file}") == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert ("climate map that it belongs to" in line) == (name == "legend")
  assert (str(file) in line) == (name != "legend")
  assert not list(output.rglob("*.tif"))


def test_a_bug_is_not_taken_for_bad_input(monkeypatch, tmp_path):
  def fail(*args, **kwargs):
    raise ValueError("all the input array dimensions must match exactly")

  monkeypatch.setattr(geo_tiles.GeoTiles, "__init__", fail)
  with pytest.raises(ValueError, match="array dimensions"):
    run_main(*smoke_to(tmp_path))


@pytest.mark.parametrize("argument", ["--config=mars", "earth"])
def test_unknown_arguments_are_refused(argument, tmp_path):
  process = start(f"--output={tmp_path}", argument)
  process.communicate()
  assert process.returncode != 0
  assert not list(tmp_path.iterdir())
