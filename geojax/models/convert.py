"""Weights of the Core family from PyTorch and to PyTorch.

    state_dict = convert.read_state_dict("core_nano.pt")
    variables = model.init(key, images)
    variables = convert.from_pytorch(state_dict, variables)

    convert.write_state_dict("mine.safetensors", convert.to_pytorch(variables))

Names on PyTorch's side are the published ones. Published weights want
`excitation="published"`: their block multiplies by its input twice.

What is converted are values, each a plain transposition of the other side's:

- A published encoder ends in one linear layer of 36 outputs, climate (31),
  coords (3), date (2); it becomes the three heads of `GeographicModel`, whose
  `coords` and `date` are a sigmoid of what the layer gives.
- Batch norm's running mean and variance are taken over as they are, so both
  sides give the same in evaluation. In training both normalise by the batch's
  biased variance. PyTorch's running variance follows the unbiased one,
  n / (n - 1) times as large for n pixels in the batch; a module that continues
  PyTorch's training number by number has to do so too. Momentum is no part of
  the weights: PyTorch's 0.1 is Flax's 0.9.
- `num_batches_tracked` counts for nothing under a fixed momentum: it is ignored
  when read and written as 0.
"""

import collections
import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util


class _Layout(NamedTuple):
  """How an array is turned into PyTorch's form, and back."""

  to_torch: Callable
  from_torch: Callable


_SAME = _Layout(lambda x: x, lambda x: x)
# [in, out] to [out, in].
_LINEAR = _Layout(lambda x: x.T, lambda x: x.T)
# [in, out] to [out, in, 1, 1].
_POINTWISE = _Layout(lambda x: x.T[:, :, None, None], lambda x: x[:, :, 0, 0].T)
# [3, 3, channels] to [channels, 1, 3, 3].
_DEPTHWISE = _Layout(
  lambda x: x.transpose(2, 0, 1)[:, None],
  lambda x: x[:, 0].transpose(1, 2, 0),
)
# [3, 3, in, out] to [out, in, 3, 3].
_CONV = _Layout(
  lambda x: x.transpose(3, 2, 0, 1), lambda x: x.transpose(2, 3, 1, 0)
)

