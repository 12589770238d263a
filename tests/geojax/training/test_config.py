"""A config that cannot be run is refused with its key and what would do."""

import ml_collections
import pytest

from geojax.training import config as config_lib
from geojax.training.errors import ConfigError


def test_the_defaults_can_be_run():
  config_lib.check_config(config_lib.default_config())


def test_an_unknown_key_cannot_be_set():
  config = config_lib.default_config()
  with pytest.raises((AttributeError, KeyError), match="learning_rate"):
    config.optimizer.learning_rte = 1.0


def test_an_unknown_key_of_a_foreign_config_names_the_nearest():
  config = config_lib.default_config().unlock()
  config.optimizer.learning_rte = 1.0
  with pytest.raises(ConfigError, match=r"learning_rte.*learning_rate'"):
    config_lib.check_config(config)


def test_a_missing_key_is_named():
  config = config_lib.default_config().unlock()
  del config.loss.coords
  with pytest.raises(ConfigError, match=r"loss\.coords"):
    config_lib.check_config(config)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("num_steps", "many", r"num_steps must be of type int"),
    ("model.widths", ("a", "b", "c", "d"), r"model\.widths must hold integers"),
    ("loss.coords", "mvfm", r"loss\.coords must be one of mvmf, mse"),
    ("data.batch_size", 0, r"batch_size must be at least 1"),
    ("mixture.num_centers", 3, r"num_centers must be at least 4"),
    ("mixture.min_distance_km", -1.0, r"min_distance_km must not be negative"),
    ("model.depths", (1, 2), r"differ in length"),
  ],
)
def test_a_bad_value_is_named(key, value, message):
  tree = config_lib.default_config().to_dict()
  *parents, last = key.split(".")
  inner = tree
  for parent in parents:
    inner = inner[parent]
  inner[last] = value
  with pytest.raises(ConfigError, match=message):
    config_lib.check_config(ml_collections.ConfigDict(tree))


@pytest.mark.parametrize("turning", ["flip_north_south", "rotate"])
def test_north_up_forbids_what_turns_north_down(turning):
  config = config_lib.default_config()
  config.augment.north_up = True
  config_lib.check_config(config)
  config.augment[turning] = True
  with pytest.raises(ConfigError, match="north_up forbids"):
    config_lib.check_config(config)


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
