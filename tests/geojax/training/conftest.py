"""A run so small that it trains within seconds, on real records."""

import pytest
import small_runs

from geojax.training import loop, sharding


@pytest.fixture
def two_devices(monkeypatch):
  """Runs on two of the eight devices, which two cores simulate in less time."""
  monkeypatch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)


def _small_config(smoke):
  config = small_runs.small_config(smoke)
  config.model.dropout = 0.1
  config.num_steps = 12
  config.log_every = 4
  config.eval_every = 6
  config.checkpoint_every = 4
  return config


@pytest.fixture
def small_config(smoke, two_devices):
  """A config for the smoke data set: two blocks of 16 channels, 12 steps."""
  return _small_config(smoke)


@pytest.fixture(scope="module")
def trained(smoke, tmp_path_factory):
  """A run of four steps, and its workdir, for tests that do not change it."""
  workdir = tmp_path_factory.mktemp("trained")
  config = _small_config(smoke)
  config.num_steps = config.eval_every = 4
  config.mixture.temperature = 1.5
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)
    return loop.train(config, workdir, progress=False), workdir
