"""Land cover of the sample's patches and pixels, from the base run's encoder.

  make transfer

or, once `make train` is done,

  python experiments/transfer.py --config=experiments/configs/land_cover.py \
    --workdir=runs/land_cover --config.encoder=runs/base
"""

from geojax.transfer import config as config_lib


def get_config():
  config = config_lib.default_config()
  config.encoder = "runs/base"
  config.tasks = ("land_cover", "land_cover:pixels")
  config.pooling = "stages"
  # Without logistic regression, which takes longer than the others together.
  config.protocols = ("knn", "ridge", "finetune", "scratch")
  # Every fifth patch: months of one place are much alike.
  config.max_train = 30_000
  config.train.num_steps = 200
  return config
