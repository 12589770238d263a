"""Built data sets: splits, labels and records, of this layout and earlier."""

import itertools
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import build, records, sources
from geojax.training import data_info, pipeline
from geojax.training import dataset as dataset_lib
from geojax.training.errors import DatasetError

NAME = "geo_tiles/earth_smoke"
LABELS = "climate", "coords", "date"


@pytest.fixture
def dataset(smoke):
  return dataset_lib.open_dataset(str(smoke), NAME)


def rewrite(smoke, output, change, *, removed=(), **added):
  """Copies a data set, with other features in its records.

  Args:
    smoke: The folder to copy.
    output: The folder to write.
    change: A function of a record, a dict, that returns the new one.
    removed: Names of features that new records lack.
    **added: Features of TFDS that new records have.
  """
  shutil.copytree(smoke, output, dirs_exist_ok=True)
  config = sources.find("earth_smoke")
  features = {**records.features(config), **added}
  features = tfds.features.FeaturesDict(
    {name: features[name] for name in features.keys() - set(removed)}
  )
  read = tfds.builder_from_directory(smoke / NAME / "1.0.0").as_data_source
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(records, "features", lambda _: features)
    for split in dataset_lib.SPLITS:
      (path,) = output.glob(f"{NAME}/1.0.0/*-{split}.array_record*")
      new = ({k: change(r)[k] for k in features} for r in read(split))
      records.write_records(path, new, config)
  features.save_config(output / NAME / "1.0.0")


@pytest.fixture(scope="module")
def earlier(smoke, tmp_path_factory):
  """A folder with the records of `smoke` as they were: one label, text date."""
  output = tmp_path_factory.mktemp("earlier")
  rewrite(
    smoke,
    output,
    lambda r: (
      r
      | {"label": np.concatenate([r[name] for name in LABELS])}
      | {"date": r["acquired"]}
    ),
    removed=("climate", "coords", "acquired"),
    label=tfds.features.Tensor(
      shape=(36,), dtype=np.float32, encoding=tfds.features.Encoding.BYTES
    ),
    date=tfds.features.Text(),
  )
  return output


def assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    assert found[name].dtype == values.dtype
    np.testing.assert_array_equal(found[name], values)


def test_an_earlier_layout_gives_equal_batches(dataset, earlier):
  old = dataset_lib.open_dataset(str(earlier), NAME)
  features = old.builder.info.features
  assert features["label"].shape == (36,)
  assert isinstance(features["date"], tfds.features.Text)
  assert old.label_names == dataset.label_names == (*LABELS, "land_cover")
  for batches in (
    lambda d: itertools.islice(
      pipeline.train_batches(d.source("train"), batch_size=64, seed=0), 3
    ),
    lambda d: pipeline.eval_batches(d.source("test"), batch_size=8),
    lambda d: pipeline.eval_batches(d.source("test", ["date"]), batch_size=8),
    lambda d: iter([d.read_labels("train", at_most=50)]),
  ):
    for found, expected in zip(batches(old), batches(dataset), strict=True):
      assert_equal(found, expected)


def test_runs_and_builds_take_an_earlier_layout_for_the_same(dataset, earlier):
  old = dataset_lib.open_dataset(str(earlier), NAME)
  assert data_info.describe(NAME, old) == data_info.describe(NAME, dataset)
  # Built already: nothing is counted.
  assert not build.build("earth_smoke", earlier).counts


