"""What the keys of a config may be."""

from geojax import models

CHOICES = {
  "model.name": models.ENCODERS,
  "model.norm": ("batch", "group", "layer"),
  "model.excitation": ("gate", "published"),
  "model.dtype": ("float32", "bfloat16"),
  "loss.coords": ("mvmf", "smoothed", "mse"),
  "mixture.centers": (
    "fibonacci",
    "land",
    "train_subset",
    "kmeans",
    "partition",
  ),
  "model.pixel_head": models.PIXEL_HEADS,
  "init.bands": ("same", "match"),
  "parallel": ("jit", "pmap"),
  "sharding": ("replicated", "fsdp"),
  "optimizer.schedule": ("constant", "cosine", "restarts", "plateau"),
  "mixture.decoder": ("largest", "mode", "least_expected_distance"),
}

# Where the numbers of a config lie.
RANGES = {
  **dict.fromkeys(
    (
      "num_steps",
      "log_every",
      "eval_every",
      "checkpoint_every",
      "checkpoints_to_keep",
      "model_devices",
      "data.batch_size",
      "data.eval_batch_size",
      "model.patch_size",
      "model.depths",
      "optimizer.accumulate",
      "optimizer.restart_period",
      "optimizer.restart_multiplier",
      "optimizer.plateau_patience",
    ),
    "[1, inf)",
  ),
  **dict.fromkeys(
    (
      "early_stopping_patience",
      "skip_nonfinite_steps",
      "step_deadline_s",
      "trace_steps",
      "data.read_threads",
      "augment.crop_pixels",
      "augment.band_noise",
      "loss.variances_learning_rate",
      "mixture.min_distance_km",
      "mixture.chunk_size",
      "mixture.log_kappa_learning_rate",
      "mixture.centers_learning_rate",
      "mixture.mode_blur_km",
      "optimizer.warmup_steps",
      "optimizer.weight_decay",
    ),
    "[0, inf)",
  ),
  **dict.fromkeys(
    (
      "init.learning_rate_factor",
      "loss.smoothing_km",
      "mixture.temperature",
      "optimizer.learning_rate",
      "optimizer.clip_norm",
    ),
    "(0, inf)",
  ),
  **dict.fromkeys(
    (
      "augment.cut_mix",
      "model.dropout",
      "mixture.background",
      "mixture.spacing_mass",
      "optimizer.ema_decay",
    ),
    "[0, 1)",
  ),
  "seed": "[0, 4294967296)",
  "init.layer_decay": "(0, 1]",
  # Excitation has a unit for every 16 channels.
  "model.widths": "[16, inf)",
  "loss.climate_fine_weight": "[0, 1]",
  "mixture.num_centers": "[1, inf)",
  # exp(40) is a spread of a centimetre.
  "mixture.log_kappa": "[-20, 40]",
  "optimizer.final_fraction": "[0, 1]",
  "optimizer.plateau_factor": "(0, 1)",
}

# Keys that only some choices use: elsewhere they must keep their default, or a
# user would change them and see nothing change.
USED_WITH = {
  "loss.smoothing_km": ("loss.coords", ("smoothed",)),
  "mixture.min_distance_km": ("mixture.centers", ("train_subset",)),
  "optimizer.final_fraction": (
    "optimizer.schedule",
    ("cosine", "restarts", "plateau"),
  ),
  "optimizer.restart_period": ("optimizer.schedule", ("restarts",)),
  "optimizer.restart_multiplier": ("optimizer.schedule", ("restarts",)),
  "optimizer.plateau_patience": ("optimizer.schedule", ("plateau",)),
  "optimizer.plateau_factor": ("optimizer.schedule", ("plateau",)),
}
