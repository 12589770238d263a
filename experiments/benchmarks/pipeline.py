"""How fast batches come: geojax against a PyTorch DataLoader, and training.

  python -m experiments.benchmarks.pipeline --data_dir=DIR

Both read the same records in a global shuffle, scale and flip them; geojax from
ArrayRecord shards, PyTorch (extra `[bench]`) from memory-mapped `.npy` files.
Equal workers: two threads there, two worker processes here. Beside it, what
core_atto trains, which is what a pipeline has to feed, what an index of 10^7
records needs, and how long a data set of 5,000 shards takes to open.
"""

import json
import pathlib
import tempfile
import time

import jax
import numpy as np
from absl import app, flags

from experiments import command
from experiments.benchmarks import memory, noise
from geojax import encodings, tasks
from geojax.training import augment, pipeline, sharding
from geojax.training import config as config_lib
from geojax.training import dataset as dataset_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of the data sets.")
_NAME = flags.DEFINE_string("name", "geo_tiles/earth", "The data set.")
_BATCHES = flags.DEFINE_integer("batches", 150, "Batches to time.")
_BATCH_SIZE = 128


def patches_per_second(batches, number: int, repeats: int = 3) -> float:
  """Times an iterator: the best of some runs, after a first batch."""
  next(batches)
  best = 0.0
  for _ in range(repeats):
    start = time.perf_counter()
    for _ in range(number // repeats):
      jax.block_until_ready(next(batches))
    elapsed = time.perf_counter() - start
    best = max(best, number // repeats * _BATCH_SIZE / elapsed)
  return best


def geojax_batches(dataset):
  """Batches on the device, scaled and flipped there."""
  options = config_lib.default_config().augment
  options.flip_north_south = True
  mesh = sharding.create_mesh()

  @jax.jit
  def alter(number, batch):
    images = step_lib.scale_images(
      batch["image"], offset=dataset.offset, divisor=dataset.divisor
    )
    rows = jax.numpy.arange(_BATCH_SIZE)
    key = jax.random.fold_in(jax.random.key(0), number)
    labels = {name: batch[name] for name in encodings.LABELS}
    return augment.augment(key, images, rows, options), labels

  batches = pipeline.train_batches(
    dataset.source("train"), batch_size=_BATCH_SIZE, seed=0
  )
  for number, batch in enumerate(batches):
    yield alter(number, sharding.put_batch(batch, mesh))


class _Patches:
  """One patch at a time, as a DataLoader asks for them."""

  def __init__(self, folder, offset, divisor):
    self._folder, self._images = folder, None
    self._offset, self._divisor = offset, divisor
    self._count = len(np.load(folder / "labels.npy", mmap_mode="r"))

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    import torch

    if self._images is None:
      # In the worker: a map sent to it would be a copy.
      self._images, self._labels = (
        np.load(self._folder / f"{name}.npy", mmap_mode="r")
        for name in ("images", "labels")
      )
    image = torch.from_numpy(self._images[index].astype(np.float32))
    image = (image - torch.from_numpy(self._offset)) / self._divisor
    flipped = [axis for axis in (0, 1) if torch.rand(()) < 0.5]
    label = torch.from_numpy(self._labels[index].copy())
    return torch.flip(image, flipped), label


def torch_batches(dataset, folder: pathlib.Path):
  """Batches of a DataLoader over memory-mapped arrays, the same work."""
  import torch

  source = dataset.source("train")
  count = len(source)
  images = np.lib.format.open_memmap(
    folder / "images.npy", "w+", np.int16, (count, *dataset.image_shape)
  )
  labels = np.empty((count, 36), np.float32)
  for i, batch in enumerate(pipeline.eval_batches(source, batch_size=1024)):
    rows = slice(1024 * i, min(1024 * (i + 1), count))
    mask = batch["mask"]
    images[rows] = batch["image"][mask]
    label = [batch[name] for name in encodings.LABELS]
    labels[rows] = np.concatenate(label, axis=1)[mask]
  images.flush()
  np.save(folder / "labels.npy", labels)

  loader = torch.utils.data.DataLoader(
    _Patches(folder, dataset.offset, dataset.divisor),
    _BATCH_SIZE,
    shuffle=True,
    num_workers=2,
    drop_last=True,
    persistent_workers=True,
    # JAX has threads, which a fork would leave half there.
    multiprocessing_context="spawn",
  )
  while True:
    for images, labels in loader:
      yield images.numpy(), labels.numpy()


def training_speed(dataset, steps: int = 5) -> float:
  """Patches a second that core_atto trains, with the batch at hand."""
  config = config_lib.default_config()
  task_list = tasks.create_tasks(config)
  state = state_lib.create_state(
    config,
    task_list,
    image_shape=dataset.image_shape,
    read_labels=noise.read_labels,
  )
  step = jax.jit(
    step_lib.make_train_step(
      config, task_list, offset=dataset.offset, divisor=dataset.divisor
    )
  )
  batch = next(
    pipeline.train_batches(
      dataset.source("train"), batch_size=_BATCH_SIZE, seed=0
    )
  )
  state, _ = jax.block_until_ready(step(state, batch))
  start = time.perf_counter()
  for _ in range(steps):
    state, metrics = step(state, batch)
  jax.block_until_ready(metrics)
  return steps * _BATCH_SIZE / (time.perf_counter() - start)


def index_megabytes(count: int) -> float:
  """Memory that shuffled batches over so many simulated records add."""

  class Simulated:
    def __len__(self):
      return count

    def read(self, indices):
      return {"climate": np.tile(np.float32(indices)[:, None], 31)}

  before = memory.peak_mib()
  batches = pipeline.train_batches(Simulated(), batch_size=_BATCH_SIZE, seed=0)
  for _ in range(200):
    next(batches)
  after = memory.peak_mib()
  return after - before


def seconds_to_open(dataset, num_shards: int) -> float:
  """Opens a data set, and a split, whose metadata list so many shards."""
  here = pathlib.Path(dataset.builder.data_path)
  with tempfile.TemporaryDirectory() as folder:
    there = pathlib.Path(folder, "many", "shards", here.name)
    there.mkdir(parents=True)
    for name in ("features.json", "metadata.json"):
      (there / name).write_bytes((here / name).read_bytes())
    info = json.loads((here / "dataset_info.json").read_text())
    (train,) = (s for s in info["splits"] if s["name"] == "train")
    train["shardLengths"] = ["1"] * num_shards
    (there / "dataset_info.json").write_text(json.dumps(info))
    start = time.perf_counter()
    records = dataset_lib.open_dataset(folder, "many/shards").source("train")
    assert len(records) == num_shards
    return time.perf_counter() - start


def main(argv):
  """Prints a table and, as the last line, the figures as JSON."""
  del argv
  found = {"index_megabytes": index_megabytes(10**7)}
  dataset = dataset_lib.open_dataset(_DATA_DIR.value, _NAME.value)
  found["open_seconds"] = seconds_to_open(dataset, 5000)
  found["geojax"] = patches_per_second(geojax_batches(dataset), _BATCHES.value)
  try:
    with tempfile.TemporaryDirectory() as folder:
      found["torch"] = patches_per_second(
        torch_batches(dataset, pathlib.Path(folder)), _BATCHES.value
      )
  except ModuleNotFoundError:
    print("PyTorch is not installed (extra [bench])")
  found["training"] = training_speed(dataset)
  print(f"index of 10^7 records         {found['index_megabytes']:12.1f} MB")
  print(f"5,000 shards are open after   {found['open_seconds']:12.2f} s")
  for name, what in (
    ("geojax", "geojax batches"),
    ("torch", "PyTorch DataLoader"),
    ("training", "core_atto trains"),
  ):
    if name in found:
      print(f"{what:<30}{found[name]:12,.0f} patches/s")
  print(json.dumps(found))


if __name__ == "__main__":
  command.keep_freed_memory_low()
  app.run(main)