def test_numbers_and_vectors_of_a_source_are_labels(smoke, tmp_path):
  scalar = tfds.features.Scalar
  rewrite(
    smoke,
    tmp_path,
    lambda r: (
      r
      | {"orbit": r["row"], "cloud": r["lat"], "soil": r["coords"]}
      | {"mgrs": "33UXP", "terrain": np.zeros((2, 2), np.float32)}
    ),
    removed=("date",),
    orbit=scalar(np.int32),
    cloud=scalar(np.float32),
    soil=tfds.features.Tensor(shape=(3,), dtype=np.float32),
    mgrs=tfds.features.Text(),
    terrain=tfds.features.Tensor(shape=(2, 2), dtype=np.float32),
  )
  dataset = dataset_lib.open_dataset(str(tmp_path), NAME)
  own = ("cloud", "land_cover", "orbit", "soil")
  assert dataset.label_names == ("climate", "coords", *own)
  assert set(dataset.source("test")[0]) == {"image", "climate", "coords"}
  assert set(dataset.read_labels("test")) == {"climate", "coords"}
  names = ("orbit", "cloud", "soil", "coords")
  found = dataset.source("test", names).read([3, 0])
  assert list(found) == ["image", *names]
  stored = dataset.builder.as_data_source("test")
  np.testing.assert_array_equal(
    found["orbit"], [stored[3]["row"], stored[0]["row"]]
  )
  np.testing.assert_array_equal(
    found["cloud"], np.float32([stored[3]["lat"], stored[0]["lat"]])
  )
  assert found["orbit"].dtype == np.int32
  assert found["cloud"].dtype == np.float32
  np.testing.assert_array_equal(found["soil"], found["coords"])
  with pytest.raises(DatasetError, match="no label date, mgrs; it has climate"):
    dataset.source("test", ["date", "coords", "mgrs"])


def test_records_read_together_are_those_read_one_by_one(dataset):
  source = dataset.source("train")
  indices = [5, len(source) - 1, 0, 5, 3]
  together = source.read(indices)
  assert set(together) == {"image", *LABELS}
  for row, index in enumerate(indices):
    for name, value in source[index].items():
      assert together[name].dtype == value.dtype
      np.testing.assert_array_equal(together[name][row], value)


def test_records_are_what_tfds_decodes(dataset):
  source = dataset.source("test")
  decoded = dataset.builder.as_data_source("test")
  for index in (0, len(source) - 1):
    for name, value in source[index].items():
      assert value.dtype == decoded[index][name].dtype
      np.testing.assert_array_equal(value, decoded[index][name])


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_a_damaged_shard_is_named(smoke, tmp_path, damage):
  shutil.copytree(smoke / "geo_tiles", tmp_path / "geo_tiles")
  (shard,) = tmp_path.rglob("*-test.array_record*")
  if damage == "cut":
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
  else:
    shard.unlink()
  source = dataset_lib.open_dataset(
    str(tmp_path), "geo_tiles/earth_smoke"
  ).source("test")
  with pytest.raises(DatasetError, match=f"{shard.name} is missing or damaged"):
    source.read([0])


def test_records_are_scaled_by_what_the_builder_wrote(dataset):
  record = dataset.source("train")[0]
  assert record["image"].shape == dataset.image_shape == (32, 32, 5)
  assert record["image"].dtype == np.int16
  assert [record[name].shape for name in LABELS] == [(31,), (3,), (2,)]
  assert dataset.bands[-1] == "turbidity"
  assert dataset.offset.shape == dataset.divisor.shape == (5,)


def test_labels_are_those_of_the_records(dataset):
  source = dataset.source("test")
  expected = source.read(range(len(source)))
  del expected["image"]
  assert_equal(dataset.read_labels("test"), expected)


def test_some_labels_are_read_evenly_out_of_all(dataset):
  every = dataset.read_labels("train")
  some = dataset.read_labels("train", at_most=100)
  assert len(some["date"]) <= 100 < len(every["date"])
  step = -(-len(every["date"]) // 100)
  assert_equal(some, {name: v[::step] for name, v in every.items()})


def test_a_data_set_that_is_not_built_says_the_command(tmp_path):
  with pytest.raises(DatasetError, match=r"data_prep\.build --config=earth "):
    dataset_lib.open_dataset(str(tmp_path), "geo_tiles/earth")


def test_a_name_that_is_not_built_is_told_those_that_are(smoke):
  with pytest.raises(DatasetError, match=r"but geo_tiles/earth_smoke is;"):
    dataset_lib.open_dataset(str(smoke), "earth_smoke")


def test_a_build_that_was_killed_is_not_taken_for_whole(tmp_path):
  folder = pathlib.Path(tmp_path, "geo_tiles/earth/incomplete.AB12_1.0.0")
  folder.mkdir(parents=True)
  with pytest.raises(DatasetError, match="not built"):
    dataset_lib.open_dataset(str(tmp_path), "geo_tiles/earth")


def test_an_unknown_split_is_named(dataset):
  with pytest.raises(DatasetError, match=r"'tset'.*train, validation, test"):
    dataset.source("tset")
  with pytest.raises(DatasetError, match="'tset'"):
    dataset.read_labels("tset")
