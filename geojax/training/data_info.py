"""What the records of a run hold, kept beside its config.

A trained model is of use only with patches made as those it was trained on. So
the workdir says how: a run predicts where its data set is long gone.
"""

import dataclasses
import json
import pathlib

import numpy as np

from geojax import files, tasks
from geojax.training.errors import ConfigError, DatasetError

FILE = "data.json"
# Blocks of a data set that was not split by blocks: 110 km, the width of a
# Sentinel-2 tile.
_BLOCK_DEG = 1.0


@dataclasses.dataclass(frozen=True)
class DataInfo:
  """What the images of a data set are.

  Attributes:
    name: `<builder>/<config>`, such as "geo_tiles/earth".
    image_shape: `(patch, patch, bands)`.
    dtype: Name of the images' NumPy dtype.
    bands: A name for each band.
    scale: `(offset, divisor)` of each band, as of `dataset.Dataset`.
    settings: All that shaped the records, as the builder keeps it.
    targets: Targets of its own, by name.
    splits_sha256: Hash of the file that lists which patch is in which split,
      "" of data sets that are older than it.
  """

  name: str
  image_shape: tuple[int, int, int]
  dtype: str
  bands: tuple[str, ...]
  scale: tuple[tuple[float, float], ...]
  settings: dict
  targets: dict[str, tasks.Target] = dataclasses.field(default_factory=dict)
  splits_sha256: str = ""

  @property
  def offset(self):
    """Raw value of each band that is scaled to 0, float32, shape `[bands]`."""
    return np.array(self.scale, np.float32)[:, 0]

  @property
  def divisor(self):
    """Raw difference that is scaled to 1, float32, shape `[bands]`."""
    return np.array(self.scale, np.float32)[:, 1]

  @property
  def block_deg(self) -> float:
    """Side in degrees of the blocks that splits are made of."""
    rule = self.settings.get("patches", {}).get("split", {})
    return float(rule.get("block_deg", _BLOCK_DEG))


def describe(name, dataset) -> DataInfo:
  """Describes a data set.

  Args:
    name: Its name, as of the config.
    dataset: A `dataset.Dataset`.

  Returns:
    Its `DataInfo`.
  """
  metadata = dataset.builder.info.metadata
  return DataInfo(
    name=name,
    image_shape=dataset.image_shape,
    dtype=np.dtype(dataset.builder.info.features["image"].np_dtype).name,
    bands=dataset.bands,
    scale=tuple(map(tuple, metadata["scale"])),
    settings=dict(metadata.get("settings", {})),
    targets=dataset.targets,
    splits_sha256=metadata.get("splits_sha256", ""),
  )


def to_dict(info: DataInfo) -> dict:
  """Returns a `DataInfo` in JSON's types."""
  found = dataclasses.asdict(info)
  # What a target lacks is left out, as before there was such an attribute.
  found["targets"] = [
    {key: value for key, value in target.items() if value is not None}
    for target in found["targets"].values()
  ]
  return json.loads(json.dumps(found))


def from_dict(found: dict) -> DataInfo:
  """Returns the `DataInfo` of the result of `to_dict`."""
  return DataInfo(
    **{
      **found,
      "image_shape": tuple(found["image_shape"]),
      "bands": tuple(found["bands"]),
      "scale": tuple(map(tuple, found["scale"])),
      "targets": tasks.describe(found),
    }
  )


def save(info: DataInfo, workdir: pathlib.Path) -> None:
  """Writes a run's `data.json`, whole or not at all.

  Args:
    info: What its records hold.
    workdir: Folder of the run.

  Raises:
    DatasetError: The run was begun on records of another kind, of the same
      name; names the keys that differ.
  """
  path = workdir / FILE
  ours = to_dict(info)
  if path.exists():
    theirs = json.loads(path.read_text())
    # A run of an earlier version lacks the newest keys.
    differing = [key for key in theirs if ours.get(key) != theirs[key]]
    if differing:
      raise DatasetError(
        f"{workdir} holds a run on {info.name} as it was before it was built"
        f" anew: {', '.join(differing)} differ from those of {path}. Take"
        " another --workdir, or build the data set as it was"
      )
    return
  files.write_text(path, json.dumps(ours, indent=2) + "\n")


def load(workdir: pathlib.Path) -> DataInfo:
  """Reads a run's `data.json`.

  Args:
    workdir: Folder of the run.

  Returns:
    What its records hold.

  Raises:
    ConfigError: There is no such file; says what makes one.
  """
  path = workdir / FILE
  if not path.exists():
    raise ConfigError(
      f"{path} is missing, which tells bands and scale of the run's patches."
      " The command that trained the run writes it: give it once more; a run"
      " that is done takes no further step"
    )
  return from_dict(json.loads(path.read_text()))
