"""Pretraining on Sentinel-2 at scale: 100 tiles to two million places.

  python experiments/main.py --config=experiments/configs/sentinel2.py \
    --config.data.dir=gs://BUCKET/data --workdir=gs://BUCKET/runs/sentinel2

For records of `data_prep.build --config=sentinel2` or `--config=major_tom`:
patches of 128 x 128 at 10 m, ten bands and the scene classification. Made for
16 chips or more with 64 patches each; `experiments.benchmarks.scaling` prints
hours and cost. On one GPU, `--config.optimizer.accumulate=4` takes the same
batch in parts.
"""

from geojax.training import config as config_lib


def get_config():
  config = config_lib.default_config()
  config.data.name = "geo_tiles/sentinel2"
  # 16 chips with 64 patches each: batch norm over fewer than some hundred
  # patches, of few tiles each, is noisy.
  config.data.batch_size = 1024
  config.data.eval_batch_size = 1024
  # 102 million patches: 140 epochs of 100 tiles without a cloud, or 50 of two
  # million places. The first may overfit before its end: validation stops it.
  config.num_steps = 100_000
  config.early_stopping_patience = 20
  config.log_every = 100
  config.eval_every = config.checkpoint_every = 2000
  # A hung host of a pod would be paid for until somebody looks.
  config.step_deadline_s = 600.0

  # Squares of 2 x 2 pixels, 20 m, which is the resolution of six of the bands:
  # a fourth of the arithmetic of single pixels, and about as much time as
  # reading takes. Four stages end in 4 x 4 cells.
  config.model.size = "nano"
  config.model.patch_size = 2
  # Matrix units compute in bfloat16; parameters and losses stay float32.
  config.model.dtype = "bfloat16"
  # 64 patches keep 3 GiB for the backward pass, a fourth of docs/encoders.md's
  # figure for single pixels: nothing need be computed twice.
  config.model.remat = False
  config.model.dropout = 0.1

  # Land looks alike from all sides at 10 m; shadows, which do not, give little
  # more than the hemisphere away.
  config.augment.flip_east_west = True
  config.augment.flip_north_south = True
  config.augment.rotate = True
  # Far less than a component of the mixture is wide.
  config.augment.crop_pixels = 8

  # Centers at train places, each as wide as the distance to its neighbours:
  # dense where data are, wide where they are not. As they lie at least 50 km
  # apart, 100 tiles have room for --config.mixture.num_centers=256.
  config.mixture.num_centers = 8192
  config.mixture.spacing_mass = 0.5
  # A place where no train patch lies costs 7 nats at most.
  config.mixture.background = 1e-3

  # AdamW as for ConvNeXt, its rate scaled down to this batch.
  config.optimizer.learning_rate = 1e-3
  config.optimizer.warmup_steps = 2000
  config.optimizer.weight_decay = 0.05
  # Averages over the last 1,000 steps: evaluation no longer depends on the
  # last few batches.
  config.optimizer.ema_decay = 0.999
  return config
