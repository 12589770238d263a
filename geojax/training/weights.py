"""Weights that a run starts from: a run's, an exported encoder's, PyTorch's.

`config.init` names them. What is known of them, their bands, scale and size of
a patch, must be that of the data.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from geojax import files, models
from geojax.models import convert
from geojax.training import (
  band_matching,
  data_info,
  exported,
  restore,
  sharding,
)
from geojax.training import workdir as workdir_lib
from geojax.training.errors import ConfigError

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
# Keys of `config.model` without which weights would compute something else.
_MODEL_KEYS = (
  *("name", "size", "depths", "widths", "patch_size", "norm", "excitation"),
)


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights of a model, and what is known of them.

  Attributes:
    path: Where they are from, as given.
    variables: `{"params", "batch_stats"}` of the model: those of `encoder` and
      of each head.
    config: The config that they were trained by; None of PyTorch's.
    data: What they were trained on; None of PyTorch's.
    about: What they are, in words.
    step: The step of a run's checkpoint, or None.
    data_dir: Folder of the data set that a run was trained on; "" of others.
    train_cells: Of an exported encoder, see `exported.Exported`.
  """

  path: str
  variables: dict
  config: ml_collections.ConfigDict | None = None
  data: data_info.DataInfo | None = None
  about: str = ""
  step: int | None = None
  data_dir: str = ""
  train_cells: np.ndarray | None = None


def load(
  path: str, model=None, num_bands: int = 0, *, last: bool = False
) -> Weights:
  """Loads weights.

  Args:
    path: A run's workdir, an exported folder, or a file of PyTorch's.
    model: For PyTorch's, the `model` part of the config that fits them.
    num_bands: For PyTorch's, the number of bands.
    last: Of a workdir, whether to load the newest checkpoint instead of the
      best.

  Returns:
    The weights, on the host.

  Raises:
    ConfigError: There are none, or they do not fit the model.
  """
  folder = files.path(path)
  if folder.suffix in _TORCH_SUFFIXES and folder.exists():
    with files.local(folder) as local:
      return _load_torch(local, model, num_bands)
  if exported.is_exported(folder):
    found = exported.read(folder)
    return Weights(
      path,
      found.variables,
      found.config,
      found.data,
      about="exported encoder",
      train_cells=found.train_cells,
    )
  if not (folder / workdir_lib.CONFIG_FILE).exists():
    raise ConfigError(
      f"the encoder {path!r} is no workdir of a run, no folder of"
      " experiments/export.py and no file of PyTorch's"
      f" ({', '.join(_TORCH_SUFFIXES)}); `make train` leaves one in runs/base"
    )
  found = restore.restore_run(folder, last=last)
  mesh = sharding.create_mesh(found.config.model_devices)
  evaluated = sharding.on_host(found.state.evaluated, mesh)
  variables = {
    "params": evaluated["params"]["model"],
    "batch_stats": evaluated["batch_stats"],
  }
  return Weights(
    path,
    variables,
    found.config,
    found.data,
    about=f"step {found.step:,}",
    step=found.step,
    data_dir=found.config.data.dir,
  )


def make_start(config, task_list, data) -> Callable[[dict], dict] | None:
  """Makes the function that replaces initial weights by `config.init`'s.

  Args:
    config: The config of a run.
    task_list: Its tasks.
    data: The `data_info.DataInfo` of its data set.

  Returns:
    A function from initial to starting variables of the model, for
    `state.create_state`; None where `config.init.encoder` is "".

  Raises:
    ConfigError: The weights do not fit the config or the data; names both.
  """
  if not config.init.encoder:
    return None
  found = load(config.init.encoder, config.model, len(data.bands))
  return start_from(found, config, task_list, data)


def start_from(
  found: Weights, config, task_list, data, *, keys: str = "config.init."
):
  """As `make_start`, of weights that are loaded already.

  Args:
    found: The weights.
    config: The config of a run.
    task_list: Its tasks.
    data: The `data_info.DataInfo` of its data set.
    keys: What the keys of `config.init` are called where the user sets them.

  Returns:
    A function from initial to starting variables of the model.

  Raises:
    ConfigError: See `make_start`.
  """
  _check(found, config, data, keys)

  def start(variables):
    params = dict(variables["params"])
    # An encoder without batch norm has none.
    stats = dict(variables.get("batch_stats", {}))
    encoder = found.variables["params"]["encoder"]
    notes = []
    if config.init.bands == "match" and found.data is not None:
      encoder, notes = band_matching.match_bands(
        encoder, params["encoder"], config.model, found.data.bands, data
      )
    params["encoder"] = _fitted(encoder, params["encoder"], found.path)
    if "encoder" in stats:
      stats["encoder"] = _fitted(
        found.variables["batch_stats"]["encoder"], stats["encoder"], found.path
      )
    taken = [
      task.name
      for task in task_list
      if _fits(found.variables["params"].get(task.name), params[task.name])
    ]
    for name in taken:
      params[name] = jax.tree.map(jnp.asarray, found.variables["params"][name])
    anew = [task.name for task in task_list if task.name not in taken]
    heads = [f"heads taken: {', '.join(taken)}"] * bool(taken)
    heads += [f"heads drawn: {', '.join(anew)}"] * bool(anew)
    restore.report(
      "; ".join([f"encoder of {found.path} ({found.about})", *heads, *notes])
    )
    return {**variables, "params": params, "batch_stats": stats}

  return start


