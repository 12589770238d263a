"""What decoders and credible regions add to the forward passes of a split.

  python -m experiments.benchmarks.evaluation

Random patches and untrained weights of the default encoder, which take as long
as real ones.
"""

import functools
import time

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import noise
from geojax import tasks
from geojax.training import config as config_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib

_BATCH = flags.DEFINE_integer("batch", 32, "Patches a batch.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed batches; the best counts.")
_SHAPE = (128, 128, 10)


def main(argv):
  """Runs the benchmark."""
  del argv
  config = config_lib.default_config()
  task_list = tasks.create_tasks(config)
  state = state_lib.create_state(
    config, task_list, image_shape=_SHAPE, read_labels=noise.read_labels
  )
  make_columns = functools.partial(
    step_lib.make_columns,
    config,
    task_list,
    offset=np.zeros(10),
    divisor=np.ones(10),
  )
  decoders = [name for task in task_list for name in task.on_request]
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.random((_BATCH.value, *_SHAPE), np.float32),
    **noise.read_labels(_BATCH.value),
  }
  batch = jax.device_put(batch)
  fitted = {"coords": {"temperature": 2.0}}
  variables = state.evaluated
  forward = jax.jit(make_columns(columns=("logits", "climate_probs", "day")))
  alone = _seconds(forward, variables, batch)
  whole = _seconds(
    jax.jit(make_columns(extra=decoders)), variables, batch, fitted
  )
  print(
    f"{jax.devices()[0].device_kind}, {_BATCH.value} patches of {_SHAPE}:"
    f" forward pass {1e3 * alone / _BATCH.value:.2f} ms a patch, with all"
    f" columns of a report {1e3 * whole / _BATCH.value:.2f} ms,"
    f" {100 * (whole / alone - 1):.0f} % more"
  )


def _seconds(function, *arguments):
  jax.block_until_ready(function(*arguments))
  seconds = []
  for _ in range(_REPEATS.value):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    seconds.append(time.perf_counter() - start)
  return min(seconds)


if __name__ == "__main__":
  app.run(main)
