"""Whether an encoder was trained where it is tested.

Places are compared by the cells of an equal-area grid, 22 km wide: an exported
encoder carries those of its train patches.
"""

import numpy as np

from geojax import encodings, sphere
from geojax.training import dataset as dataset_lib
from geojax.training.errors import DatasetError

_NUM_CELLS = 2**20


def train_cells(dataset) -> np.ndarray | None:
  """Cells that hold train patches, rising, int32.

  Args:
    dataset: A `dataset.Dataset`.

  Returns:
    Indices into `sphere.equal_area_grid`; None where no place is known.
  """
  if "coords" not in dataset.label_names:
    return None
  labels = dataset.read_labels("train", names=("coords",))
  return np.unique(_cells(labels)).astype(np.int32)


def measure(found, dataset, splits) -> dict:
  """Measures how many test patches lie where an encoder was trained.

  Args:
    found: The encoder's `weights.Weights`.
    dataset: The `dataset.Dataset` of the test.
    splits: `problems.Split`s by name.

  Returns:
    `encoder_splits_sha256` and `data_splits_sha256`; `share`, of the test
    patches of known place in a cell with train patches of the encoder, or None
    where it is not known; and `why`, if so.
  """
  ours = dataset.builder.info.metadata.get("splits_sha256", "")
  theirs = "" if found.data is None else found.data.splits_sha256
  described = {"encoder_splits_sha256": theirs, "data_splits_sha256": ours}
  if ours and ours == theirs:
    return {**described, "share": 0.0}
  labels = splits["test"].labels
  test = _cells(labels) if "coords" in labels else ()
  if not len(test):
    return {**described, "share": None, "why": "the test places are not known"}
  cells, why = _cells_of(found)
  if cells is None:
    return {**described, "share": None, "why": why}
  return {**described, "share": float(np.isin(test, cells).mean())}


def describe(found: dict) -> str:
  """Describes the result of `measure` in a line."""
  if found["share"] is None:
    return (
      "overlap of the encoder's train split with the test split: not known,"
      f" {found['why']}"
    )
  if not found["share"]:
    return "the encoder was trained on none of the test places"
  return (
    f"warning: {found['share']:.1%} of the test patches lie within 22 km of"
    " patches that the encoder was trained on; figures are too good for them"
  )


def _cells_of(found):
  """Cells of an encoder's train patches, or None and the reason."""
  if found.data is None:
    return None, "of PyTorch's weights no place is known"
  if not found.data_dir:
    return found.train_cells, "the encoder was exported without its places"
  try:
    dataset = dataset_lib.open_dataset(found.data_dir, found.data.name)
  except DatasetError:
    return None, f"its data set, {found.data.name}, is not on disk"
  return train_cells(dataset), "its data set has no places"


def _cells(labels):
  known = encodings.known_rows(labels)["coords"]
  places = encodings.coordinates_to_unit(np.float64(labels["coords"][known]))
  return sphere.equal_area_index(places, _NUM_CELLS)
