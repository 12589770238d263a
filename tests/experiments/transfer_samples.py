"""A transfer that takes seconds, and its results."""

import pyarrow.parquet as pq

from geojax.transfer import config as transfer_config


def make_config(smoke, encoder, **keys):
  """A config for the smoke data set and an encoder's path."""
  config = transfer_config.default_config()
  config.encoder = str(encoder)
  config.data.dir, config.data.name = str(smoke), "geo_tiles/earth_smoke"
  config.tasks = ("land_cover",)
  config.shots, config.logistic_shots = (1, 5), (5,)
  config.trained_shots = config.pixel_shots = (5,)
  config.num_seeds, config.num_resamples = 2, 20
  config.train.num_steps, config.train.batch_size = 2, 16
  config.update(keys)
  return config


def read_results(workdir):
  """Rows of the results."""
  return pq.read_table(workdir / "results.parquet").to_pylist()