def _check(found, config, data, keys):
  """Raises the ConfigError of weights that do not fit a config or its data."""
  if found.config is None:
    return
  differing = [
    key
    for key in _MODEL_KEYS
    if _plain(found.config.model[key]) != _plain(config.model[key])
  ]
  if differing:
    flags = " ".join(
      f"--config.model.{key}={_plain(found.config.model[key])!r}"
      for key in differing
    )
    raise ConfigError(
      f"the encoder of {found.path} is another model than config.model: "
      + "; ".join(
        f"{key} {_plain(found.config.model[key])!r} there,"
        f" {_plain(config.model[key])!r} here"
        for key in differing
      )
      + f". Set {flags}"
    )
  _check_data(found, config.init, data, keys)


def _check_data(found, options, ours, keys):
  """Raises the ConfigError of an encoder that was trained on other patches."""
  theirs, path = found.data, found.path
  is_other_size = theirs.image_shape[:2] != ours.image_shape[:2]
  if is_other_size and not options.any_patch_size:
    raise ConfigError(
      f"the encoder of {path} was trained on patches of {_size(theirs)} pixels,"
      f" those of {ours.name} have {_size(ours)}: set"
      f" {keys}any_patch_size = True if a pixel covers as much ground"
    )
  if theirs.bands != ours.bands and options.bands != "match":
    raise ConfigError(
      f"the encoder of {path} was trained on the bands"
      f" {' '.join(theirs.bands)}, {ours.name} has {' '.join(ours.bands)}: set"
      f' {keys}bands = "match" to map them by name, or build the data with'
      f" --bands={','.join(theirs.bands)}"
    )
  shared = [band for band in ours.bands if band in theirs.bands]
  if not shared:
    raise ConfigError(
      f"the encoder of {path} knows none of the bands of {ours.name}: it was"
      f" trained on {' '.join(theirs.bands)}, the data have"
      f" {' '.join(ours.bands)}"
    )
  for band in shared:
    scales = [data.scale[data.bands.index(band)] for data in (theirs, ours)]
    if not np.allclose(*scales, rtol=1e-5):
      raise ConfigError(
        f"band {band} was scaled by (offset, divisor) {tuple(scales[0])} for"
        f" the encoder of {path}, and is by {tuple(scales[1])} in {ours.name}:"
        f" build the data with --scale={','.join(map(str, scales[0]))}"
      )


def _load_torch(path, model, num_bands):
  encoder = models.create_encoder(model)
  size = 16 * model.patch_size * 2 ** max(len(model.depths), 1)
  shapes = jax.eval_shape(
    encoder.init,
    jax.random.key(0),
    jnp.zeros((1, size, size, num_bands)),
  )
  try:
    state_dict = convert.read_state_dict(path)
    # Of the heads, the published layer is not that of this run's tasks.
    left_out = ("head.1.",) if model.name == "core_unet" else ("head.",)
    variables = convert.from_pytorch(
      {
        key: value
        for key, value in state_dict.items()
        if not key.startswith(left_out)
      },
      models.unbox(shapes),
    )
  except (ImportError, OSError, ValueError) as error:
    raise ConfigError(f"the encoder {path}: {error}") from error
  return Weights(
    path,
    {
      "params": {"encoder": variables["params"]},
      "batch_stats": {"encoder": variables.get("batch_stats", {})},
    },
    about="PyTorch's weights, whose bands and scale are not known",
  )


def _fitted(theirs, ours, path):
  """Their arrays in our types.

  Raises:
    ConfigError: Names or shapes differ.
  """
  if not _fits(theirs, ours):
    differing = _shapes(theirs).items() ^ _shapes(ours).items()
    raise ConfigError(
      f"the encoder of {path} does not fit config.model; these arrays differ: "
      + "; ".join(f"{name} {shape}" for name, shape in sorted(differing)[:6])
    )
  return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), theirs, ours)


def _fits(theirs, ours):
  return theirs is not None and _shapes(theirs) == _shapes(ours)


def _shapes(tree):
  return {
    jax.tree_util.keystr(path): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _plain(value):
  return tuple(value) if isinstance(value, list | tuple) else value


def _size(data):
  return f"{data.image_shape[0]} x {data.image_shape[1]}"
