"""Time and memory of a tile's probability map, the mean over its patches.

python -m experiments.benchmarks.maps
"""

import time

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import memory
from geojax import mixture, sphere

_CELLS = flags.DEFINE_integer("cells", 65_536, "Cells of the map.")
_CENTERS = flags.DEFINE_integer("centers", 32_768, "Centers of the mixture.")
_PATCHES = flags.DEFINE_integer("patches", 1000, "Patches of the tile.")


def main(argv):
  """Runs the benchmark."""
  del argv
  rng = np.random.default_rng(0)
  mu = sphere.fibonacci_lattice(_CENTERS.value).astype(np.float32)
  log_kappa = np.full(_CENTERS.value, 9, np.float32)
  logits = rng.normal(size=(_PATCHES.value, _CENTERS.value)).astype(np.float32)
  cells = sphere.equal_area_grid(_CELLS.value).astype(np.float32)
  before = memory.peak_mib()
  start = time.perf_counter()
  found = np.asarray(jax.jit(_tile_map)(logits, mu, log_kappa, cells))
  seconds = time.perf_counter() - start
  assert abs(found.sum() - 1) < 1e-3, found.sum()
  print(
    f"map of {_CELLS.value:,} cells x {_CENTERS.value:,} centers for"
    f" {_PATCHES.value:,} patches: {seconds:.1f} s, compilation included;"
    f" {memory.peak_mib() - before:,.0f} MiB beside the logits"
    f" ({logits.nbytes / 2**20:,.0f} MiB), peak of all"
    f" {memory.peak_mib():,.0f} MiB"
  )


def _tile_map(logits, mu, log_kappa, cells):
  mean = mixture.mean_logits(logits)
  return mixture.probability_map(mean, mu, log_kappa, cells)


if __name__ == "__main__":
  app.run(main)
