"""Runs that several tests of commands begin with."""

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
