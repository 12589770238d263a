"""Which encoders the transfer command takes, and what it knows of them."""

import dataclasses

import command_runs
import pytest
import tiny_encoder
from transfer_samples import make_config, read_results

from geojax import tasks
from geojax.models import convert
from geojax.training import config as config_lib
from geojax.training import data_info, exported
from geojax.training import state as state_lib
from geojax.training.errors import ConfigError
from geojax.transfer import problems, run


def test_another_encoder_needs_another_workdir(smoke, encoder, tmp_path):
  config = make_config(smoke, encoder, protocols=("ridge",), shots=(1,))
  run.run(config, tmp_path, lambda line: None)
  config.region_deg = 3.0
  with pytest.raises(ConfigError, match=r"results of another region_deg"):
    run.run(config, tmp_path, lambda line: None)


def test_an_overlap_with_the_test_places_is_reported(
  smoke, encoder, tmp_path, monkeypatch
):
  original = problems.read_splits

  def leaky(*args, **keys):
    splits = original(*args, **keys)
    splits["test"].labels["coords"][:] = splits["train"].labels["coords"][0]
    return splits

  monkeypatch.setattr(problems, "read_splits", leaky)
  found = data_info.load(encoder)
  # Of the same data set, but of other splits by its hash.
  monkeypatch.setattr(
    data_info,
    "load",
    lambda workdir: dataclasses.replace(found, splits_sha256="other"),
  )
  lines = []
  config = make_config(smoke, encoder, protocols=(), shots=(1,))
  run.run(config, tmp_path, lines.append)
  assert "warning: 100.0% of the test patches lie within 22 km" in lines[0]


def test_weights_of_pytorch_take_their_model_from_the_config(smoke, tmp_path):
  config = config_lib.default_config()
  config.tasks = ("climate",)
  config.model.depths, config.model.widths = (1,), (16,)
  state = state_lib.create_state(
    config,
    tasks.create_tasks(config),
    image_shape=(32, 32, 5),
    read_labels=None,
  )
  path = tmp_path / "core.safetensors"
  variables = {
    "params": state.params["model"],
    "batch_stats": state.batch_stats,
  }
  convert.write_state_dict(path, convert.to_pytorch(variables))
  flags = (
    *("--config=experiments/configs/land_cover.py", f"--config.encoder={path}"),
    *(f"--config.data.dir={smoke}", "--config.data.name=geo_tiles/earth_smoke"),
    *("--config.tasks=('land_cover',)", "--config.protocols=('ridge',)"),
    *("--config.encoders=('pretrained',)", "--config.shots=(5,)"),
    f"--workdir={tmp_path / 'out'}",
  )
  done = command_runs.run("transfer.py", *flags)
  assert done.returncode == 1
  assert "the weights do not fit the model" in done.stderr
  done = command_runs.run(
    *("transfer.py", *flags, "--config.model.depths=(1,)"),
    "--config.model.widths=(16,)",
  )
  assert done.returncode == 0, done.stderr
  assert "of PyTorch's weights no place is known" in done.stdout
  protocols = {row["protocol"] for row in read_results(tmp_path / "out")}
  assert protocols == {"ridge", "constant"}


def test_a_model_beside_that_of_the_encoder_is_refused(
  smoke, encoder, tmp_path
):
  config = make_config(smoke, encoder)
  config.model.size = "nano"
  with pytest.raises(ConfigError, match=r"config.model is not used"):
    run.run(config, tmp_path, lambda line: None)


def test_errors_name_the_keys_of_a_transfer(smoke, tmp_path):
  config = config_lib.default_config()
  config.tasks = ("climate",)
  tiny_encoder.use(config)
  data = data_info.DataInfo(
    name="geo_tiles/other",
    image_shape=(32, 32, 1),
    dtype="int16",
    bands=("red",),
    scale=((96.0, 64.0),),
    settings={},
  )
  state = state_lib.create_state(
    config,
    tasks.create_tasks(config),
    image_shape=data.image_shape,
    read_labels=None,
  )
  variables = {
    "params": state.params["model"],
    "batch_stats": state.batch_stats,
  }
  exported.write(exported.Exported(config, data, variables), tmp_path / "a")
  found = make_config(smoke, tmp_path / "a", protocols=("ridge",))
  with pytest.raises(ConfigError, match=r'set config.bands = "match"'):
    run.run(found, tmp_path / "out", lambda line: None)
  found.bands = "match"
  lines = []
  run.run(found, tmp_path / "out", lines.append)
  assert "exported without its places" in lines[0]
