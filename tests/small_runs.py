"""Configs of runs that train within seconds on real records, and a mesh."""

import jax
import tiny_encoder

from geojax.training import config as config_lib


def small_config(smoke):
  """A config for the smoke data set: 16 centers, one small convolution.

  Args:
    smoke: The folder that the fixture of that name gives.
  """
  config = config_lib.default_config()
  config.data.dir = str(smoke)
  config.data.name = "geo_tiles/earth_smoke"
  config.data.batch_size = 32
  config.data.eval_batch_size = 64
  tiny_encoder.use(config)
  config.mixture.num_centers = 16
  config.optimizer.ema_decay = 0.9
  config.optimizer.learning_rate = 1e-2
  config.optimizer.warmup_steps = 2
  config.num_steps = 6
  return config


def two_device_mesh(_=1):
  """Two of the eight devices, which two cores simulate in less time."""
  return jax.make_mesh(
    (2, 1),
    ("data", "model"),
    devices=jax.devices()[:2],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
