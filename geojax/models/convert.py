"""Weights of the Core family from PyTorch and to PyTorch.

    state_dict = convert.read_state_dict("core_nano.pt")
    variables = model.init(key, images)
    variables = convert.from_pytorch(state_dict, variables)

    convert.write_state_dict("mine.safetensors", convert.to_pytorch(variables))

PyTorch's names are the published ones. Published weights need
`excitation="published"`: their block multiplies by its input twice.

Every array is a transposition of the other side's:

- A published encoder ends in one linear layer of 36 outputs, climate (31),
  coords (3), date (2); it becomes the heads of a `MultiTaskModel` with these
  names, whose `coords` and `date` are a sigmoid of the layer's outputs. A
  mixture's centers and concentrations have no counterpart: they stay as they
  are.
- The running mean and variance of batch norm are the same on both sides, as are
  their updates in training, see `norms.BatchNorm`. Momentum is not among the
  weights: PyTorch's 0.1 is 0.9 here.
- `num_batches_tracked` has no effect under a fixed momentum: it is ignored when
  read and written as 0.
"""

import collections
import importlib
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import numpy as safetensors


class _Layout(NamedTuple):
  """PyTorch's layout of an array: a permutation, then new axes of length 1."""

  axes: tuple[int, ...]
  added: tuple[int, ...] = ()

  def to_torch(self, x):
    return np.expand_dims(np.transpose(x, self.axes), self.added)

  def from_torch(self, x):
    return np.transpose(np.squeeze(x, self.added), np.argsort(self.axes))


_VECTOR = _Layout((0,))
# [in, out] to [out, in].
_LINEAR = _Layout((1, 0))
# [in, out] to [out, in, 1, 1].
_POINTWISE = _Layout((1, 0), added=(2, 3))
# [3, 3, channels] to [channels, 1, 3, 3].
_DEPTHWISE = _Layout((2, 0, 1), added=(1,))
# [3, 3, in, out] to [out, in, 3, 3].
_CONV = _Layout((3, 2, 0, 1))

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
_NOT_CONVERTED = "mu", "log_kappa"


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads a file of PyTorch's weights.

  Args:
    path: A `.safetensors` file; any other ending is read by `torch.load`, with
      `weights_only=True`, so that no code of the file's runs. That needs the
      extra `[torch]`.

  Returns:
    Arrays by PyTorch's names, half precision as float32.

  Raises:
    ImportError: The extra is not installed.
    ValueError: The file holds something other than named arrays.
  """
  if _is_safetensors(path):
    state_dict = safetensors.load_file(path)
  else:
    torch = _import_torch()
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
  if not isinstance(state_dict, Mapping):
    raise ValueError(f"{path} holds a {type(state_dict).__name__}, no weights")
  others = [
    str(key) for key, value in state_dict.items() if not hasattr(value, "shape")
  ]
  if others:
    raise ValueError(
      f"{path} holds more than named arrays: {', '.join(others)}; pass its"
      " state dict to `from_pytorch`"
    )
  return {key: _to_numpy(value) for key, value in state_dict.items()}


def write_state_dict(
  path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]
) -> None:
  """Writes a file that PyTorch loads.

  Args:
    path: A `.safetensors` file, or with any other ending one for `torch.load`,
      which needs the extra `[torch]`.
    state_dict: Arrays by PyTorch's names, as `to_pytorch` returns them.

  Raises:
    ImportError: The extra is not installed.
  """
  # Both formats store memory as it lies, so transposed views become copies.
  arrays = {
    key: np.array(value, order="C", copy=True)
    for key, value in state_dict.items()
  }
  if _is_safetensors(path):
    safetensors.save_file(arrays, path)
  else:
    torch = _import_torch()
    torch.save(
      {key: torch.from_numpy(value) for key, value in arrays.items()}, path
    )


def from_pytorch(state_dict: Mapping, variables: Mapping) -> dict:
  """Replaces a model's weights by PyTorch's.

  Args:
    state_dict: Arrays or tensors by PyTorch's names, of a Core encoder with its
      linear head or of a Core U.
    variables: The variables of a `MultiTaskModel` around a `CoreEncoder`, of a
      `CoreEncoder` alone (then take `head.2.weight` and `head.2.bias` out
      first), or of a `CoreUnet`; only their shapes and types matter, so
      `jax.eval_shape` may have made them.

  Returns:
    Variables of the same tree, shapes and dtypes, filled; collections other
    than `params` and `batch_stats` as they were.

  Raises:
    ValueError: Names are missing, surplus or of another shape: all are listed.
  """
  leaves = _leaves(variables)
  slots = _slots(leaves)
  # The U's stem and bridge are published in lists of one, `stem.0`; modules
  # without the list are read too.
  state_dict = {
    key if key in slots else re.sub(r"^(stem|bridge)\.", r"\1.0.", key): value
    for key, value in state_dict.items()
    if not key.endswith(".num_batches_tracked")
  }
  _check(state_dict, slots, leaves)
  filled = dict(leaves)
  for key, parts in slots.items():
    lengths = [_shape(leaves[path], layout)[0] for path, layout in parts]
    pieces = np.split(_to_numpy(state_dict[key]), np.cumsum(lengths)[:-1])
    for (path, layout), piece in zip(parts, pieces, strict=True):
      # A copy: PyTorch goes on to change its own memory in place.
      filled[path] = jnp.array(
        layout.from_torch(piece), leaves[path].dtype, copy=True
      )
  return {**variables, **traverse_util.unflatten_dict(filled)}


def to_pytorch(variables: Mapping) -> dict[str, np.ndarray]:
  """Turns a model's weights into PyTorch's.

  Args:
    variables: As for `from_pytorch`, with values.

  Returns:
    Arrays by PyTorch's names. A `MultiTaskModel`'s heads are the one layer
    `head.2`: climate, then coords, then date.

  Raises:
    ValueError: Some of the variables have no name in PyTorch: all are listed.
  """
  leaves = _leaves(variables)
  slots = _slots(leaves)
  arrays = {
    key: np.concatenate(
      [layout.to_torch(np.asarray(leaves[path])) for path, layout in parts]
    )
    for key, parts in slots.items()
  }
  counters = {
    key.removesuffix("running_var") + "num_batches_tracked"
    for key in slots
    if key.endswith(".running_var")
  }
  return arrays | dict.fromkeys(counters, np.zeros((), np.int64))


def _leaves(variables):
  """Leaves by path, the collection's name first."""
  names = [name for name in ("params", "batch_stats") if name in variables]
  return traverse_util.flatten_dict({name: variables[name] for name in names})


