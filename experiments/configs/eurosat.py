"""Where and climate of EuroSAT's places: 64 x 64 patches without dates.

`python -m experiments.benchmarks.eurosat` builds the records, trains this
config on them, and measures what its encoder is worth for land use.
"""

from experiments.configs import base


def get_config():
  config = base.get_config()
  config.num_steps = 5000
  config.eval_every = config.checkpoint_every = 500
  config.tasks = ("coords", "climate")
  config.probes = ("class",)
  # Places get better for some steps after the nll has stopped to.
  config.best_metric = "median_km"
  config.data.name = "geo_tiles/eurosat"
  config.augment.rotate = True
  # Pixels of 10 m: a component of the mixture spreads over hundreds of km.
  config.augment.crop_pixels = 8

  config.model.patch_size = 4
  config.model.depths = (1, 1, 1)
  config.model.widths = (64, 128, 256)

  config.loss.coords = "mvmf"
  # Centers of a small region: half of a component's mass within 230 km.
  config.mixture.num_centers = 256
  config.mixture.log_kappa = 7.0
  config.mixture.mode_blur_km = 300.0
  config.mixture.temperature = 1.0
  return config
