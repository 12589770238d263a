"""The configuration: every key, its default and its meaning, in one place.

A config file in `experiments/configs/` starts from `default_config()` and says
what differs. The result is locked: `config.modle` or `--config.modle=...` is an
error that names the nearest known key, and so is a value of the wrong type.
"""

import json
import pathlib

import ml_collections

from geojax import files, tasks
from geojax.training.errors import ConfigError


def default_config() -> ml_collections.ConfigDict:
  """Returns the defaults of every key, locked.

  Returns:
    A locked ConfigDict; known keys can be set, new ones cannot.
  """
  config = ml_collections.ConfigDict()
  config.seed = 0
  # Steps of the optimizer, and how many of them between two log lines,
  # evaluations on validation, and checkpoints.
  config.num_steps = 1000
  config.log_every = 50
  config.eval_every = 500
  config.checkpoint_every = 500
  # The newest checkpoints that stay on disk, and the best one: by this metric
  # of validation, and saved as soon as it is found. "auto" takes that of the
  # first task that has one: of coords nll_nats, or median_km of a regression.
  config.checkpoints_to_keep = 2
  config.best_metric = "auto"
  # Evaluations without a better `best_metric` after which a run ends; 0: never.
  config.early_stopping_patience = 0
  # Steps whose loss, gradient or parameters are not finite that may be left
  # out, all in all; one more ends the run with the records of its batch.
  config.skip_nonfinite_steps = 0
  # Longest time of a step, from the request for its batch until its metrics are
  # read, or of a batch of an evaluation. A process that exceeds it prints what
  # its threads do and exits with 75; see geojax/training/deadline.py. 0: any.
  config.step_deadline_s = 0.0

  # Steps a to b whose trace the profiler of TensorBoard gets, (0, 0) for none.
  config.trace_steps = (0, 0)
  # Weights & Biases (extra [wandb]): the project that metrics go to as well.
  config.wandb_project = ""
  # "jit": one program over a mesh of all devices of all processes, or "pmap":
  # the same step on each device of one process.
  config.parallel = "jit"
  # Parameters and optimizer state: "replicated", whole on each device, or
  # "fsdp", spread over the devices that share a batch.
  config.sharding = "replicated"
  # Devices that the mixture's centers are spread over; the others split the
  # batch.
  config.model_devices = 1

  # What the model is asked: names of tasks, see geojax/tasks and
  # docs/extending.md.
  config.tasks = ("coords", "climate", "date")
  # Python files, or modules, that register tasks and encoders of your own.
  config.extensions = ()

  # Targets, see `tasks`, that ridge regression of the encoder's features
  # answers at each evaluation, without training it for them: metrics `probe_*`.
  config.probes = ()

  config.data = ml_collections.ConfigDict()
  # <builder>/<config> of a data set below `dir`, as data_prep.build leaves it.
  config.data.name = "geo_tiles/earth"
  # A folder, or gs://BUCKET/FOLDER.
  config.data.dir = "data"
  # A folder of this machine that the shards are copied to, and read from; "":
  # read them where they are.
  config.data.cache_dir = ""
  # Threads that read batches; 0: 2 where the processor trains, 16 elsewhere.
  config.data.read_threads = 0
  config.data.batch_size = 128
  config.data.eval_batch_size = 512

  config.augment = ml_collections.ConfigDict()
  config.augment.flip_east_west = True
  config.augment.flip_north_south = False
  # Right-angle rotations.
  config.augment.rotate = False
  # Moves an image by up to so many pixels each way: as far as that, the label's
  # place is no longer the centre.
  config.augment.crop_pixels = 0
  # Adds to each band of an image one normal draw of this standard deviation, in
  # scaled units.
  config.augment.band_noise = 0.0
  # Largest share of an image that is pasted from another one; 0 pastes nothing.
  config.augment.cut_mix = 0.0
  # Forbids every augmentation after which north is no longer up.
  config.augment.north_up = False

  config.model = ml_collections.ConfigDict()
  # The encoder: "core", "core_unet" or "vit".
  config.model.name = "core"
  # Of the Core family "atto", "femto", "pico", "nano", "tiny", "base", "large"
  # or "huge"; of "vit" "ti", "s", "b" or "l".
  config.model.size = "atto"
  # Blocks and channels of a stage, where they are not those of the size.
  config.model.depths = ()
  config.model.widths = ()
  # "core": squares of pixels folded into channels before the stem; 1 folds
  # nothing. "vit": the side of a patch, 8 or 16.
  config.model.patch_size = 1
  # Of the Core family: "batch" (over the whole batch, whatever the devices),
  # "group" or "layer".
  config.model.norm = "batch"
  # Of the Core family: "gate", or "published" for converted weights.
  config.model.excitation = "gate"
  # What the encoder computes in, "float32" or "bfloat16"; parameters,
  # statistics and losses are float32 always.
  config.model.dtype = "float32"
  # Gradient checkpointing: blocks are computed anew in the backward pass.
  config.model.remat = False
  config.model.dropout = 0.0

  # Of tasks that ask for an answer a pixel: "linear", a 1 x 1 convolution of
  # each of the encoder's maps, or "pyramid", a feature pyramid.
  config.model.pixel_head = "linear"

  config.init = ml_collections.ConfigDict()
  # Where the encoder's weights come from: a run's workdir, a folder that
  # experiments/export.py wrote, or a file of PyTorch's (.pt, .safetensors); ""
  # draws them. Heads of the same task and shape are taken too.
  config.init.encoder = ""
  # Whether the encoder stays as it is, so that the heads alone are trained.
  config.init.freeze = False
  # Share of optimizer.learning_rate that the encoder is trained with, times
  # `layer_decay` for each layer between a parameter and the heads.
  config.init.learning_rate_factor = 1.0
  config.init.layer_decay = 1.0
  # "same": the weights' bands and scale must be those of the data. "match":
  # bands are matched by name; weights of a band that the encoder does not know
  # are drawn, and those of a band that the data lack are left out.
  config.init.bands = "same"
  # Whether patches may be of another size than the encoder's.
  config.init.any_patch_size = False

  config.loss = ml_collections.ConfigDict()
  # Location: "mvmf", a mixture of von Mises-Fisher distributions; "smoothed",
  # the same mixture, trained by a target over its centers that falls with
  # distance; or "mse", a regression of the encoded coordinates, which uses
  # nothing of `mixture`.
  config.loss.coords = "mvmf"
  # Of "smoothed": the distance at which a center's share falls to 1/e.
  config.loss.smoothing_km = 300.0
  # Weights of the tasks in their mean loss. A task that is not listed has the
  # weight that its file gives it; config.unlocked() lets a config add it.
  config.loss.weights = ml_collections.ConfigDict()
  config.loss.weights.coords = 1.0
  config.loss.weights.climate = 5.0
  config.loss.weights.date = 8.0
  # Share of the 31 zones in the climate loss; the 6 classes have the rest.
  config.loss.climate_fine_weight = 0.5
  # Learning rate of the tasks' variances, which weigh them beside the weights
  # above (Kendall et al. 2018); 0 leaves those as they are.
  config.loss.variances_learning_rate = 0.0

  config.mixture = ml_collections.ConfigDict()
  config.mixture.num_centers = 512
  # How centers are laid out, see geojax/centers.py.
  config.mixture.centers = "train_subset"
  # For "train_subset": least distance between two centers. Data of a small
  # region hold few places so far apart: lower it, or num_centers.
  config.mixture.min_distance_km = 50.0
  # Initial log concentration of every center; exp(5) holds half of its mass
  # within 620 km.
  config.mixture.log_kappa = 5.0
  # Where greater than 0, each center's own concentration instead: this share of
  # its component's mass lies as near as its neighbours.
  config.mixture.spacing_mass = 0.0
  # Where greater than 0, head and mixture are computed over so many centers at
  # a time, in memory that does not grow with their number.
  config.mixture.chunk_size = 0
  # Where greater than 0, a uniform background behind the mixture: the model
  # learns its weight for each patch, which is never below this one. No place
  # then costs more than -log of it in `nll_nats`.
  config.mixture.background = 0.0
  # Learning rates of the concentrations and the centers; 0 keeps them fixed.
  config.mixture.log_kappa_learning_rate = 0.0
  config.mixture.centers_learning_rate = 0.0
  # Divides the mixture's logits in predictions, never in training. A model is
  # surer of its centers than it should be on places it never saw; the right
  # value is the one of least `nll_nats` on validation.
  config.mixture.temperature = 1.0
  # How one place is read off the mixture, see geojax/mixture/decoders.py.
  config.mixture.decoder = "least_expected_distance"
  # For the decoder "mode": the mixture is blurred by this standard deviation
  # before the highest point is sought.
  config.mixture.mode_blur_km = 0.0

  config.optimizer = ml_collections.ConfigDict()
  # AdamW. A linear warm-up to the peak, then "constant"; "cosine", down to
  # `final_fraction` of the peak; "restarts", such cosines each from the peak;
  # or "plateau", constant until validation stands still.
  config.optimizer.schedule = "cosine"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.warmup_steps = 100
  config.optimizer.final_fraction = 0.01
  # Steps of the first cosine of "restarts"; each is longer by the multiplier.
  config.optimizer.restart_period = 1000
  config.optimizer.restart_multiplier = 2.0
  # "plateau": after so many evaluations without a better `best_metric` all
  # rates fall to this share, never below `final_fraction` of the peak.
  config.optimizer.plateau_patience = 3
  config.optimizer.plateau_factor = 0.5
  # On kernels alone, never on biases, norms, concentrations or centers.
  config.optimizer.weight_decay = 0.05
  config.optimizer.clip_norm = 1.0
  # Parts that a batch is taken in, one after the other, in the memory of one
  # part. Loss and gradient are those of the whole batch; batch norm sees parts.
  config.optimizer.accumulate = 1
  # Evaluation uses an exponential moving average of parameters and batch
  # statistics with this decay a step; 0 evaluates the newest.
  config.optimizer.ema_decay = 0.0
  return config.lock()


