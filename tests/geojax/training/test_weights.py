"""What a run starts from: taken as it is, matched by name, or refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny_encoder

from geojax import models, tasks
from geojax.models import convert
from geojax.training import config as config_lib
from geojax.training import data_info, exported, loop, weights
from geojax.training import state as state_lib
from geojax.training.errors import ConfigError


@pytest.fixture(autouse=True)
def devices(two_devices):
  """Two of the eight simulated devices."""


def next_config(small_config, workdir, names=("land_cover",), **init):
  config = small_config
  config.tasks = names
  config.init.encoder = str(workdir)
  config.init.update(init)
  config.optimizer.ema_decay = 0.0
  config.num_steps = config.eval_every = config.checkpoint_every = 3
  return config


def encoder_of(state):
  return jax.tree.map(np.asarray, state.params["model"]["encoder"])


def assert_trees_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_frozen_encoder_stays_and_heads_that_fit_are_taken(
  trained, small_config, tmp_path, capsys
):
  run, workdir = trained
  config = next_config(
    small_config, workdir, ("climate", "land_cover", "land_cover:pixels")
  )
  config.init.freeze = True
  config.num_steps = 2
  found = loop.train(config, tmp_path / "next", progress=False)
  before = run.state.evaluated
  assert_trees_equal(
    encoder_of(found.state),
    jax.tree.map(np.asarray, before["params"]["model"]["encoder"]),
  )
  assert_trees_equal(
    jax.tree.map(np.asarray, found.state.batch_stats),
    jax.tree.map(np.asarray, before["batch_stats"]),
  )
  # Trained on from where the other run ended, but not the same any more.
  theirs = np.asarray(before["params"]["model"]["climate"]["kernel"])
  ours = np.asarray(found.state.params["model"]["climate"]["kernel"])
  assert 0 < np.abs(theirs - ours).max() < 0.1
  line = capsys.readouterr().err
  assert "step 4" in line
  assert "heads taken: climate; heads drawn: land_cover, land_cover_px" in (
    line.replace("pixels", "px")
  )
  metrics = json.loads(
    (tmp_path / "next" / "metrics.jsonl").read_text().splitlines()[-1]
  )
  assert metrics["land_cover_pixels_mean_iou"] >= 0


def test_the_encoder_learns_at_a_rate_of_its_own(
  trained, small_config, tmp_path
):
  _, workdir = trained
  moved = {}
  for factor in (1.0, 0.1):
    config = next_config(small_config, workdir, learning_rate_factor=factor)
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.num_steps = 1
    config.optimizer.weight_decay = 0.0
    found = loop.train(config, tmp_path / str(factor), progress=False)
    start = weights.load(str(workdir)).variables["params"]["encoder"]
    moved[factor] = jax.tree.map(
      lambda a, b: np.asarray(a) - b, encoder_of(found.state), start
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(b, 0.1 * a, atol=2e-6),
    moved[1.0],
    moved[0.1],
  )


def core_config(**model):
  config = config_lib.default_config()
  config.tasks = ("climate",)
  config.model.depths, config.model.widths = (1, 1), (16, 16)
  config.model.update(model)
  return config


def test_layer_decay_shrinks_updates_layer_by_layer():
  from geojax.training import optimizers

  config = core_config()
  config.init.encoder, config.init.layer_decay = "somewhere", 0.5
  config.optimizer.schedule, config.optimizer.warmup_steps = "constant", 0
  config.optimizer.weight_decay = 0.0
  task_list = tasks.create_tasks(config)
  state = state_lib.create_state(
    config, task_list, image_shape=(8, 8, 2), read_labels=None
  )
  tx = optimizers.create_optimizer(config, task_list)
  grads = jax.tree.map(np.ones_like, state.params)
  updates, _ = tx.update(grads, tx.init(state.params), state.params)
  found = {
    name: float(np.abs(jax.tree.leaves(layer)[0]).max())
    for name, layer in updates["model"]["encoder"].items()
  }
  rate = config.optimizer.learning_rate
  assert found["stage1_block0"] == pytest.approx(rate, rel=1e-3)
  assert found["stage0_block0"] == pytest.approx(rate / 2, rel=1e-3)
  assert found["stem"] == pytest.approx(rate / 4, rel=1e-3)


def make_info(bands, size=8, scale=(0.0, 1.0)):
  return data_info.DataInfo(
    name="geo_tiles/made",
    image_shape=(size, size, len(bands)),
    dtype="float32",
    bands=tuple(bands),
    scale=(scale,) * len(bands),
    settings={},
  )


def make_exported(folder, config, bands, seed=0, **info):
  """Writes an encoder of random weights; returns model and variables."""
  data = make_info(bands, **info)
  task_list = tasks.create_tasks(config)
  config.seed = seed
  state = state_lib.create_state(
    config, task_list, image_shape=data.image_shape, read_labels=None
  )
  variables = {
    "params": state.params["model"],
    "batch_stats": state.batch_stats,
  }
  variables = jax.tree.map(np.asarray, variables)
  exported.write(exported.Exported(config, data, variables), folder)
  return variables


def features(config, variables, images):
  model = models.create_model(config.model, {})
  return np.asarray(model.apply(variables, images, method="features"))


@pytest.mark.parametrize(
  "model", [{"depths": (1,), "widths": (16,)}, {"patch_size": 2}]
)
def test_bands_are_matched_by_name(tmp_path, model, capsys):
  config = core_config(**model)
  theirs = make_exported(tmp_path, config, ["B02", "B03", "B04"])
  config.init.encoder, config.init.bands = str(tmp_path), "match"
  # B02 and B04 in another order, and a new one in between.
  data = make_info(["B04", "B08", "B02"])
  task_list = tasks.create_tasks(config)
  config.seed = 1
  start = weights.make_start(config, task_list, data)
  state = state_lib.create_state(
    config,
    task_list,
    image_shape=data.image_shape,
    read_labels=None,
    start=start,
  )
  ours = {"params": state.params["model"], "batch_stats": state.batch_stats}
  images = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
  images = images.astype(np.float32)
  images[..., 1] = 0
  permuted = np.stack([images[..., 2], images[..., 1], images[..., 0]], axis=-1)
  np.testing.assert_allclose(
    features(config, ours, images),
    features(config, theirs, permuted),
    atol=1e-5,
  )
  line = capsys.readouterr().err
  assert "bands drawn: B08; bands left out: B03" in line


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"bands": ["B02", "B04"]}, r"trained on the bands B02 B03, .* B02 B04"),
    ({"size": 16}, r"patches of 8 x 8 pixels, those of .* have 16 x 16"),
    ({"scale": (0.0, 2.0)}, r"band B02 was scaled .*\(0.0, 1.0\).*\(0.0, 2.0"),
  ],
)
def test_other_data_is_refused_with_both_sides(tmp_path, change, match):
  config = core_config()
  make_exported(tmp_path, config, ["B02", "B03"])
  config.init.encoder = str(tmp_path)
  data = make_info(**{"bands": ["B02", "B03"], **change})
  with pytest.raises(ConfigError, match=match):
    weights.make_start(config, tasks.create_tasks(config), data)
  config.init.any_patch_size = True
  if "size" in change:
    weights.make_start(config, tasks.create_tasks(config), data)


def test_another_model_is_refused_with_the_flags_to_set(tmp_path):
  config = core_config()
  make_exported(tmp_path, config, ["B02"])
  config.init.encoder = str(tmp_path)
  config.model.widths = (16, 32)
  with pytest.raises(
    ConfigError, match=r"widths \(16, 16\) there, \(16, 32\) here. Set --config"
  ):
    weights.make_start(config, tasks.create_tasks(config), make_info(["B02"]))


def test_weights_of_pytorch_are_read_by_the_published_names(tmp_path):
  config = core_config()
  theirs = make_exported(tmp_path / "a", config, ["B02", "B03"])
  path = tmp_path / "core.safetensors"
  convert.write_state_dict(path, convert.to_pytorch(theirs))
  config.init.encoder = str(path)
  config.seed = 5
  data = make_info(["B02", "B03"])
  task_list = tasks.create_tasks(config)
  state = state_lib.create_state(
    config,
    task_list,
    image_shape=data.image_shape,
    read_labels=None,
    start=weights.make_start(config, task_list, data),
  )
  assert_trees_equal(
    jax.tree.map(np.asarray, state.params["model"]["encoder"]),
    theirs["params"]["encoder"],
  )
  with pytest.raises(ConfigError, match=r"core.safetensors: the weights do n"):
    weights.make_start(config, task_list, make_info(["B02"]))


def test_a_path_without_weights_names_what_would_do(tmp_path, small_config):
  config = next_config(small_config, tmp_path / "nothing")
  with pytest.raises(ConfigError, match=r"no workdir of a run, no folder of"):
    weights.make_start(config, (), make_info(["B02"]))
  with pytest.raises(ConfigError, match=r"no folder that"):
    exported.read(tmp_path)
  (tmp_path / exported.WEIGHTS_FILE).write_bytes(b"other")
  (tmp_path / exported.CONFIG_FILE).write_text("{}")
  with pytest.raises(ConfigError, match=r"of format None, expected 1"):
    exported.read(tmp_path)
  make_exported(tmp_path, core_config(), ["B02"])
  (tmp_path / exported.WEIGHTS_FILE).write_bytes(b"cut")
  with pytest.raises(ConfigError, match=r"is not the file that .* describes"):
    exported.read(tmp_path)


def test_an_exported_encoder_comes_back_whole(tmp_path):
  config = core_config()
  theirs = make_exported(tmp_path, config, ["B02", "B03"], scale=(5.0, 2.0))
  found = exported.read(tmp_path)
  assert_trees_equal(found.variables, theirs)
  assert found.data == make_info(["B02", "B03"], scale=(5.0, 2.0))
  assert found.config.model == config.model
  again = dataclasses.replace(
    found, train_cells=np.array([3, 7], np.int32), about={"step": "step 4"}
  )
  exported.write(again, tmp_path)
  found = exported.read(tmp_path)
  assert found.train_cells.tolist() == [3, 7]
  assert found.about["step"] == "step 4"


@pytest.mark.parametrize(
  ("init", "match"),
  [
    ({"freeze": True}, r"init.freeze is not used where config.init.encoder"),
    ({"encoder": "x", "freeze": True, "layer_decay": 0.5}, r"init.freeze is T"),
  ],
)
def test_keys_that_change_nothing_are_refused(init, match):
  from geojax.training import config_check

  config = config_lib.default_config()
  tiny_encoder.use(config)
  config.init.update(init)
  with pytest.raises(ConfigError, match=match):
    config_check.check_config(config)
