"""Builds a data set: cuts tiles, labels patches, writes records.

  python -m data_prep.build --config=earth --output=data

leaves the records in `<output>/geo_tiles/<config>/<version>/`. A build that was
killed is started again by the same command: tiles that are whole are not cut
again, and records appear under their name only when all of them are there.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import fcntl
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import sys
import threading
import time

import tensorflow_datasets as tfds
from absl import app, flags, logging

from data_prep import geo_tiles, places, rasters, splits, tiles

_CONFIG = flags.DEFINE_enum(
  "config",
  "earth",
  [config.name for config in geo_tiles.CONFIGS],
  "What to build.",
)
_OUTPUT = flags.DEFINE_string("output", "data", "Folder for tiles and records.")
_MANUAL_DIR = flags.DEFINE_string(
  "manual_dir", None, "Folder of your own files that the config asks for."
)
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers",
  os.cpu_count(),
  "Processes that cut and read tiles; 0: none but this one.",
  lower_bound=0,
)


class BuildError(Exception):
  """A build that cannot go on; the message says why and what to do."""


def build(config_name, output, manual_dir=None, num_workers=0):
  """Builds a data set, unless it is built already.

  Args:
    config_name: Name of one of `geo_tiles.CONFIGS`.
    output: Folder for tiles and records.
    manual_dir: Folder of the user's own files, or None.
    num_workers: Processes that cut and read tiles; 0: none but this one.

  Returns:
    A `geo_tiles.GeoTiles`; its `counts` are empty if it was built already.

  Raises:
    BuildError: If the output was built with other settings, or is being built.
    rasters.RasterError: If a raster is missing or not the expected one.
    tiles.TileError: If a tile cannot be used.
  """
  output = pathlib.Path(output)
  config = {config.name: config for config in geo_tiles.CONFIGS}[config_name]
  tile_dir = output / "tiles" / config.name
  record_dir = output / geo_tiles.GeoTiles.name / config.name
  settings = config.settings()
  if (built := record_dir / str(geo_tiles.GeoTiles.VERSION)).exists():
    _check_settings(built / "metadata.json", settings)
    return geo_tiles.GeoTiles(config=config.name, data_dir=output)
  with _lock(tile_dir), _executor_map(num_workers) as executor_map:
    _claim(tile_dir / "settings.json", settings)
    for leftover in record_dir.glob("incomplete.*"):
      shutil.rmtree(leftover)
    folder = config.source.fetch(output / "downloads", manual_dir)
    paths = config.source.cut_tiles(tile_dir, folder, executor_map)
    builder = geo_tiles.GeoTiles(
      config=config.name,
      data_dir=output,
      tile_paths=paths,
      executor_map=executor_map,
    )
    # TFDS announces a download that there is not.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
  return builder


@contextlib.contextmanager
def _lock(directory):
  """Keeps a second build out; falls with the process, however it ends."""
  directory.mkdir(parents=True, exist_ok=True)
  with open(directory / ".lock", "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise BuildError(
        f"{directory} is being built by another process; wait for it"
      ) from None
    yield


@contextlib.contextmanager
def _executor_map(num_workers):
  """`map`, over processes if there are any."""
  if not num_workers:
    yield map
    return
  with concurrent.futures.ProcessPoolExecutor(
    num_workers,
    # Threads of the record writer do not survive a fork.
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_exit_with_parent,
  ) as executor:

    def executor_map(function, *iterables):
      # Few, large messages; yet some for each process.
      chunksize = max(1, len(iterables[0]) // (16 * num_workers))
      try:
        yield from executor.map(function, *iterables, chunksize=chunksize)
      except BaseException:
        # No task may write on while what it writes to is cleared away.
        executor.shutdown(cancel_futures=True)
        raise

    yield executor_map


def _exit_with_parent():
  """Ends a worker whose parent was killed: it would wait forever."""
  parent = multiprocessing.parent_process().sentinel

  def wait():
    multiprocessing.connection.wait([parent])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _claim(path, settings):
  """Keeps tiles of other settings from being taken for these."""
  settings = {"settings": {"source": settings["source"]}}
  if path.exists():
    _check_settings(path, settings["settings"])
    return
  temporary = path.with_suffix(".tmp")
  temporary.write_text(json.dumps(settings))
  os.replace(temporary, path)


def _check_settings(path, wanted):
  """Refuses a folder that was made with other settings than the wanted."""
  way_out = f"delete {path.parent} or choose another --output"
  try:
    found = json.loads(path.read_text())["settings"]
  except (OSError, ValueError, KeyError) as error:
    raise BuildError(
      f"{path.parent} tells no settings ({error!r}); {way_out}"
    ) from error
  found, wanted = _flatten(found), _flatten(wanted)
  differing = [
    f"{key} was {found.get(key)}, is now {wanted.get(key)}"
    for key in sorted(found | wanted)
    if found.get(key) != wanted.get(key)
  ]
  if differing:
    raise BuildError(
      f"{path.parent} was built with other settings "
      f"({'; '.join(differing)}); {way_out}"
    )


def _flatten(tree, prefix=""):
  """Leaves of nested dicts by their dotted keys."""
  if not isinstance(tree, dict):
    return {prefix: tree}
  leaves = {}
  for key, value in tree.items():
    leaves |= _flatten(value, f"{prefix}.{key}" if prefix else key)
  return leaves


def main(argv):
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  # Only what the user can act on.
  logging.set_verbosity(logging.WARNING)
  start = time.monotonic()
  try:
    builder = build(
      _CONFIG.value, _OUTPUT.value, _MANUAL_DIR.value, _NUM_WORKERS.value
    )
  except (
    BuildError,
    rasters.RasterError,
    geo_tiles.EmptySplitError,
    tiles.TileError,
    concurrent.futures.process.BrokenProcessPool,
    OSError,
  ) as error:
    print(f"data_prep.build: {error}", file=sys.stderr)
    sys.exit(1)
  if not builder.counts:
    print(f"{builder.data_path} is built already.")
    return
  print(summary(builder, time.monotonic() - start))


def summary(builder, seconds):
  """The closing table.

  Args:
    builder: A `geo_tiles.GeoTiles` that was just built.
    seconds: How long it took.

  Returns:
    Lines of text.
  """
  counts, info = builder.counts, builder.info
  records = sum(counts[split] for split in splits.SPLITS)
  num_bytes = int(info.dataset_size)
  rows = [
    ("tiles read", builder.num_tiles),
    ("patches", counts.total()),
    *((f"  left out: {reason}", counts[reason]) for reason in places.REASONS),
    *((f"  kept: {split}", counts[split]) for split in splits.SPLITS),
    ("bytes a record", num_bytes // records),
    ("records a second", round(records / seconds)),
    ("seconds", round(seconds)),
  ]
  lines = [f"{name:<40}{value:>12,}" for name, value in rows]
  return "\n".join([*lines, f"in {builder.data_path}"])


if __name__ == "__main__":
  app.run(main)
