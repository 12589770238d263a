"""Data sets of more shards than a process may open files."""

import json
import subprocess
import sys

import numpy as np
import pytest
from array_record.python import array_record_module

from geojax.training import dataset as dataset_lib
from geojax.training import shards

NAME = "geo_tiles/earth_smoke"
NUM_SHARDS = 2000
_READ = """
import pathlib, resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from geojax.training import dataset as dataset_lib
records = dataset_lib.open_dataset(*sys.argv[1:3]).source("train", ["climate"])
index = np.random.default_rng(0).permutation(len(records))
# Some again, from shards that were closed meanwhile.
index = np.concatenate([index, index[:500]])
most, found = 0, []
for start in range(0, len(index), 128):
  found.append(records.read(index[start : start + 128]))
  most = max(most, len(list(pathlib.Path("/proc/self/fd").iterdir())))
found = dataset_lib.concatenate(found)
np.savez(sys.argv[3], index=index, most=most, **found)
"""


@pytest.fixture(scope="module")
def many(smoke, tmp_path_factory):
  """The train records of `smoke`, one a shard, over and over."""
  output = tmp_path_factory.mktemp("many")
  here, there = (x / NAME / "1.0.0" for x in (smoke, output))
  there.mkdir(parents=True)
  for name in ("features.json", "metadata.json"):
    (there / name).write_bytes((here / name).read_bytes())
  info = json.loads((here / "dataset_info.json").read_text())
  info["splits"][0]["shardLengths"] = ["1"] * NUM_SHARDS
  (there / "dataset_info.json").write_text(json.dumps(info))
  split = dataset_lib.open_dataset(str(smoke), NAME).builder.info.splits
  read = shards.Shards(split["train"].file_instructions)
  assert len(read) < NUM_SHARDS
  encoded = read.read(np.arange(NUM_SHARDS) % len(read))
  split = dataset_lib.open_dataset(str(output), NAME).builder.info.splits
  for path, record in zip(split["train"].filepaths, encoded, strict=True):
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    writer.write(record)
    writer.close()
  return output


def test_more_shards_than_open_files_are_read_at_random(smoke, many, tmp_path):
  found = tmp_path / "found.npz"
  command = [sys.executable, "-c", _READ, str(many), NAME, str(found)]
  subprocess.run(command, check=True)
  read = np.load(found)
  assert read["most"] < 256
  assert set(read["index"]) == set(range(NUM_SHARDS))
  wanted = dataset_lib.open_dataset(str(smoke), NAME).read_labels("train")
  index = read["index"] % len(wanted["climate"])
  np.testing.assert_array_equal(read["climate"], wanted["climate"][index])
