"""What a run keeps of its data, and what it finds of an earlier version."""

import dataclasses
import json

import pytest

from geojax import tasks
from geojax.training import data_info
from geojax.training.errors import DatasetError

INFO = data_info.DataInfo(
  name="geo_tiles/mine",
  image_shape=(8, 8, 2),
  dtype="int16",
  bands=("a", "b"),
  scale=((0.0, 1.0), (2.0, 3.0)),
  settings={"patches": {"size": 8}},
  targets=tasks.describe(
    {
      "targets": [
        {"name": "use", "kind": "class", "classes": ["x", "y"]},
        {"name": "roads", "kind": "value_map", "threshold": 0.5},
      ]
    }
  ),
  splits_sha256="abc",
)


def test_it_is_read_as_it_was_written(tmp_path):
  data_info.save(INFO, tmp_path)
  assert data_info.load(tmp_path) == INFO


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
  """Keys that a version lacked, of targets too, are no difference."""
  info = dataclasses.replace(INFO, targets={"use": INFO.targets["use"]})
  data_info.save(info, tmp_path)
  path = tmp_path / data_info.FILE
  found = json.loads(path.read_text())
  assert found["targets"] == [
    {"name": "use", "kind": "class", "classes": ["x", "y"], "colors": []}
  ]
  del found["splits_sha256"]
  path.write_text(json.dumps(found))
  data_info.save(info, tmp_path)
  found["targets"][0]["classes"] = ["y", "x"]
  path.write_text(json.dumps(found))
  with pytest.raises(DatasetError, match=r"built anew: targets differ"):
    data_info.save(info, tmp_path)
