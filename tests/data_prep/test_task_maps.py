"""Tasks on Beam give what they give on one machine."""

import operator

import pytest
import tensorflow_datasets as tfds

from data_prep import build, splits, task_maps

pytestmark = pytest.mark.beam


def test_answers_come_in_order(tmp_path):
  in_beam = task_maps.beam_map("DirectRunner", [], tmp_path)
  numbers = list(range(20))
  assert list(in_beam(operator.mul, numbers, numbers)) == [
    n * n for n in numbers
  ]
  assert not list(tmp_path.iterdir())


def test_what_a_call_raises_reaches_the_caller(tmp_path):
  in_beam = task_maps.beam_map("DirectRunner", [], tmp_path)
  with pytest.raises(ZeroDivisionError):
    list(in_beam(operator.truediv, [1, 1], [1, 0]))


def test_records_are_those_of_one_process(smoke, tmp_path):
  build.build("earth_smoke", tmp_path, beam=("DirectRunner", []))

  def records(folder):
    builder = tfds.builder_from_directory(
      folder / "geo_tiles/earth_smoke/1.0.0"
    )
    return {
      split: [
        (r["id"], r["image"].tobytes(), r["climate"].tobytes())
        for r in builder.as_data_source(split)
      ]
      for split in splits.SPLITS
    }

  assert records(tmp_path) == records(smoke)
