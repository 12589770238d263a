"""Exported encoders: a folder with all that a trained model needs, and no more.

    model.safetensors   parameters and batch statistics, by their paths
    config.json         what they are: model, tasks, bands, scale, patch size
    README.md           a model card

Read without Orbax, Grain, TFDS or the data set.
"""

import dataclasses
import hashlib
import json
import os
import pathlib

import ml_collections
import numpy as np
from flax import traverse_util
from safetensors import numpy as safetensors

from geojax import files
from geojax.training import config as config_lib
from geojax.training import data_info
from geojax.training.errors import ConfigError

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_FORMAT = 1
# Parts of a run's config that its model and tasks depend on.
_PARTS = ("model", "loss", "mixture")
_TRAIN_CELLS = "train_cells"


@dataclasses.dataclass(frozen=True)
class Exported:
  """An encoder with its heads, out of a run.

  Attributes:
    config: The run's config, as far as its model and tasks depend on it.
    data: What its patches are, a `data_info.DataInfo`.
    variables: `{"params", "batch_stats"}` of the model, nested dicts of arrays.
    about: Other entries of `config.json`, in JSON's types.
    train_cells: Cells of `transfer.overlap` that hold train patches, or None.
  """

  config: ml_collections.ConfigDict
  data: data_info.DataInfo
  variables: dict
  about: dict = dataclasses.field(default_factory=dict)
  train_cells: np.ndarray | None = None


def is_exported(path: str | os.PathLike) -> bool:
  """Whether a folder holds an exported encoder."""
  return (files.path(path) / WEIGHTS_FILE).exists()


def write(exported: Exported, folder: pathlib.Path) -> None:
  """Writes `model.safetensors` and `config.json`, each whole or not at all.

  Args:
    exported: What to write.
    folder: Where; made if it is not there.
  """
  folder.mkdir(parents=True, exist_ok=True)
  arrays = {
    # Contiguous, as safetensors needs; `ascontiguousarray` adds an axis to a
    # scalar.
    "/".join(path): np.asarray(value, order="C")
    for path, value in traverse_util.flatten_dict(exported.variables).items()
  }
  if exported.train_cells is not None:
    arrays[_TRAIN_CELLS] = exported.train_cells
  with files.atomic(folder / WEIGHTS_FILE) as temporary:
    safetensors.save_file(arrays, temporary, {"format": "geojax"})
    # Made for its owner alone, and meant to be handed over.
    temporary.chmod(0o644)
    digest = _sha256(temporary)
  config, data = exported.config.to_dict(), data_info.to_dict(exported.data)
  described = {
    "format": _FORMAT,
    # Detects weights without the config that was written after them.
    "weights_sha256": digest,
    **{name: config[name] for name in ("tasks", "extensions", *_PARTS)},
    "bands": data.pop("bands"),
    "scale": data.pop("scale"),
    "patch_size": data.pop("image_shape")[0],
    "dtype": data.pop("dtype"),
    "data": data,
    **exported.about,
  }
  files.write_text(folder / CONFIG_FILE, json.dumps(described, indent=2) + "\n")


def read(folder: pathlib.Path) -> Exported:
  """Reads what `write` wrote.

  Args:
    folder: The folder.

  Returns:
    The encoder.

  Raises:
    ConfigError: A file is missing or damaged, or of another format.
  """
  paths = [folder / name for name in (CONFIG_FILE, WEIGHTS_FILE)]
  for path in paths:
    if not path.exists():
      raise ConfigError(
        f"{path} does not exist: {folder} is no folder that"
        " experiments/export.py wrote"
      )
  described = json.loads(paths[0].read_text())
  if (found := described.pop("format", None)) != _FORMAT:
    raise ConfigError(
      f"{paths[0]} is of format {found}, expected {_FORMAT}: another version of"
      " geojax wrote it, or another program"
    )
  with files.local(paths[1]) as weights:
    if _sha256(weights) != described.pop("weights_sha256"):
      raise ConfigError(
        f"{paths[1]} is not the file that {paths[0]} describes: it is damaged,"
        " or an export was interrupted; export it again"
      )
    arrays = safetensors.load_file(weights)
  parts = {
    name: described.pop(name) for name in ("tasks", "extensions", *_PARTS)
  }
  bands, size = described.pop("bands"), described.pop("patch_size")
  data = data_info.from_dict(
    {
      **described.pop("data"),
      "bands": bands,
      "scale": described.pop("scale"),
      "image_shape": (size, size, len(bands)),
      "dtype": described.pop("dtype"),
    }
  )
  train_cells = arrays.pop(_TRAIN_CELLS, None)
  return Exported(
    config=config_lib.from_dict(parts, paths[0]),
    data=data,
    variables={
      # An encoder without batch norm has none.
      "batch_stats": {},
      **traverse_util.unflatten_dict(
        {tuple(name.split("/")): value for name, value in arrays.items()}
      ),
    },
    about=described,
    train_cells=train_cells,
  )


def _sha256(path):
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
