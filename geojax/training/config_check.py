"""Which values of a config a run can use; all others are refused by name."""

import collections
import difflib
import importlib.util
import math

import ml_collections

from geojax import models, tasks
from geojax.training import config as config_lib
from geojax.training import config_values, probing
from geojax.training.errors import ConfigError

# Of tuples that do not hold integers.
_ITEMS = {"tasks": str, "extensions": str, "probes": str}
_WEIGHTS = "loss.weights."


def check_config(config: ml_collections.ConfigDict, targets=None) -> None:
  """Checks keys, types and values before anything is built.

  Args:
    config: The config of a run.
    targets: The data set's `tasks.Target`s by name, which `config.tasks` may
      name, or None.

  Raises:
    ConfigError: A key is unknown or missing, has another type than its default,
      or a value that no run can use; names the key and what would do.
  """
  known = config_lib.flatten(config_lib.default_config().to_dict())
  given = config_lib.flatten(config.to_dict())
  for key in given:
    # Weights may be of tasks that the defaults do not list.
    if key not in known and not key.startswith(_WEIGHTS):
      near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
      raise ConfigError(f"unknown config key {key!r}; did you mean {near!r}?")
  for key, default in known.items():
    if key not in given:
      raise ConfigError(f"config key {key!r} is missing")
    value = given[key]
    if isinstance(default, float) and type(value) is int:
      continue
    if isinstance(default, tuple) and isinstance(value, list | tuple):
      kind = _ITEMS.get(key, int)
      if all(type(item) is kind for item in value):
        continue
      raise ConfigError(
        f"config.{key} must hold values of type {kind.__name__}, got {value!r}"
      )
    if type(value) is not type(default):
      raise ConfigError(
        f"config.{key} must be of type {type(default).__name__}, like"
        f" {default!r}; got {value!r}"
      )
  task_list = _create_tasks(config, targets)
  for key, choices in config_values.CHOICES.items():
    if given[key] not in choices:
      raise ConfigError(
        f"config.{key} must be one of {', '.join(choices)}; got {given[key]!r}"
      )
  for key, interval in config_values.RANGES.items():
    values = (
      given[key] if isinstance(given[key], list | tuple) else [given[key]]
    )
    if not all(_lies_in(value, interval) for value in values):
      raise ConfigError(
        f"config.{key} must lie in {interval}; got {given[key]!r}"
      )
  for key, (other, choices) in (
    config_values.USED_WITH | _used_with_encoders()
  ).items():
    if given[other] not in choices and given[key] != known[key]:
      raise ConfigError(
        f"config.{key} is not used where config.{other} is {given[other]!r},"
        f" but where it is {' or '.join(map(repr, choices))}; leave it at"
        f" {known[key]!r}"
      )
  if given["model.depths"] and given["model.size"] != known["model.size"]:
    raise ConfigError(
      "config.model.size is not used where config.model.depths and .widths are"
      f" given: leave it at {known['model.size']!r}, or set both to ()"
    )
  if given["mixture.spacing_mass"] and (
    given["mixture.log_kappa"] != known["mixture.log_kappa"]
  ):
    raise ConfigError(
      "config.mixture.log_kappa is not used where config.mixture.spacing_mass"
      f" is above 0; leave it at {known['mixture.log_kappa']}"
    )
  if "://" in given["data.cache_dir"]:
    raise ConfigError(
      "config.data.cache_dir must be a folder of this machine; got"
      f" {given['data.cache_dir']!r}"
    )
  _check_weights(given, known, task_list)
  _check_init(given, known)
  _check_pixels(given, known, task_list)
  first_and_last = tuple(given["trace_steps"])
  if len(first_and_last) != 2 or first_and_last[0] > first_and_last[1]:
    raise ConfigError(
      "config.trace_steps must be the first step and the last, such as (10,"
      f" 12), or (0, 0) for none; got {given['trace_steps']!r}"
    )
  _check_wandb(given["wandb_project"])
  try:
    tasks.best_metric(task_list, given["best_metric"])
  except ValueError as error:
    raise ConfigError(f"config.best_metric: {error}") from error
  if len(given["model.depths"]) != len(given["model.widths"]):
    raise ConfigError("config.model.depths and .widths differ in length")
  if given["parallel"] == "pmap" and (
    given["sharding"] != "replicated" or given["model_devices"] != 1
  ):
    raise ConfigError(
      "config.parallel = 'pmap' holds all on each device; sharding and"
      " model_devices are for 'jit'"
    )
  if given["model_devices"] > 1 and (
    "coords" not in [task.name for task in task_list]
    or given["loss.coords"] == "mse"
    or given["mixture.num_centers"] % given["model_devices"]
  ):
    raise ConfigError(
      "config.model_devices spreads a mixture's centers: it must divide"
      f" config.mixture.num_centers, {given['mixture.num_centers']}, coords be"
      " among config.tasks, and config.loss.coords not be 'mse'"
    )
  if given["augment.north_up"] and (
    given["augment.flip_north_south"] or given["augment.rotate"]
  ):
    raise ConfigError(
      "config.augment.north_up forbids flip_north_south and rotate; switch"
      " those off, or north_up if no label depends on orientation"
    )
  try:
    models.create_encoder(config.model)
  except ValueError as error:
    raise ConfigError(
      f"config.model.name is {given['model.name']!r}: {error}"
    ) from error


