"""The configuration of a transfer: every key, its default and its meaning.

A config file in `experiments/configs/` starts from `default_config()`.
"""

import ml_collections

from geojax.training import config as training_config
from geojax.training.errors import ConfigError

PROTOCOLS = ("knn", "ridge", "logistic", "finetune", "scratch")
PIXEL_PROTOCOLS = ("linear", "pyramid", "finetune", "scratch", "core_unet")
POOLINGS = ("encoder", "stages")
ENCODERS = ("pretrained", "random", "band_statistics", "random_convolutions")


def default_config() -> ml_collections.ConfigDict:
  """Returns the defaults of every key, locked."""
  config = ml_collections.ConfigDict()
  # The encoder: a run's workdir, a folder that experiments/export.py wrote, or
  # a file of PyTorch's.
  config.encoder = ""
  # As `config.init.bands` and `.any_patch_size` of a training config.
  config.bands = "same"
  config.any_patch_size = False
  # The model of PyTorch's weights, as `config.model` of a training config; not
  # used for other encoders, whose model is known.
  config.model = training_config.default_config().model

  config.data = ml_collections.ConfigDict()
  # The data set of the tasks, see a training config.
  config.data.name = "geo_tiles/earth"
  config.data.dir = "data"
  config.data.cache_dir = ""
  config.data.batch_size = 512

  # Targets of the data set, `NAME` or `NAME:pixels`, or tasks of
  # `extensions`.
  config.tasks = ()
  config.extensions = ()
  # Protocols of tasks with one answer a patch, on cached features: "knn",
  # "ridge", "logistic" (not of numbers); trained: "finetune", the whole
  # encoder, with a head that starts as a ridge regression, and "scratch", the
  # same from random weights.
  config.protocols = ("knn", "ridge", "logistic", "finetune", "scratch")
  # Of tasks with an answer a pixel: "linear", a 1 x 1 convolution by ridge
  # regression, on cached maps of the encoder and of random weights; trained:
  # "pyramid", a feature pyramid on the frozen encoder, "finetune" and
  # "scratch", with that pyramid, and "core_unet", a CoreUnet from random
  # weights.
  config.pixel_protocols = ("linear", "finetune", "scratch")
  # What the protocols of cached features read: "encoder", the features that
  # heads read, or "stages", means and standard deviations over the pixels of
  # each stage's map.
  config.pooling = "encoder"
  # What encoders are compared: "pretrained" and its baselines.
  config.encoders = (
    *("pretrained", "random", "band_statistics", "random_convolutions"),
  )

  # Labelled train patches of each class, or of each region; 0 is all.
  config.shots = (1, 5, 10, 25, 60, 0)
  # "class" (a class map's is that of most pixels; numbers have one, all),
  # "region", a bucket of latitude and longitude, or the name of a target whose
  # classes are regions.
  config.shots_by = "class"
  config.region_deg = 10.0
  # Draws of the labelled patches.
  config.num_seeds = 5
  # Of "logistic" and the trained protocols, which take longer.
  config.logistic_shots = (1, 5, 10, 25, 60)
  config.trained_shots = (60,)
  config.pixel_shots = (60,)
  # Neighbours of "knn".
  config.num_neighbours = (5, 20)
  # Patches of the train split that 0 shots read, at most, spread evenly.
  config.max_train = 100_000
  # Bootstrap resamples of the test places behind each interval.
  config.num_resamples = 200

  config.train = ml_collections.ConfigDict()
  # Of the trained protocols.
  config.train.num_steps = 300
  config.train.batch_size = 64
  config.train.learning_rate = 3e-3
  # Of "finetune": as in `config.init` of a training config.
  config.train.learning_rate_factor = 0.3
  config.train.layer_decay = 1.0
  config.train.weight_decay = 0.05
  config.train.dropout = 0.0
  config.train.flip = True
  return config.lock()


def check_config(config) -> None:
  """Raises the ConfigError of a config that cannot be run."""
  if not config.encoder:
    raise ConfigError(
      "config.encoder is '': give a run's workdir, a folder of"
      " experiments/export.py or a file of PyTorch's"
    )
  if not config.tasks:
    raise ConfigError("config.tasks is empty; name targets of the data set")
  for key, known in (
    ("protocols", PROTOCOLS),
    ("pixel_protocols", PIXEL_PROTOCOLS),
    ("encoders", ENCODERS),
  ):
    if unknown := [name for name in config[key] if name not in known]:
      raise ConfigError(
        f"config.{key} has {', '.join(unknown)}; known are {', '.join(known)}"
      )
  if config.pooling not in POOLINGS:
    raise ConfigError(
      f"config.pooling must be one of {', '.join(POOLINGS)}; got"
      f" {config.pooling!r}"
    )
  if not config.shots:
    raise ConfigError("config.shots is empty; give numbers, 0 for all labels")
  for key in ("shots", "logistic_shots", "trained_shots", "pixel_shots"):
    if any(number < 0 for number in config[key]):
      raise ConfigError(f"config.{key} must hold no number below 0")
  for key in ("num_seeds", "max_train", "num_resamples"):
    if config[key] < 1:
      raise ConfigError(f"config.{key} must be at least 1, got {config[key]}")
