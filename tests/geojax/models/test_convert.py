"""Weights to PyTorch and back, and both sides' numbers side by side."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.models import (
  CoreEncoder,
  CoreUnet,
  Linear,
  Mixture,
  MultiTaskModel,
  convert,
  unbox,
)

DEPTHS, WIDTHS, BANDS = (1, 2), (16, 32), 5


def _encoder(**kwargs):
  return CoreEncoder(depths=DEPTHS, widths=WIDTHS, **kwargs)


def _model(coords=None, **kwargs):
  heads = {
    "coords": coords or Linear(3, sigmoid=True),
    "climate": Linear(31),
    "date": Linear(2, sigmoid=True),
  }
  return MultiTaskModel(_encoder(**kwargs), heads)


def _unet(**kwargs):
  widths = [2 * width for width in WIDTHS]
  return CoreUnet(depths=DEPTHS, widths=widths, num_outputs=2, **kwargs)


def _shapes(model, side=8):
  images = jax.ShapeDtypeStruct((1, side, side, BANDS), jnp.float32)
  return unbox(jax.eval_shape(model.init, jax.random.key(0), images))


def _random(shapes, seed=0):
  """Variables of distinct values, so that no two arrays can be swapped."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype), shapes
  )


def _block_shapes(channels, width):
  shapes = {
    "conv1.weight": (width, channels, 1, 1),
    "conv1.bias": (width,),
    "conv2.weight": (width, 1, 3, 3),
    "conv2.bias": (width,),
    "conv3.weight": (width, width, 3, 3),
    "conv3.bias": (width,),
    "squeeze.excitation.0.weight": (width // 16, width),
    "squeeze.excitation.2.weight": (width, width // 16),
  }
  norms = ["norm1", "norm2", "norm3"]
  if channels != width:
    shapes["match_channels.0.weight"] = (width, channels, 1, 1)
    norms.append("match_channels.1")
  for norm in norms:
    for name in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{norm}.{name}"] = (width,)
    shapes[f"{norm}.num_batches_tracked"] = ()
  return shapes


def _prefixed(**blocks):
  return {
    f"{prefix.replace('__', '.')}.{key}": shape
    for prefix, block in blocks.items()
    for key, shape in _block_shapes(*block).items()
  }


ENCODER_SHAPES = _prefixed(
  stem=(5, 16),
  encoder_blocks__0__blocks__0=(16, 16),
  encoder_blocks__1__blocks__0=(16, 32),
  encoder_blocks__1__blocks__1=(32, 32),
)
HEAD_SHAPES = {"head.2.weight": (36, 32), "head.2.bias": (36,)}
UNET_SHAPES = {
  **_prefixed(
    stem__0=(5, 16),
    encoder_blocks__0__blocks__0=(16, 16),
    encoder_blocks__1__blocks__0=(16, 32),
    encoder_blocks__1__blocks__1=(32, 32),
    bridge__0=(32, 32),
    decoder_blocks__0__match_channels=(64, 16),
    decoder_blocks__0__blocks__0=(16, 16),
    decoder_blocks__0__blocks__1=(16, 16),
    decoder_blocks__1__match_channels=(32, 16),
    decoder_blocks__1__blocks__0=(16, 16),
    head__0=(16, 16),
  ),
  "decoder_blocks.0.attention.compress.weight": (1, 32, 1, 1),
  "decoder_blocks.0.attention.compress.bias": (1,),
  "decoder_blocks.0.attention.attn_c_reduction.weight": (128, 512),
  "decoder_blocks.0.attention.attn_c_reduction.bias": (128,),
  "decoder_blocks.0.attention.attn_c_extention.weight": (32, 128),
  "decoder_blocks.0.attention.attn_c_extention.bias": (32,),
  "decoder_blocks.1.attention.compress.weight": (1, 16, 1, 1),
  "decoder_blocks.1.attention.compress.bias": (1,),
  "decoder_blocks.1.attention.attn_c_reduction.weight": (64, 256),
  "decoder_blocks.1.attention.attn_c_reduction.bias": (64,),
  "decoder_blocks.1.attention.attn_c_extention.weight": (16, 64),
  "decoder_blocks.1.attention.attn_c_extention.bias": (16,),
  "head.1.weight": (2, 16, 1, 1),
  "head.1.bias": (2,),
}


@pytest.mark.parametrize(
  ("make", "expected"),
  [
    (_encoder, ENCODER_SHAPES),
    (_model, {**ENCODER_SHAPES, **HEAD_SHAPES}),
    (_unet, UNET_SHAPES),
  ],
)
def test_names_and_shapes_are_the_published_ones_and_come_back(make, expected):
  shapes = _shapes(make())
  variables = _random(shapes)
  state_dict = convert.to_pytorch(variables)
  assert {key: value.shape for key, value in state_dict.items()} == expected
  # Names and shapes are all that is taken from what is filled.
  back = convert.from_pytorch(state_dict, shapes)
  assert jax.tree.structure(back) == jax.tree.structure(dict(variables))
  jax.tree.map(np.testing.assert_array_equal, back, dict(variables))


def test_layouts_one_by_one():
  variables = _random(_shapes(_model()))
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
  shapes = _shapes(_model(Mixture(7)))
  variables = _random(shapes)
  state_dict = convert.to_pytorch(variables)
  assert state_dict["head.2.weight"].shape == (31 + 7 + 2, 32)
  back = convert.from_pytorch(state_dict, variables)
  jax.tree.map(np.testing.assert_array_equal, back, dict(variables))
  published = convert.to_pytorch(_random(_shapes(_model())))
  with pytest.raises(ValueError, match="expected \\(40, 32\\), found"):
    convert.from_pytorch(published, shapes)


def test_one_error_lists_all_that_does_not_fit():
  shapes = _shapes(_model())
  state_dict = convert.to_pytorch(_random(shapes))
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
  shapes = _shapes(_model())
  state_dict = {
    key: value
    for key, value in convert.to_pytorch(_random(shapes)).items()
    if not key.endswith("num_batches_tracked")
  }
  convert.from_pytorch(state_dict, shapes)


def test_a_plain_stem_and_bridge_are_read_into_the_u():
  shapes = _shapes(_unet())
  variables = _random(shapes)
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
  shapes = _shapes(_encoder())
  state_dict = convert.to_pytorch(_random(shapes))
  variables = convert.from_pytorch(state_dict, shapes)
  before = jax.tree.map(np.array, variables)
  for value in state_dict.values():
    value.fill(7)
  jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
  for name in ("torch", "safetensors"):
    monkeypatch.setitem(sys.modules, name, None)
  for name in ("weights.pt", "weights.safetensors"):
    with pytest.raises(ImportError, match=r"geojax\[torch\]"):
      convert.read_state_dict(tmp_path / name)
    with pytest.raises(ImportError, match=r"geojax\[torch\]"):
      convert.write_state_dict(tmp_path / name, {})


# From here on against PyTorch itself.


@pytest.fixture
def torch():
  import torch

  return torch


@pytest.fixture
def torch_models(torch):
  from experiments.benchmarks import torch_models

  torch.manual_seed(0)
  return torch_models


@pytest.mark.torch
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_files_come_back(torch, tmp_path, ending):
  variables = _random(_shapes(_model()))
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
PARAMETERS = {
  "atto": (3_852_676, 3_953_065),
  "femto": (5_536_644, 5_684_477),
  "pico": (9_817_636, 10_087_589),
  "nano": (17_401_476, 16_400_685),
  "tiny": (32_990_052, 26_114_741),
  "base": (106_522_404, 61_429_957),
  "large": (239_397_540, 138_010_277),
  "huge": (803_792_740, 463_234_997),
}


@pytest.mark.torch
@pytest.mark.parametrize("size", PARAMETERS)
def test_pytorch_models_have_the_published_sizes(torch, torch_models, size):
  kwargs = torch_models.depths_and_widths(size)
  with torch.device("meta"):
    models = torch_models.CoreEncoder(**kwargs), torch_models.CoreUnet(**kwargs)
  counts = [sum(x.numel() for x in model.parameters()) for model in models]
  assert tuple(counts) == PARAMETERS[size]


def _torch_pair(torch, torch_models, name, excitation, dtype="float32"):
  """A PyTorch model of random weights, ours, and ours on `[..., outputs]`."""
  if name == "encoder":
    theirs = torch_models.CoreEncoder(
      bands=BANDS, depths=DEPTHS, widths=WIDTHS, excitation=excitation
    )
    ours = _model(excitation=excitation, dtype=dtype)
  else:
    ours = _unet(excitation=excitation, dtype=dtype)
    theirs = torch_models.CoreUnet(
      bands=BANDS,
      num_outputs=2,
      depths=DEPTHS,
      widths=[2 * width for width in WIDTHS],
      excitation=excitation,
    )
  for module in theirs.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      torch.nn.init.uniform_(module.weight, 0.5, 1.5)
      torch.nn.init.normal_(module.bias)
      torch.nn.init.normal_(module.running_mean)
      torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
  return theirs, ours


def _ours_as_array(outputs):
  """Our outputs as the layer gives them, before the sigmoids."""
  if not isinstance(outputs, dict):
    return jnp.moveaxis(outputs, -1, 1)
  logit = lambda p: jnp.log(p) - jnp.log1p(-p)  # noqa: E731
  return jnp.concatenate(
    [outputs["climate"], logit(outputs["coords"]), logit(outputs["date"])], -1
  )


def _images(seed, side=16):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(3, BANDS, side, side)).astype("float32")


MODELS = pytest.mark.parametrize("name", ["encoder", "unet"])
EXCITATIONS = pytest.mark.parametrize("excitation", ["published", "gate"])


def _assert_equal_outputs(ours, theirs):
  # Something to compare: outputs differ from one another.
  assert np.std(theirs) > 0.05
  if theirs.dtype == np.float64:
    np.testing.assert_allclose(_ours_as_array(ours), theirs, atol=1e-6)
  else:
    # Outputs reach 7. The published block squares what it gates, so that in
    # training PyTorch's own float32 is up to 2e-4 away from its float64.
    atol = 1e-4 * max(1, np.max(np.abs(theirs)))
    np.testing.assert_allclose(_ours_as_array(ours), theirs, atol=atol)


@pytest.mark.torch
@MODELS
@EXCITATIONS
def test_outputs_equal_pytorch_s_in_evaluation(
  torch, torch_models, tmp_path, name, excitation
):
  theirs, ours = _torch_pair(torch, torch_models, name, excitation)
  path = tmp_path / "weights.pt"
  torch.save(theirs.state_dict(), path)
  variables = convert.from_pytorch(
    convert.read_state_dict(path), _shapes(ours, 16)
  )
  images = _images(0)
  with torch.no_grad():
    expected = theirs.eval()(torch.from_numpy(images)).numpy()
  outputs = ours.apply(variables, images.transpose(0, 2, 3, 1))
  _assert_equal_outputs(outputs, expected)


@pytest.mark.torch
@MODELS
@EXCITATIONS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_equals_pytorch_s_and_so_does_evaluation_after_it(
  torch, torch_models, name, excitation, dtype
):
  theirs, ours = _torch_pair(torch, torch_models, name, excitation, dtype)
  with jax.enable_x64(dtype == "float64"):
    variables = convert.from_pytorch(theirs.state_dict(), _shapes(ours, 16))
    theirs = theirs.to(getattr(torch, dtype))
    variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
    step = jax.jit(
      lambda variables, images: ours.apply(
        variables, images, train=True, mutable=["batch_stats"]
      )
    )
    for seed in range(3):
      images = _images(seed).astype(dtype)
      with torch.no_grad():
        expected = theirs.train()(torch.from_numpy(images)).numpy()
      outputs, update = step(variables, images.transpose(0, 2, 3, 1))
      variables = {**variables, **update}
      _assert_equal_outputs(outputs, expected)
    wanted = theirs.state_dict()
    for key, value in convert.to_pytorch(variables).items():
      if not key.endswith("num_batches_tracked"):
        np.testing.assert_allclose(
          value, wanted[key], rtol=1e-4, atol=1e-4, err_msg=key
        )
    with torch.no_grad():
      expected = theirs.eval()(torch.from_numpy(images)).numpy()
    outputs = ours.apply(variables, images.transpose(0, 2, 3, 1))
    _assert_equal_outputs(outputs, expected)


@pytest.mark.torch
@MODELS
def test_gradients_equal_pytorch_s(torch, torch_models, name):
  theirs, ours = _torch_pair(torch, torch_models, name, "gate")
  variables = convert.from_pytorch(theirs.state_dict(), _shapes(ours, 16))
  images = _images(0)
  expected = theirs.train()(torch.from_numpy(images))
  weights = np.random.default_rng(9).normal(size=expected.shape)
  weights = weights.astype("float32")
  torch.sum(expected * torch.from_numpy(weights)).backward()

  def loss(params):
    outputs, _ = ours.apply(
      {**variables, "params": params},
      images.transpose(0, 2, 3, 1),
      train=True,
      mutable=["batch_stats"],
    )
    return jnp.sum(_ours_as_array(outputs) * weights)

  gradients = jax.jit(jax.grad(loss))(variables["params"])
  gradients = convert.to_pytorch({"params": gradients})
  names = [key for key, _ in theirs.named_parameters()]
  assert sorted(gradients) == sorted(names)
  for key, parameter in theirs.named_parameters():
    wanted = parameter.grad.numpy()
    scale = max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(
      gradients[key], wanted, atol=1e-3 * scale, err_msg=key
    )


@pytest.mark.torch
@MODELS
def test_pytorch_loads_what_is_written(torch, torch_models, tmp_path, name):
  theirs, ours = _torch_pair(torch, torch_models, name, "published")
  variables = _random(_shapes(ours, 16))
  path = tmp_path / "weights.pt"
  convert.write_state_dict(path, convert.to_pytorch(variables))
  theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
  back = convert.from_pytorch(theirs.state_dict(), _shapes(ours, 16))
  jax.tree.map(np.testing.assert_array_equal, back, dict(variables))