def _check_init(given, known):
  """Raises the error of keys of `config.init` that change nothing."""
  for key, value in given.items():
    if not key.startswith("init.") or value == known[key]:
      continue
    if not given["init.encoder"]:
      raise ConfigError(
        f"config.{key} is not used where config.init.encoder is ''; leave it at"
        f" {known[key]!r}"
      )
    if key == "init.layer_decay" and not given["init.freeze"]:
      name = given["model.name"]
      if not models.ENCODERS[name].layers:
        raise ConfigError(
          f"config.{key} needs an order of the layers, and encoder {name!r} is"
          " registered without: register(..., layers=(...))"
        )
    if given["init.freeze"] and key in (
      "init.learning_rate_factor",
      "init.layer_decay",
    ):
      raise ConfigError(
        f"config.{key} is not used where config.init.freeze is True; leave it"
        f" at {known[key]!r}"
      )


def _check_pixels(given, known, task_list):
  """Raises the error of keys that need, or forbid, answers a pixel."""
  key = "model.pixel_head"
  if not any(models.reads_maps(task.head) for task in task_list):
    if given[key] != known[key]:
      raise ConfigError(
        f"config.{key} is not used: no task among config.tasks asks for an"
        f" answer a pixel; leave it at {known[key]!r}"
      )
  elif given["augment.cut_mix"]:
    raise ConfigError(
      "config.augment.cut_mix mixes one answer a patch, not those of pixels:"
      " set it to 0.0"
    )


def _create_tasks(config, targets):
  if not config.tasks:
    raise ConfigError("config.tasks is empty: nothing would be learned")
  try:
    created = tasks.create_tasks(config, targets=targets)
  except ValueError as error:
    raise ConfigError(f"config.tasks or config.extensions: {error}") from error
  try:
    probing.create_tasks(config, targets)
  except ValueError as error:
    raise ConfigError(f"config.probes: {error}") from error
  return created


def _check_weights(given, known, task_list):
  names = [task.name for task in task_list]
  for key, weight in given.items():
    if not key.startswith(_WEIGHTS):
      continue
    name = key.removeprefix(_WEIGHTS)
    if type(weight) not in (int, float) or not _lies_in(weight, "[0, inf)"):
      raise ConfigError(f"config.{key} must lie in [0, inf); got {weight!r}")
    if name not in names and weight != known.get(key):
      raise ConfigError(
        f"config.{key} is not used: {name!r} is not among config.tasks,"
        f" {', '.join(names)}"
      )
  if not any(task.weight for task in task_list):
    keys = ", ".join(f"config.{_WEIGHTS}{name}" for name in names)
    raise ConfigError(
      f"{keys} are all 0: nothing would be learned; set one above 0"
    )


def _used_with_encoders() -> dict:
  """What the registered encoders add to `config_values.USED_WITH`."""
  users = collections.defaultdict(list)
  for name, encoder in models.ENCODERS.items():
    for key in (*encoder.uses, *(["size"] if encoder.sizes else [])):
      users[f"model.{key}"].append(name)
  return {key: ("model.name", names) for key, names in users.items()}


def _lies_in(value, interval: str) -> bool:
  """Whether a number is finite and in an interval such as "[0, 1)"."""
  low, high = (float(end) for end in interval[1:-1].split(","))
  return (
    math.isfinite(value)
    and (low < value or (low == value and interval[0] == "["))
    and (value < high or (value == high and interval[-1] == "]"))
  )


def _check_wandb(project: str) -> None:
  if not project:
    return
  if any(character in project for character in "/\\#?%:"):
    raise ConfigError(
      "config.wandb_project must hold none of / \\ # ? % :, as Weights & Biases"
      f" asks; got {project!r}"
    )
  if importlib.util.find_spec("wandb") is None:
    raise ConfigError(
      "config.wandb_project needs Weights & Biases: pip install"
      " 'geojax[wandb]', or leave it empty"
    )
