"""A config that cannot be run is refused with its key and what would do."""

import ml_collections
import pytest

from geojax import tasks
from geojax.training import config as config_lib
from geojax.training import config_check
from geojax.training.errors import ConfigError


def test_the_defaults_can_be_run():
  config_check.check_config(config_lib.default_config())


def test_an_unknown_key_cannot_be_set():
  config = config_lib.default_config()
  with pytest.raises((AttributeError, KeyError), match="learning_rate"):
    config.optimizer.learning_rte = 1.0


def test_an_unknown_key_of_a_foreign_config_names_the_nearest():
  config = config_lib.default_config().unlock()
  config.optimizer.learning_rte = 1.0
  with pytest.raises(ConfigError, match=r"learning_rte.*learning_rate'"):
    config_check.check_config(config)


def test_a_missing_key_is_named():
  config = config_lib.default_config().unlock()
  del config.loss.coords
  with pytest.raises(ConfigError, match=r"loss\.coords"):
    config_check.check_config(config)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("num_steps", "many", r"num_steps must be of type int"),
    (
      "model.widths",
      ("a", "b", "c", "d"),
      r"model\.widths must hold values of type int",
    ),
    ("loss.coords", "mvfm", r"loss\.coords must be one of mvmf, smoothed, mse"),
    ("data.batch_size", 0, r"batch_size must lie in \[1, inf\)"),
    ("mixture.num_centers", 0, r"num_centers must lie in \[1, inf\)"),
    (
      "mixture.min_distance_km",
      -1.0,
      r"min_distance_km must lie in \[0, inf\)",
    ),
    ("model.depths", (1, 2), r"differ in length"),
    ("optimizer.learning_rate", -1.0, r"learning_rate must lie in \(0, inf\)"),
    ("optimizer.learning_rate", float("nan"), r"learning_rate must lie in"),
    ("model.dropout", 3.0, r"dropout must lie in \[0, 1\)"),
    ("optimizer.ema_decay", 2.0, r"ema_decay must lie in \[0, 1\)"),
    ("loss.climate_fine_weight", 7.0, r"fine_weight must lie in \[0, 1\]"),
    ("loss.weights.date", -1.0, r"weights\.date must lie in \[0, inf\)"),
    ("mixture.temperature", 0.0, r"temperature must lie in \(0, inf\)"),
    ("optimizer.plateau_factor", 0.5, None),
    ("optimizer.plateau_factor", 0.25, r"plateau_factor is not used where"),
    ("model.size", "giant", r"model\.name is 'core': unknown size 'giant'"),
  ],
)
def test_a_bad_value_is_named(key, value, message):
  tree = config_lib.default_config().to_dict()
  *parents, last = key.split(".")
  inner = tree
  for parent in parents:
    inner = inner[parent]
  inner[last] = value
  config = ml_collections.ConfigDict(tree)
  if message is None:
    config_check.check_config(config)
    return
  with pytest.raises(ConfigError, match=message):
    config_check.check_config(config)


def _best(config):
  return tasks.best_metric(tasks.create_tasks(config), config.best_metric).name


def test_the_best_is_by_density_where_there_is_one():
  config = config_lib.default_config()
  assert _best(config) == "nll_nats"
  config.loss.coords = "mse"
  config_check.check_config(config)
  assert _best(config) == "median_km"
  config.best_metric = "geoscore"
  assert _best(config) == "geoscore"
  config.best_metric = "nll_nats"
  with pytest.raises(ConfigError, match="no task has 'nll_nats'"):
    config_check.check_config(config)


def test_weights_that_are_all_zero_are_refused():
  config = config_lib.default_config()
  for task in ("coords", "climate", "date"):
    config.loss.weights[task] = 0.0
  with pytest.raises(ConfigError, match=r"weights\.coords.* are all 0"):
    config_check.check_config(config)


def test_weights_follow_the_tasks():
  config = config_lib.default_config()
  config.tasks = ("climate",)
  config_check.check_config(config)
  config.loss.weights.date = 3.0
  with pytest.raises(ConfigError, match=r"weights\.date is not used"):
    config_check.check_config(config)
  config.tasks = ("climate", "altitude")
  with pytest.raises(ConfigError, match=r"unknown task 'altitude'"):
    config_check.check_config(config)
  config.tasks = ()
  with pytest.raises(ConfigError, match=r"config\.tasks is empty"):
    config_check.check_config(config)


@pytest.mark.parametrize(
  ("key", "value"), [("norm", "layer"), ("excitation", "published")]
)
def test_keys_that_a_vit_ignores_are_refused(key, value):
  config = config_lib.default_config()
  config.model.name, config.model.size = "vit", "ti"
  config.model.patch_size = 8
  config_check.check_config(config)
  config.model[key] = value
  with pytest.raises(ConfigError, match=rf"model\.{key} is not used .*'vit'"):
    config_check.check_config(config)


@pytest.mark.parametrize("turning", ["flip_north_south", "rotate"])
def test_north_up_forbids_what_turns_north_down(turning):
  config = config_lib.default_config()
  config.augment.north_up = True
  config_check.check_config(config)
  config.augment[turning] = True
  with pytest.raises(ConfigError, match="north_up forbids"):
    config_check.check_config(config)


def test_a_saved_config_comes_back(tmp_path):
  config = config_lib.default_config()
  config.model.widths = (16, 32, 64, 128)
  config_lib.save_config(config, tmp_path / "config.json")
  loaded = config_lib.load_config(tmp_path / "config.json")
  assert config_lib.differing_keys(config, loaded) == {}
  loaded.num_steps = 7
  assert config_lib.differing_keys(config, loaded) == {
    "num_steps": (config.num_steps, 7)
  }


def test_no_workdir_says_how_to_get_one(tmp_path):
  with pytest.raises(ConfigError, match=r"experiments/main\.py"):
    config_lib.load_config(tmp_path / "config.json")


def test_a_run_whose_extension_is_gone_names_it(tmp_path):
  extension = tmp_path / "mine.py"
  extension.write_text("")
  config = config_lib.default_config()
  config.extensions = (str(extension),)
  config_lib.save_config(config, tmp_path / "config.json")
  config_lib.load_config(tmp_path / "config.json")
  (tmp_path / "mine.py").rename(tmp_path / "other.py")
  with pytest.raises(ConfigError, match=r"no file .*mine\.py\. Put it back"):
    config_lib.load_config(tmp_path / "config.json")
