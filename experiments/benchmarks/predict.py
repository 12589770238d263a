"""Time and memory of predicting or embedding a tile, beside the model alone.

  python -m experiments.benchmarks.predict [--embed] [--side 10980]
    [--patch_size 1] [--output DIR]

Makes a Sentinel-2 tile of smooth noise and a run of the default model with
random parameters (what is learned takes no time; `--patch_size`, see
`config.model`, makes it faster), and predicts or embeds the tile in a process
of its own, all files written. Then the model alone goes over as many patches,
again and again the same, in batches as large. Peak memory is that of the
process.
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
from experiments import command, embeddings, tile_files
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
  parser.add_argument("--patch_size", type=int, default=1)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--embed", action="store_true", help="not predictions")
  parser.add_argument("--measure", action="store_true", help="only this part")
  arguments = parser.parse_args()
  if arguments.measure:
    (_embed if arguments.embed else _predict)(arguments.output)
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
      config = config_lib.default_config()
      config.model.patch_size = arguments.patch_size
      write_untrained_run(folder / "run", config, describe_tiles("sentinel2"))
    subprocess.run(
      [
        *(sys.executable, "-m", "experiments.benchmarks.predict", "--measure"),
        *(["--embed"] if arguments.embed else []),
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


def _load(folder):
  """Tile, predictor, and a batch of patches."""
  predictor = predict.load(folder / "run")
  shape = (predictor.batch_size, *predictor.data.image_shape)
  patches = np.random.default_rng(0).integers(0, 9000, shape).astype(np.uint16)
  return folder / f"{noise.PRODUCT}_s2.tif", predictor, patches


def _embed(folder):
  """Embeds the tile, then times the encoder alone."""
  tile, encoder, patches = _load(folder)
  encoder.features(patches)
  start = _Clock()
  path = folder / "embeddings.parquet"
  count, errors = embeddings.embed_tiles(encoder, [tile], path)
  seconds = start.elapsed()
  peak = memory.peak_mib() / 1024
  assert not errors, errors
  start = _Clock()
  for _ in range(-(-count // encoder.batch_size)):
    encoder.features(patches)
  _report(count, "embedded", seconds, start.elapsed(), peak, asked=(1.1, 2))


def _predict(folder):
  """Predicts the tile, then times the model alone."""
  tile, predictor, patches = _load(folder)
  # What is compiled takes its time once, however many tiles there are.
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
  seconds = start.elapsed()
  peak = memory.peak_mib() / 1024
  assert not errors, errors
  (described,) = written.values()
  count = described["patches"]["count"]
  start = _Clock()
  for _ in range(-(-count // predictor.batch_size)):
    predictor.predict(patches)
  _report(count, "predicted", seconds, start.elapsed(), peak, asked=(1.2, 3))


def _report(count, done, seconds, alone, peak, asked):
  """Prints what was measured; times by the wall and of all cores."""
  print(f"{count:,} patches {done} in {seconds[0]:.1f} s, all files written")
  print(f"the forward passes alone take {alone[0]:.1f} s")
  print(f"ratio {seconds[0] / alone[0]:.2f}, asked: {asked[0]} at most")
  # Of a machine that does other work as well, this says more.
  print(f"ratio of CPU time {seconds[1] / alone[1]:.2f}")
  print(f"peak memory {peak:.2f} GiB, asked: {asked[1]} at most")


if __name__ == "__main__":
  command.keep_freed_memory_low()
  main()