# Layers inside a block, a gate, and at the end: their name and the layout of
# their kernel. Names without a kernel are norms.
_BLOCK = {
  "conv1": ("conv1", _POINTWISE),
  "conv2": ("conv2", _DEPTHWISE),
  "conv3": ("conv3", _CONV),
  "norm1": ("norm1", None),
  "norm2": ("norm2", None),
  "norm3": ("norm3", None),
  "squeeze/Dense_0": ("squeeze.excitation.0", _LINEAR),
  "squeeze/Dense_1": ("squeeze.excitation.2", _LINEAR),
  "match": ("match_channels.0", _POINTWISE),
  "match_norm": ("match_channels.1", None),
}
_GATE = {
  "spatial": ("attention.compress", _POINTWISE),
  "channel1": ("attention.attn_c_reduction", _LINEAR),
  "channel2": ("attention.attn_c_extention", _LINEAR),
}
_LEAVES = {
  "bias": "bias",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
}
# Modules, and where in PyTorch's they are.
_ENCODER = (
  (r"stem", "stem", _BLOCK),
  (r"stage(\d+)_block(\d+)", r"encoder_blocks.\1.blocks.\2", _BLOCK),
)
_UNET = (
  (r"stem", "stem.0", _BLOCK),
  (r"stage(\d+)_block(\d+)", r"encoder_blocks.\1.blocks.\2", _BLOCK),
  (r"bridge", "bridge.0", _BLOCK),
  (r"up(\d+)_gate", r"decoder_blocks.\1", _GATE),
  (r"up(\d+)_match", r"decoder_blocks.\1.match_channels", _BLOCK),
  (r"up(\d+)_block(\d+)", r"decoder_blocks.\1.blocks.\2", _BLOCK),
  (r"head_block", "head.0", _BLOCK),
  (r"head", "head", {"": ("1", _POINTWISE)}),
)
# The heads in the order of the published layer's outputs.
_HEADS = "climate", "coords", "date"


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads a file of PyTorch's weights; needs the extra `[torch]`.

  Args:
    path: A `.safetensors` file; any other ending is read by `torch.load`, which
      is told to load weights alone and run no code of the file's.

  Returns:
    Arrays by PyTorch's names, half precision as float32.

  Raises:
    ImportError: The extra is not installed.
    ValueError: The file holds something other than named arrays.
  """
  if _is_safetensors(path):
    state_dict = _safetensors().load_file(path)
  else:
    state_dict = _torch().load(path, map_location="cpu", weights_only=True)
  if not isinstance(state_dict, Mapping):
    raise ValueError(f"{path} holds a {type(state_dict).__name__}, no weights")
  others = [
    key for key, value in state_dict.items() if not hasattr(value, "shape")
  ]
  if others:
    raise ValueError(
      f"{path} holds more than named arrays: {', '.join(map(str, others))};"
      " convert takes a state dict itself, out of whatever it lies in"
    )
  return {key: _to_numpy(value) for key, value in state_dict.items()}


def write_state_dict(
  path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]
) -> None:
  """Writes a file that PyTorch loads; needs the extra `[torch]`.

  Args:
    path: A `.safetensors` file, or with any other ending one for `torch.load`.
    state_dict: Arrays by PyTorch's names, as `to_pytorch` gives them.

  Raises:
    ImportError: The extra is not installed.
  """
  # Both formats store memory as it lies, so transposed views become copies.
  arrays = {
    key: np.array(value, order="C", copy=True)
    for key, value in state_dict.items()
  }
  if _is_safetensors(path):
    _safetensors().save_file(arrays, path)
  else:
    torch = _torch()
    torch.save(
      {key: torch.from_numpy(value) for key, value in arrays.items()}, path
    )


def from_pytorch(state_dict: Mapping, variables: Mapping) -> dict:
  """Puts PyTorch's weights in the place of a model's.

  Args:
    state_dict: Arrays or tensors by PyTorch's names, of a Core encoder with its
      linear head or of a Core U.
    variables: The variables of a `GeographicModel` around a `CoreEncoder`, of a
      `CoreEncoder` alone (then take `head.2.weight` and `head.2.bias` out
      first), or of a `CoreUnet`; values or shapes alone, as `jax.eval_shape`
      gives them.

  Returns:
    Variables of the same tree, shapes and dtypes, filled; collections other
    than `params` and `batch_stats` as they were.

  Raises:
    ValueError: Names are missing, surplus or of another shape: all are listed.
  """
  leaves = _leaves(variables)
  slots = _slots(leaves)
  state_dict = _as_published(state_dict, slots)
  _check(state_dict, slots, leaves)
  filled = {}
  for key, parts in slots.items():
    if not parts:
      continue
    value, start = _to_numpy(state_dict[key]), 0
    for path, layout in parts:
      leaf = leaves[path]
      stop = start + layout.to_torch(_stand_in(leaf)).shape[0]
      piece = layout.from_torch(value[start:stop])
      # A copy: PyTorch goes on to change its own memory in place.
      filled[path] = jnp.array(piece, leaf.dtype, copy=True)
      start = stop
  return {**variables, **traverse_util.unflatten_dict(filled)}


def to_pytorch(variables: Mapping) -> dict[str, np.ndarray]:
  """Turns a model's weights into PyTorch's.

  Args:
    variables: As for `from_pytorch`, with values.

  Returns:
    Arrays by PyTorch's names. A `GeographicModel`'s heads are the one layer
    `head.2`: climate, then coords, then date.

  Raises:
    ValueError: Some of the variables have no name in PyTorch: all are listed.
  """
  leaves = _leaves(variables)
  return {
    key: np.concatenate(
      [layout.to_torch(np.asarray(leaves[path])) for path, layout in parts]
    )
    if parts
    else np.zeros((), np.int64)
    for key, parts in _slots(leaves).items()
  }


def _leaves(variables):
  """Leaves by path, the collection's name first."""
  held = {
    name: variables[name]
    for name in ("params", "batch_stats")
    if name in variables
  }
  return traverse_util.flatten_dict(held)


