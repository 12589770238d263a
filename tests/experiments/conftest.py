"""Runs that several tests of commands begin with."""

import launch_stubs
import predicted_tiles
import pytest
import small_runs

from geojax.training import loop


@pytest.fixture(scope="module")
def encoder(smoke, tmp_path_factory):
  """The workdir of a short run."""
  workdir = tmp_path_factory.mktemp("encoder")
  config = small_runs.small_config(smoke)
  config.num_steps = config.eval_every = config.checkpoint_every = 2
  loop.train(config, workdir, progress=False)
  return workdir


@pytest.fixture(scope="module")
def sentinel2(tmp_path_factory):
  """The predictor of an untrained run for Sentinel-2."""
  folder = tmp_path_factory.mktemp("run")
  return predicted_tiles.make_run(folder, "sentinel2")


@pytest.fixture
def stubs(tmp_path):
  """Stubs of commands, in a folder of their own."""
  return launch_stubs.Stubs(tmp_path)
