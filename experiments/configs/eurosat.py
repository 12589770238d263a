"""Where and climate of EuroSAT's places: 64 x 64 patches without dates.

  python -m experiments.benchmarks.eurosat --images=DIR --folder=DIR

builds the records, trains this config on them and measures what its encoder is
worth for land use; docs/transfer.md has the figures.
"""

from geojax.training import config as config_lib


def get_config():
  config = config_lib.default_config()
  config.num_steps = 3000
  config.log_every = 100
  config.eval_every = 500
  config.checkpoint_every = 500
  config.tasks = ("coords", "climate")
  config.probes = ("class",)
  config.data.name = "geo_tiles/eurosat"

  # Land has no upper side in these tasks.
  config.augment.flip_east_west = True
  config.augment.flip_north_south = True
  config.augment.rotate = True

  config.model.patch_size = 4
  config.model.depths = (1, 1)
  config.model.widths = (64, 128)
  config.model.dropout = 0.2

  # Centers of a small region: half of a component's mass within 230 km.
  config.mixture.num_centers = 256
  config.mixture.log_kappa = 7.0
  config.mixture.decoder = "mode"
  config.mixture.mode_blur_km = 300.0

  config.optimizer.learning_rate = 3e-3
  config.optimizer.ema_decay = 0.998
  return config
