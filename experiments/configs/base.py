"""The first run: the earth data set, five bands of 32 x 32, two CPU cores."""

from geojax.training import config as config_lib


def get_config():
  config = config_lib.default_config()
  config.num_steps = 5000
  config.log_every = 100
  config.eval_every = 1000
  config.checkpoint_every = 1000
  config.augment.flip_east_west = True
  config.augment.flip_north_south = True
  config.model.patch_size = 8
  config.model.depths = (2,)
  config.model.widths = (96,)
  config.model.dropout = 0.2
  config.mixture.num_centers = 512
  config.mixture.log_kappa = 5.0
  config.optimizer.learning_rate = 3e-3
  config.optimizer.ema_decay = 0.998
  return config
