"""What decoders and credible regions add to the forward passes of a split.

  python -m experiments.benchmarks.evaluation

Random patches and untrained weights of the default encoder, which take as long
as real ones.
"""

import time

import jax
import numpy as np
from absl import app, flags

from geojax import sphere
from geojax.training import config as config_lib
from geojax.training import examine
from geojax.training import state as state_lib
from geojax.training import step as step_lib

_BATCH = flags.DEFINE_integer("batch", 32, "Patches a batch.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed batches; the best counts.")
_SHAPE = (128, 128, 10)


def main(argv):
  """Runs the benchmark."""
  del argv
  config = config_lib.default_config()
  rng = np.random.default_rng(0)
  num_centers = config.mixture.num_centers
  mixture = {
    "mu": sphere.fibonacci_lattice(num_centers).astype(np.float32),
    "log_kappa": np.full(num_centers, 5, np.float32),
  }
  state = state_lib.create_state(config, image_shape=_SHAPE, mixture=mixture)
  scale = {"offset": np.zeros(10), "divisor": np.ones(10)}
  batch = {
    "image": rng.random((_BATCH.value, *_SHAPE), np.float32),
    "label": rng.random((_BATCH.value, 36), np.float32),
  }
  batch = jax.device_put(batch)
  forward = jax.jit(step_lib.make_forward(config, **scale))
  step = jax.jit(examine.make_examine_step(config, **scale))
  variables = state.evaluated
  alone = _seconds(forward, variables, batch["image"])
  whole = _seconds(step, variables, batch, 2.0)
  print(
    f"{jax.devices()[0].device_kind}, {_BATCH.value} patches of {_SHAPE}:"
    f" forward pass {1e3 * alone / _BATCH.value:.2f} ms a patch, examined"
    f" {1e3 * whole / _BATCH.value:.2f} ms, {100 * (whole / alone - 1):.0f} %"
    " more"
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
