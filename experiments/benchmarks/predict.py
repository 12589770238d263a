"""Time and memory of predicting a tile, beside the forward passes alone.

  python -m experiments.benchmarks.predict [--side 10980] [--output DIR]

Makes a Sentinel-2 tile of smooth noise and a run of the default model with
random parameters (what is learned takes no time), and predicts the tile in a
process of its own, all files written. Then the model alone goes over as many
patches, again and again the same, in batches as large. Peak memory is that of
the process that predicts.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from data_prep import geo_tiles, grids, products, sources, tile_writer
from experiments import command, tile_files
from experiments.benchmarks import memory, noise
from geojax import predict, tasks
from geojax.training import checkpoint, data_info, progress
from geojax.training import config as config_lib
from geojax.training import state as state_lib
from geojax.training import workdir as workdir_lib


def write_untrained_run(workdir, config, data):
  """Writes a run of no step: random parameters, centers all over the Earth.

  Args:
    workdir: Folder to write to; made if missing.
    config: The run's config.
    data: A `data_info.DataInfo`.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  state = state_lib.create_state(
    config,
    tasks.create_tasks(config),
    image_shape=data.image_shape,
    read_labels=noise.read_labels,
  )
  config_lib.save_config(config, workdir / workdir_lib.CONFIG_FILE)
  data_info.save(data, workdir)
  checkpointer = checkpoint.Checkpointer(workdir, keep=1)
  record = dataclasses.asdict(progress.Progress())
  checkpointer.save(0, state, record, best_step=0)
  checkpointer.close()


def describe_tiles(name):
  """What records of a kind of tiles hold, though none were built.

  Args:
    name: Name of a config, see `sources.find`.

  Returns:
    A `data_info.DataInfo`.
  """
  config = sources.find(name)
  size = config.patches.size
  return data_info.DataInfo(
    name=f"{geo_tiles.GeoTiles.name}/{name}",
    image_shape=(size, size, len(config.bands)),
    dtype=config.dtype,
    bands=config.bands,
    scale=config.scale,
    settings=config.settings(),
  )


def main():
  """Makes tile and run, predicts, measures, prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--side", type=int, default=10980)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--predict", action="store_true", help="only this part")
  arguments = parser.parse_args()
  if arguments.predict:
    _predict(arguments.output)
    return
  with tempfile.TemporaryDirectory() as scratch:
    folder = arguments.output or pathlib.Path(scratch)
    tile = folder / f"{noise.PRODUCT}_s2.tif"
    if not tile.exists():
      folder.mkdir(parents=True, exist_ok=True)
      side = arguments.side
      tile_writer.write_planes(
        tile,
        noise.make_planes(side),
        bands=products.BANDS_11,
        grid=grids.Grid(side, side, 600000.0, 5500020.0, 10.0, 10.0, 32633),
        dtype="uint16",
        date=None,
      )
    if not (folder / "run").exists():
      write_untrained_run(
        folder / "run", config_lib.default_config(), describe_tiles("sentinel2")
      )
    subprocess.run(
      [
        *(sys.executable, "-m", "experiments.benchmarks.predict", "--predict"),
        f"--output={folder}",
      ],
      check=True,
    )


class _Clock:
  """Seconds by the wall, and of all cores together."""

  def __init__(self):
    self._start = self._now()

  def elapsed(self):
    return tuple(self._now() - self._start)

  def _now(self):
    return np.array([time.perf_counter(), time.process_time()])


def _predict(folder):
  """Predicts the tile, then times the model alone."""
  tile = folder / f"{noise.PRODUCT}_s2.tif"
  predictor = predict.load(folder / "run")
  # What is compiled takes its time once, however many tiles there are.
  shape = (predictor.batch_size, *predictor.data.image_shape)
  patches = np.random.default_rng(0).integers(0, 9000, shape).astype(np.uint16)
  predictor.predict(patches).credible_area_km2()
  start = _Clock()
  written, errors = tile_files.predict_tiles(
    predictor,
    [tile],
    folder / "predictions",
    stride=None,
    how="mean",
    num_independent=1.0,
  )
  seconds, cpu_seconds = start.elapsed()
  peak = memory.peak_mib() / 1024
  assert not errors, errors
  (described,) = written.values()
  count = described["patches"]["count"]
  start = _Clock()
  for _ in range(-(-count // predictor.batch_size)):
    predictor.predict(patches)
  alone, cpu_alone = start.elapsed()
  print(f"{count:,} patches predicted in {seconds:.1f} s, all files written")
  print(f"the forward passes alone take {alone:.1f} s")
  print(f"ratio {seconds / alone:.2f}, asked: 1.2 at most")
  # Of a machine that does other work as well, this tells more.
  print(f"ratio of CPU time {cpu_seconds / cpu_alone:.2f}")
  print(f"peak memory {peak:.2f} GiB, asked: 3 at most")


if __name__ == "__main__":
  command.keep_freed_memory_low()
  main()
