"""Weights to PyTorch and back, by name, shape and file."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_samples import (
  ENCODER_SHAPES,
  HEAD_SHAPES,
  UNET_SHAPES,
  make_encoder,
  make_model,
  make_unet,
  random_variables,
  shapes_of,
)

from geojax.models import (
  Mixture,
  convert,
)


@pytest.mark.parametrize(
  ("make", "expected"),
  [
    (make_encoder, ENCODER_SHAPES),
    (make_model, {**ENCODER_SHAPES, **HEAD_SHAPES}),
    (make_unet, UNET_SHAPES),
  ],
)
def test_names_and_shapes_are_the_published_ones_and_come_back(make, expected):
  shapes = shapes_of(make())
  variables = random_variables(shapes)
  state_dict = convert.to_pytorch(variables)
  assert {key: value.shape for key, value in state_dict.items()} == expected
  # Names and shapes are all that is taken from what is filled.
  back = convert.from_pytorch(state_dict, shapes)
  assert jax.tree.structure(back) == jax.tree.structure(dict(variables))
  jax.tree.map(np.testing.assert_array_equal, back, dict(variables))


def test_layouts_one_by_one():
  variables = random_variables(shapes_of(make_model()))
  state_dict = convert.to_pytorch(variables)
  params = variables["params"]
  block = params["encoder"]["stage1_block0"]
  name = "encoder_blocks.1.blocks.0."
  wide = state_dict[name + "conv1.weight"]
  assert wide[3, 2, 0, 0] == block["conv1"]["kernel"][2, 3]
  wide = state_dict[name + "conv2.weight"]
  assert wide[7, 0, 1, 2] == block["conv2"]["kernel"][1, 2, 7]
  wide = state_dict[name + "conv3.weight"]
  assert wide[3, 9, 1, 2] == block["conv3"]["kernel"][1, 2, 9, 3]
  wide = state_dict[name + "squeeze.excitation.2.weight"]
  assert wide[5, 1] == block["squeeze"]["Dense_1"]["kernel"][1, 5]
  stats = variables["batch_stats"]["encoder"]["stage1_block0"]
  wide = state_dict[name + "match_channels.1.running_var"]
  assert wide[4] == stats["match_norm"]["var"][4]
  # Climate, coordinates, date.
  head = state_dict["head.2.weight"]
  climate, coords, date = (
    params[f"{name}"] for name in ("climate", "coords", "date")
  )
  assert head[30, 6] == climate["kernel"][6, 30]
  assert head[31, 6] == coords["kernel"][6, 0]
  assert head[34, 6] == date["kernel"][6, 0]
  assert state_dict["head.2.bias"][33] == coords["bias"][2]


def test_a_mixture_s_logits_are_converted_and_its_components_kept():
  shapes = shapes_of(make_model(Mixture(7)))
  variables = random_variables(shapes)
  state_dict = convert.to_pytorch(variables)
  assert state_dict["head.2.weight"].shape == (31 + 7 + 2, 32)
  back = convert.from_pytorch(state_dict, variables)
  jax.tree.map(np.testing.assert_array_equal, back, dict(variables))
  published = convert.to_pytorch(random_variables(shapes_of(make_model())))
  with pytest.raises(ValueError, match="expected \\(40, 32\\), found"):
    convert.from_pytorch(published, shapes)


def test_one_error_lists_all_that_does_not_fit():
  shapes = shapes_of(make_model())
  state_dict = convert.to_pytorch(random_variables(shapes))
  del state_dict["stem.norm1.running_mean"]
  del state_dict["encoder_blocks.1.blocks.1.conv3.bias"]
  state_dict["head.2.weight"] = np.zeros((1, 32), "float32")
  state_dict["stem.conv1.weight"] = np.zeros((16, 10, 1, 1), "float32")
  state_dict["encoder_blocks.2.blocks.0.conv1.bias"] = np.zeros(7, "float32")
  with pytest.raises(ValueError, match="do not fit") as error:
    convert.from_pytorch(state_dict, shapes)
  lines = [line.strip() for line in str(error.value).splitlines()[1:]]
  assert sorted(lines) == [
    "encoder_blocks.1.blocks.1.conv3.bias: expected (32,), is missing",
    "encoder_blocks.2.blocks.0.conv1.bias: not expected, found (7,)",
    "head.2.weight: expected (36, 32), found (1, 32)",
    "stem.conv1.weight: expected (16, 5, 1, 1), found (16, 10, 1, 1)",
    "stem.norm1.running_mean: expected (16,), is missing",
  ]


def test_the_number_of_batches_may_be_missing():
  shapes = shapes_of(make_model())
  state_dict = {
    key: value
    for key, value in convert.to_pytorch(random_variables(shapes)).items()
    if not key.endswith("num_batches_tracked")
  }
  convert.from_pytorch(state_dict, shapes)


def test_a_plain_stem_and_bridge_are_read_into_the_u():
  shapes = shapes_of(make_unet())
  variables = random_variables(shapes)
  plain = {
    key.replace("stem.0.", "stem.").replace("bridge.0.", "bridge."): value
    for key, value in convert.to_pytorch(variables).items()
  }
  assert "stem.conv1.weight" in plain
  back = convert.from_pytorch(plain, shapes)
  jax.tree.map(np.testing.assert_array_equal, back, dict(variables))


def test_other_models_are_told_apart():
  params = {"block0": {"attention": {"kernel": jnp.zeros((2, 2))}}}
  with pytest.raises(ValueError, match="params/block0/attention/kernel"):
    convert.to_pytorch({"params": params})


def test_what_is_filled_shares_no_memory():
  shapes = shapes_of(make_encoder())
  state_dict = convert.to_pytorch(random_variables(shapes))
  variables = convert.from_pytorch(state_dict, shapes)
  before = jax.tree.map(np.array, variables)
  for value in state_dict.values():
    value.fill(7)
  jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ImportError, match=r"geojax\[torch\]"):
    convert.read_state_dict(tmp_path / "weights.pt")
  with pytest.raises(ImportError, match=r"geojax\[torch\]"):
    convert.write_state_dict(tmp_path / "weights.pt", {})


# From here on against PyTorch itself.


@pytest.mark.torch
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_files_come_back(torch, tmp_path, ending):
  variables = random_variables(shapes_of(make_model()))
  state_dict = convert.to_pytorch(variables)
  # A view in another order of memory is written by its values.
  state_dict["head.2.weight"] = np.asfortranarray(state_dict["head.2.weight"])
  path = tmp_path / f"weights.{ending}"
  convert.write_state_dict(path, state_dict)
  back = convert.read_state_dict(path)
  assert back.keys() == state_dict.keys()
  for key, value in state_dict.items():
    np.testing.assert_array_equal(back[key], value)
    assert back[key].dtype == value.dtype


@pytest.mark.torch
def test_files_that_hold_more_than_weights_are_refused(torch, tmp_path):
  path = tmp_path / "checkpoint.pt"
  torch.save({"model": {"x": torch.zeros(2)}, "step": 3}, path)
  with pytest.raises(ValueError, match="model, step"):
    convert.read_state_dict(path)
  torch.save([torch.zeros(2)], path)
  with pytest.raises(ValueError, match="list"):
    convert.read_state_dict(path)


@pytest.mark.torch
def test_half_precision_is_read_as_float32(torch, tmp_path):
  path = tmp_path / "half.pt"
  torch.save({"x": torch.full((2,), 0.5, dtype=torch.bfloat16)}, path)
  value = convert.read_state_dict(path)["x"]
  assert value.dtype == np.float32
  np.testing.assert_array_equal(value, 0.5)


# For 10 bands: encoders with 36 outputs, the U with 1.
