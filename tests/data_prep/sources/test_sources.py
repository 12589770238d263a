"""Sources of one's own: a file that ends in its config, built and predicted."""

import datetime
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import sources, tile_patches, tile_writer, unseen

DRONE = """
import dataclasses
import datetime

from data_prep import configs, places, splits, tile_source


@dataclasses.dataclass(frozen=True)
class Drone(tile_source.TileSource):
  bands = ("red", "green")
  features = {"flight": str}

  def open_scene(self, tile):
    date = datetime.datetime.strptime(tile.path.stem, "flight_%Y%m%d")
    return tile_source.Scene(
      date=date, bands=self.bands, about={"flight": tile.path.stem}
    )


CONFIG = configs.GeoTilesConfig(
  name="drone",
  source=Drone(),
  bands=("red", "green"),
  scale=((100, 50),) * 2,
  dtype="uint8",
  patches=places.PatchRule(
    size=16, stride=16, split=splits.SplitRule(1, 0, 0, 0, 0)
  ),
)
"""


def write_tile(path, seed):
  rng = np.random.default_rng(seed)
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = rng.integers(0, 255, (32, 48, 2)).astype(np.uint8)
  tile_writer.write_tile(
    path,
    pixels,
    bands=("red", "green"),
    west=10.2,
    north=50.8,
    pixel_size=1e-3,
    date=datetime.datetime(2000, 1, 1),
  )
  return pixels


def run(tmp_path, config, *args):
  return subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", f"--config={config}"),
      *(f"--source={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", *args),
    ],
    capture_output=True,
    text=True,
    check=False,
  )


def test_a_source_of_ones_own_is_one_file(tmp_path):
  """Its workers are other processes, which import the file by its name."""
  file = tmp_path / "mine" / "drone.py"
  file.parent.mkdir()
  file.write_text(DRONE)
  pixels = write_tile(tmp_path / "in/deep/flight_20210301.tif", 0)
  write_tile(tmp_path / "in/flight_1.tif", 1)
  done = run(tmp_path, file, "--num_workers=1")
  assert done.returncode == 3, done.stderr
  assert "flight_1.tif: time data 'flight_1' does not match" in done.stderr
  built = tfds.builder_from_directory(tmp_path / "out/geo_tiles/drone/1.0.0")
  records = list(built.as_data_source("train"))
  assert len(records) == 6
  for record in records:
    row, col = record["row"], record["col"]
    np.testing.assert_array_equal(
      record["image"], pixels[row : row + 16, col : col + 16]
    )
    assert record["acquired"].decode() == "2021-03-01T00:00:00"
    assert record["flight"].decode() == "flight_20210301"
  # Built once; and found by its name where its folder is on the path.
  assert "is built already" in run(tmp_path, file).stdout
  assert sources.find(str(file)) is sources.find("drone")
  settings = built.info.metadata["settings"]
  config = unseen.whole_tile_config("geo_tiles/drone", dict(settings))
  patches = tile_patches.open_tile(
    tmp_path / "in/deep/flight_20210301.tif", config
  )
  assert len(patches.split) == 6


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ("mars", "no config mars: expected one of arrays, bigearthnet, "),
    (".earth", "no config .earth"),
    ("", "no config : expected"),
    ("data_prep.mars", "no config data_prep.mars"),
    ("none.py", "none.py: no such file"),
    ("json.py", "json.py cannot be imported as json"),
    ("two words.py", "two words.py cannot be imported as two words"),
    ("json", "json has no CONFIG"),
  ],
)
def test_what_is_no_source_is_refused(tmp_path, monkeypatch, config, message):
  monkeypatch.chdir(tmp_path)
  for name in ("json.py", "two words.py"):
    (tmp_path / name).touch()
  with pytest.raises(sources.UnknownConfigError) as error:
    sources.find(config)
  assert message in str(error.value)


def test_an_error_inside_a_source_is_its_own(tmp_path):
  (tmp_path / "lacks_a_module.py").write_text("import no_such_module")
  with pytest.raises(ModuleNotFoundError, match="no_such_module"):
    sources.find(str(tmp_path / "lacks_a_module.py"))
