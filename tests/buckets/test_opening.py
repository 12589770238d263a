"""What opening a data set asks a bucket for."""

import json

from geojax import files
from geojax.files import buckets
from geojax.training import dataset as dataset_lib

NAME = "geo_tiles/earth_smoke"
# More than a listing returns at once.
NUM_SHARDS = 1100


def test_opening_asks_for_metadata_alone(bucket, url, smoke):
  """However many shards there are."""
  here = smoke / NAME / "1.0.0"
  info = json.loads((here / "dataset_info.json").read_text())
  train = info["splits"][0]
  asked = {}
  for count in (1, NUM_SHARDS):
    target = f"{url}/{count}"
    folder = files.path(f"{target}/{NAME}/1.0.0")
    shards = [
      f"geo_tiles-train.array_record-{i:05d}-of-{count:05d}"
      for i in range(count)
    ]
    buckets.file_system().pipe({str(folder / name): b"-" for name in shards})
    for name in ("features.json", "metadata.json"):
      files.copy_new(here / name, folder / name)
    train["shardLengths"] = ["1"] * count
    files.write_text(folder / "dataset_info.json", json.dumps(info))
    bucket.requests.clear()
    records = dataset_lib.open_dataset(target, NAME).source("train")
    # A connection that was idle is lost, and its request sent again: a set.
    asked[count] = {
      path.replace("%2F", "/").replace(f"/{count}/", "/")
      for _, path in bucket.requests
    }
    assert len(records) == count
  assert asked[NUM_SHARDS] == asked[1]
  assert len(asked[1]) < 20
  assert not any("array_record" in path for path in asked[1])
