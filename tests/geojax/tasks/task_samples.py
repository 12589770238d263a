"""Labels, heads and their outputs, small enough for tests."""

import jax
import numpy as np

from geojax import encodings, models, tasks
from geojax.training import config as config_lib

LAND, SEA = 8, 0  # zones
NAMES = ("coords", "climate", "date")


def make_config(names=NAMES, *, coords="mvmf", **mixture):
  config = config_lib.default_config()
  config.tasks = names
  config.loss.coords = coords
  config.mixture.update({"num_centers": 12, **mixture})
  return config


def make_labels(zones, seed=0):
  """Labels by name with one pure zone each, at random places and days."""
  rng = np.random.default_rng(seed)
  num = len(zones)
  label = encodings.encode_label(
    np.eye(31)[zones],
    np.degrees(np.arcsin(rng.uniform(-1, 1, num))),
    rng.uniform(-180, 180, num),
    rng.integers(1, 366, num),
  )
  return encodings.split_label(label.astype(np.float32))


def make_outputs(task_list, num, *, train=False):
  """What each task's head makes of random features, as NumPy arrays."""
  features = jax.random.normal(jax.random.key(1), (num, 6))

  @jax.jit
  def run(features):
    outputs = {}
    for task in task_list:
      params = models.unbox(task.head.init(jax.random.key(2), features))
      outputs[task.name] = task.head.apply(params, features, train=train)
    return outputs

  return jax.tree.map(np.asarray, run(features))


def create(names=NAMES, **keys):
  return tasks.create_tasks(make_config(names, **keys))
