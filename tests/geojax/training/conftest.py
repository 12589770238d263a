"""A run so small that it trains within seconds, on real records."""

import jax
import pytest
import tiny_encoder

from geojax.training import config as config_lib
from geojax.training import loop, sharding


def _mesh(_=1):
  return jax.make_mesh(
    (2, 1),
    ("data", "model"),
    devices=jax.devices()[:2],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )


@pytest.fixture
def two_devices(monkeypatch):
  """Runs on two of the eight devices, which two cores simulate in less time."""
  monkeypatch.setattr(sharding, "create_mesh", _mesh)


def _small_config(smoke):
  config = config_lib.default_config()
  config.data.dir = str(smoke)
  config.data.name = "geo_tiles/earth_smoke"
  config.data.batch_size = 32
  config.data.eval_batch_size = 64
  tiny_encoder.use(config)
  config.model.dropout = 0.1
  config.mixture.num_centers = 16
  config.optimizer.ema_decay = 0.9
  config.optimizer.warmup_steps = 2
  config.optimizer.learning_rate = 1e-2
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
    patch.setattr(sharding, "create_mesh", _mesh)
    return loop.train(config, workdir, progress=False), workdir