def save_config(config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
  """Writes a config as JSON, whole or not at all."""
  files.write_text(path, json.dumps(config.to_dict(), indent=2) + "\n")


def load_config(path: pathlib.Path) -> ml_collections.ConfigDict:
  """Reads a config that `save_config` wrote.

  Raises:
    ConfigError: There is no such file, or one of its extensions is missing;
      names the way out.
  """
  if not path.exists():
    raise ConfigError(
      f"{path} does not exist: {path.parent} is no workdir of a run; give the"
      " --workdir that experiments/main.py was given"
    )
  return from_dict(json.loads(path.read_text()), path)


def from_dict(found: dict, path: pathlib.Path) -> ml_collections.ConfigDict:
  """Returns the defaults, updated by some keys.

  Args:
    found: Nested dicts of a config's values.
    path: The file they are from, for errors.

  Raises:
    ConfigError: One of its extensions is missing; names the way out.
  """
  config = default_config()
  # Weights may be of tasks that the defaults do not list.
  with config.loss.weights.unlocked():
    config.update(found)
  try:
    tasks.load_extensions(config.extensions)
  except ValueError as error:
    raise ConfigError(
      f"{path}: config.extensions: {error}. Put it back, or change its path in"
      " that file"
    ) from error
  return config


# What a machine needs, and a run does not depend on: free to change when it is
# resumed.
MACHINE_KEYS = ("data.cache_dir", "data.read_threads", "step_deadline_s")


def differing_keys(
  a: ml_collections.ConfigDict, b: ml_collections.ConfigDict
) -> dict[str, tuple]:
  """Returns `{key: (value in a, value in b)}` where two configs differ."""
  a, b = (flatten(json.loads(json.dumps(c.to_dict()))) for c in (a, b))
  return {
    key: (a.get(key), b.get(key))
    for key in sorted(a.keys() | b.keys())
    if a.get(key) != b.get(key)
  }


def flatten(tree: dict, prefix: str = "") -> dict:
  """Leaves of nested dicts by their dotted keys."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat
