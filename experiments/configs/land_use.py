"""Land use of EuroSAT's patches, from the encoder of configs/eurosat.py.

`python -m experiments.benchmarks.eurosat` runs it.
"""

from geojax.transfer import config as config_lib


def get_config():
  config = config_lib.default_config()
  config.encoder = "runs/eurosat"
  config.data.name = "geo_tiles/eurosat"
  config.tasks = ("class",)
  config.pooling = "stages"
  config.shots = (1, 5, 10, 25, 100, 0)
  config.logistic_shots = (1, 5, 10, 25, 100, 0)
  config.trained_shots = (1, 5, 10, 25, 100)
  return config
