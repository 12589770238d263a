"""Tiles cut, flipped and garbled at random end no build: each is named."""

import os
import pathlib
import re
import subprocess
import sys

import garbled_tiles
import pytest
import tensorflow_datasets as tfds
import tiny_encoder

from experiments.benchmarks import predict as benchmark
from geojax.training import config as config_lib

_ROOT = pathlib.Path(__file__).parents[2]


def _run(*arguments):
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=_ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )


def _reasons(stderr, command, folder):
  """Reason of each tile that is named, by its file's name."""
  lines = re.findall(
    rf"^{command}: {re.escape(str(folder))}/(\S+): (.*)$", stderr, re.MULTILINE
  )
  reasons = dict(lines)
  assert len(reasons) == len(lines), "a tile is named twice"
  return reasons


def _check_reasons(reasons, good, bad):
  assert not set(good) & set(reasons)
  # Some flips fall where nothing is kept, such as the name of the software.
  assert len(reasons) > 0.9 * len(bad)
  for name, reason in reasons.items():
    assert len(reason.split()) > 2, (name, reason)
    assert "None" not in reason, (name, reason)
  assert "outside of its projection" in reasons[bad[0]]


def test_a_build_of_garbled_tiles_keeps_the_good_ones(tmp_path):
  good, bad = garbled_tiles.write(tmp_path / "in", 220, seed=20261125)
  done = _run(
    *("-m", "data_prep.build", "--config=sentinel2"),
    *(f"--source={tmp_path}/in", f"--output={tmp_path}"),
    *("--validation=0", "--test=0", "--num_workers=2"),
  )
  assert done.returncode == 3, done.stderr
  assert "Traceback" not in done.stderr
  reasons = _reasons(done.stderr, "data_prep.build", tmp_path / "in")
  _check_reasons(reasons, good, bad)
  (folder,) = (tmp_path / "geo_tiles/sentinel2").iterdir()
  records = tfds.builder_from_directory(folder).as_data_source("train")
  kept = {record["id"].decode().split("/")[0] + ".tif" for record in records}
  assert set(good) <= kept
  assert kept <= set(good) | set(bad) - set(reasons)


@pytest.mark.slow
def test_predictions_of_garbled_tiles_go_on_with_the_good_ones(tmp_path):
  config = config_lib.default_config()
  tiny_encoder.use(config)
  config.mixture.num_centers = 16
  data = benchmark.describe_tiles("sentinel2")
  benchmark.write_untrained_run(tmp_path / "run", config, data)
  # Fewer: a picture is drawn of each whose flips fall where nothing is kept.
  good, bad = garbled_tiles.write(tmp_path / "in", 40, seed=7)
  done = _run(
    *("experiments/predict.py", f"--workdir={tmp_path}/run"),
    *(f"--output={tmp_path}/out", *sorted((tmp_path / "in").iterdir())),
  )
  assert done.returncode == 3, done.stderr
  assert "Traceback" not in done.stderr
  _check_reasons(
    _reasons(done.stderr, "predict.py", tmp_path / "in"), good, bad
  )
  written = {
    path.parent.name + ".tif" for path in tmp_path.glob("out/*/*.json")
  }
  assert set(good) <= written
