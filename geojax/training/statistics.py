"""Labels and band statistics of a split, from a sample kept with the data set.

Baselines need them after every run. The sample is bounded, and read again only
after the data set was rebuilt, so the end of a run does not grow with its data.
"""

import hashlib
import json
import sys
import zipfile

import numpy as np

from geojax import files
from geojax.training import dataset as dataset_lib
from geojax.training import pipeline

# Patches of Sentinel-2 of which a batch takes 80 MiB.
_BATCH_SIZE = 256


def sample(dataset, split: str, at_most: int = 100_000):
  """Reads labels and band statistics of records spread evenly over a split.

  Kept as `sample_<split>.npz` in the folder of the data set, for the next call
  with the same files. Where the folder cannot be written, a line on stderr
  says so.

  Args:
    dataset: A `dataset.Dataset`.
    split: Name of a split.
    at_most: The largest number of records to read.

  Returns:
    Arrays by name, in the order of the split: the labels of
    `Dataset.read_labels`, and `bands`, see `band_statistics`, float32,
    `[n, 2 * bands]`.

  Raises:
    DatasetError: The split has no records, or a shard is damaged.
    FileNotFoundError: A shard is missing.
  """
  positions = dataset.positions(split, at_most)
  path = files.path(dataset.builder.data_path) / f"sample_{split}.npz"
  origin = _origin(dataset, split, positions)
  if kept := _read(path, origin):
    return kept
  batches = pipeline.eval_batches(
    dataset.source(split), batch_size=_BATCH_SIZE, records=positions
  )
  found = dataset_lib.concatenate(map(_summarize, batches))
  try:
    with files.atomic(path) as temporary, temporary.open("wb") as file:
      np.savez(file, origin=origin, **found)
  except OSError as error:
    print(
      f"{path} cannot be written ({error.strerror or error}): the next"
      f" evaluation reads {len(positions):,} records again",
      file=sys.stderr,
    )
  return found


def band_statistics(images):
  """Mean and standard deviation of each band.

  Args:
    images: Patches, shape `[batch, height, width, bands]`.

  Returns:
    Features, float32, shape `[batch, 2 * bands]`.
  """
  # A band's pixels side by side: summed in a sixth of the time, in pairs.
  bands = np.ascontiguousarray(np.moveaxis(images, -1, 1), np.float32)
  bands = bands.reshape(*bands.shape[:2], -1)
  return np.concatenate([bands.mean(axis=-1), bands.std(axis=-1)], axis=-1)


def _summarize(batch):
  """Replaces a batch's images by `bands`; drops the rows that fill it up."""
  mask = batch.pop("mask")
  batch["bands"] = band_statistics(batch.pop("image"))
  return {name: values[mask] for name, values in batch.items()}


def _origin(dataset, split, positions):
  """A hash of everything that determines a sample."""
  described = [
    [len(positions), positions[-1]],
    dataset.label_names,
    dataset.origin(split),
  ]
  return hashlib.blake2b(json.dumps(described).encode()).hexdigest()


def _read(path, origin):
  """The sample that was kept, or None if there is none of this origin."""
  try:
    # Opened here: NumPy leaves open a file that isn't whole.
    with files.local(path) as local, open(local, "rb") as file:
      found = dict(np.load(file))
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    return None
  return found if found.pop("origin", None) == origin else None