def _slots(leaves):
  """What each of PyTorch's names is made of: paths with their layouts.

  Nothing, for the counters that have no counterpart here.
  """
  unet = any("bridge" in path for path in leaves)
  slots, unnamed = collections.defaultdict(list), []
  for path in leaves:
    named = _name(path, unet)
    if named is None:
      unnamed.append("/".join(path))
    else:
      slots[named[0]].append((path, named[1]))
  if unnamed:
    raise ValueError(
      "convert knows CoreEncoder and CoreUnet with their heads; it has no"
      f" PyTorch name for {', '.join(unnamed)}"
    )
  for parts in slots.values():
    if len(parts) > 1:
      parts.sort(key=lambda part: _HEADS.index(part[0][1]))
  for key in [key for key in slots if key.endswith(".running_var")]:
    slots[key.removesuffix("running_var") + "num_batches_tracked"] = []
  return dict(slots)


def _name(path, unet):
  """PyTorch's name of a leaf and the layout there; None if it has none."""
  _, *modules, leaf = path
  if not unet and len(modules) == 1 and modules[0] in _HEADS:
    if leaf == "kernel":
      return "head.2.weight", _LINEAR
    return ("head.2.bias", _SAME) if leaf == "bias" else None
  if modules and modules[0] == "encoder":
    modules = modules[1:]
  if not modules:
    return None
  for pattern, prefix, layers in _UNET if unet else _ENCODER:
    match = re.fullmatch(pattern, modules[0])
    layer = layers.get("/".join(modules[1:])) if match else None
    if layer is None:
      continue
    name, layout = layer
    name = f"{match.expand(prefix)}.{name}"
    if leaf == "kernel" and layout is not None:
      return f"{name}.weight", layout
    if leaf in _LEAVES:
      return f"{name}.{_LEAVES[leaf]}", _SAME
  return None


def _as_published(state_dict, slots):
  """The U's stem and bridge under their published names, `stem.0` and so on.

  There they lie in a list of one; a plain module is taken as well.
  """
  renamed = {}
  for key, value in state_dict.items():
    listed = re.sub(r"^(stem|bridge)\.", r"\1.0.", key)
    use = listed in slots and key not in slots and listed not in state_dict
    renamed[listed if use else key] = value
  return renamed


def _check(state_dict, slots, leaves):
  """Raises one error of all that does not fit."""
  wrong = []
  for key, parts in slots.items():
    if not parts:
      continue
    shapes = [
      layout.to_torch(_stand_in(leaves[path])).shape for path, layout in parts
    ]
    expected = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    if key not in state_dict:
      wrong.append(f"{key}: expected {expected}, is missing")
    elif tuple(state_dict[key].shape) != expected:
      found = tuple(state_dict[key].shape)
      wrong.append(f"{key}: expected {expected}, found {found}")
  for key, value in state_dict.items():
    if key not in slots:
      wrong.append(f"{key}: not expected, found {tuple(value.shape)}")
  if wrong:
    raise ValueError(
      "the weights do not fit the model:\n  " + "\n  ".join(wrong)
    )


def _stand_in(leaf):
  """An array of a leaf's shape that takes no memory."""
  return np.broadcast_to(np.float32(0), leaf.shape)


def _to_numpy(value):
  """A NumPy array of a tensor or an array, half precision as float32."""
  if hasattr(value, "detach"):
    value = value.detach().cpu()
    half = value.is_floating_point() and value.element_size() < 4
    value = (value.float() if half else value).numpy()
  value = np.asarray(value)
  return np.float32(value) if value.dtype == np.float16 else value


def _is_safetensors(path):
  return os.fspath(path).endswith(".safetensors")


def _torch():
  try:
    import torch
  except ImportError as error:
    raise ImportError(
      "files of torch.save need PyTorch: pip install 'geojax[torch]'"
    ) from error
  return torch


def _safetensors():
  try:
    import safetensors.numpy
  except ImportError as error:
    raise ImportError(
      "safetensors files need that package: pip install 'geojax[torch]'"
    ) from error
  return safetensors.numpy
