"""Blue Marble Next Generation: twelve months of 2004, three bands.

  python -m data_prep.build --config=blue_marble --output=data --manual_dir=DIR
  python experiments/main.py --config=experiments/configs/blue_marble.py \
    --workdir=runs/blue_marble

DIR holds `2004MM.jpg` or NASA's `world.2004MM.3x5400x2700.jpg`; without
--manual_dir they are downloaded from NASA.
"""

from experiments.configs import base


def get_config():
  config = base.get_config()
  config.data.name = "geo_tiles/blue_marble"
  return config