def _slots(leaves):
  """By PyTorch's name, the paths of a tensor's parts with their layouts."""
  unet = any("bridge" in path for path in leaves)
  slots, unnamed = collections.defaultdict(list), []
  for path in leaves:
    if path[1] in _HEADS and path[-1] in _NOT_CONVERTED:
      continue
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
  return dict(slots)


def _name(path, unet):
  """PyTorch's name of a leaf and the layout there; None if it has none."""
  _, *modules, leaf = path
  if not unet and modules and modules[0] in _HEADS:
    if leaf == "kernel":
      return "head.2.weight", _LINEAR
    return ("head.2.bias", _VECTOR) if leaf == "bias" else None
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
      return f"{name}.{_LEAVES[leaf]}", _VECTOR
  return None


def _check(state_dict, slots, leaves):
  """Raises one error that lists every key that does not fit."""
  wrong = []
  for key, parts in slots.items():
    shapes = [_shape(leaves[path], layout) for path, layout in parts]
    expected = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    if key not in state_dict:
      wrong.append(f"{key}: expected {expected}, is missing")
    elif tuple(state_dict[key].shape) != expected:
      found = tuple(state_dict[key].shape)
      wrong.append(f"{key}: expected {expected}, found {found}")
  for key in sorted(state_dict.keys() - slots.keys()):
    found = tuple(state_dict[key].shape)
    wrong.append(f"{key}: not expected, found {found}")
  if wrong:
    raise ValueError(
      "the weights do not fit the model:\n  " + "\n  ".join(wrong)
    )


def _shape(leaf, layout):
  """The shape of a leaf on PyTorch's side."""
  # An array of the leaf's shape that takes no memory.
  return layout.to_torch(np.broadcast_to(np.float32(0), leaf.shape)).shape


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


def _import_torch():
  try:
    return importlib.import_module("torch")
  except ImportError as error:
    raise ImportError(
      "PyTorch's own files of weights need torch: pip install 'geojax[torch]'"
    ) from error
