"""Builds a data set: cuts tiles, labels patches, writes records.

  python -m data_prep.build --config=earth --output=data
  python -m data_prep.build --config=sentinel2 --source=DIR --output=data
  python -m data_prep.build --config=path/to/mine.py --source=DIR --output=data

Writes records to `<output>/geo_tiles/<config>/<version>/`, and figures, errors
and a map to `report.json` and `places.png` of `<output>`. `data_prep.sources`
describes configs. The same command resumes a build that was killed: whole tiles
and whole shards are kept, and records appear under their name only when all of
them are there.

Exits with 0; with 1 if there is no data set; and with 3 if the data set, built
now or before, lacks tiles that could not be used.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import sys
import time

import tensorflow_datasets as tfds
from absl import app, flags, logging

from data_prep import (
  climate_maps,
  geo_tiles,
  rasters,
  sources,
  splits,
  task_maps,
  tiles,
)
from geojax import files

_CONFIG = flags.DEFINE_string(
  "config",
  "earth",
  f"What to build: {', '.join(sources.names())}, or a file or module of your"
  " own that ends in a CONFIG.",
)
_OUTPUT = flags.DEFINE_string("output", "data", "Folder for tiles and records.")
_SOURCE = flags.DEFINE_string(
  "source", None, "Folder of your own files that the config asks for."
)
flags.DEFINE_alias("manual_dir", "source")
_STRICT = flags.DEFINE_boolean(
  "strict", False, "Stop at the first tile that cannot be used."
)
_DEFAULT_BASELINE = flags.DEFINE_string(
  "default_baseline",
  None,
  "Processing baseline, such as 04.00, of Sentinel-2 products whose name has"
  " none.",
)
# Fields of the split rule.
_SPLIT_CHANGES = {
  name: flags.DEFINE_float(name, None, text)
  for name, text in {
    "block_deg": "Side in degrees of the blocks that go to one split.",
    "validation": "Share of the blocks held out for validation.",
    "test": "Share of the blocks held out for test.",
  }.items()
}
# Fields of the config.
_CHANGES = {
  "climate_map": flags.DEFINE_string(
    "climate_map", None, "GeoTIFF of climate zones of the whole Earth."
  ),
  "legend": flags.DEFINE_string(
    "legend", None, "JSON file of zones by the climate map's codes."
  ),
  "water_mask": flags.DEFINE_string(
    "water_mask", None, "GeoTIFF that is not 0 on water; makes it sea."
  ),
  "dem": flags.DEFINE_string(
    "dem", None, "GeoTIFF of elevations in metres; adds terrain to records."
  ),
}
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers",
  os.cpu_count(),
  "Processes that cut and read tiles; 0: only this one.",
  lower_bound=0,
)
_BEAM_RUNNER = flags.DEFINE_enum(
  "beam_runner",
  None,
  ["DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"],
  "Run the build's tasks on Apache Beam instead (extra [beam]).",
)
_BEAM_OPTIONS = flags.DEFINE_multi_string(
  "beam_option", [], "Option of the Beam pipeline, such as --region=..."
)


class BuildError(Exception):
  """A build that cannot go on; the message says why, and the way out."""


def build(
  config_name,
  output,
  source_dir=None,
  num_workers=0,
  *,
  strict=False,
  beam=None,
  default_baseline=None,
  split=None,
  **changes,
):
  """Builds a data set, unless it is built already.

  Args:
    config_name: Name, file or module, see `sources.find`.
    output: Folder for tiles and records.
    source_dir: Folder of the user's own files, or None.
    num_workers: Processes that cut and read tiles; 0: only this one.
    strict: Whether the first tile that cannot be used ends the build, instead
      of being one of the builder's `errors`.
    beam: Name of a Beam runner and a list of its options, or None.
    default_baseline: Baseline of Sentinel-2 products whose name has none.
    split: Fields of the `splits.SplitRule` to replace, a dict.
    **changes: Fields of the `configs.GeoTilesConfig` to replace.

  Returns:
    A `geo_tiles.GeoTiles`; its `counts` are empty if it was built before.

  Raises:
    BuildError: A setting is invalid, or the output was built with others or is
      being built.
    sources.UnknownConfigError: There is no such config.
    rasters.RasterError: A raster is missing or differs.
    tiles.TileError: A tile cannot be used.
  """
  output = pathlib.Path(output)
  config = sources.find(config_name)
  try:
    config = _change(config, default_baseline, split or {}, changes)
  except ValueError as error:
    raise BuildError(f"{error}") from error
  tile_dir = output / "tiles" / config.name
  record_dir = output / geo_tiles.GeoTiles.name / config.name
  settings = config.settings()
  if (built := record_dir / str(geo_tiles.GeoTiles.VERSION)).exists():
    _check_settings(built / "metadata.json", settings)
    return geo_tiles.GeoTiles(config=config, data_dir=output)
  with contextlib.ExitStack() as stack:
    stack.enter_context(_lock(tile_dir))
    if beam is None:
      executor_map = stack.enter_context(task_maps.open_map(num_workers))
    else:
      executor_map = task_maps.beam_map(*beam, folder=tile_dir)
    _claim(tile_dir / "settings.json", settings)
    for leftover in record_dir.glob("incomplete.*"):
      shutil.rmtree(leftover)
    folder = config.source.fetch(output / "downloads", source_dir)
    for _ in executor_map(_check_maps, [config]):
      pass
    paths, errors = config.source.cut_tiles(tile_dir, folder, executor_map)
    if strict and errors:
      raise errors[0]
    builder = geo_tiles.GeoTiles(
      config=config,
      data_dir=output,
      tile_paths=paths,
      executor_map=executor_map,
      strict=strict,
      errors=errors,
      shard_dir=tile_dir / "shards",
    )
    # TFDS prints that it downloads, which it does not.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
    shutil.rmtree(tile_dir / "shards")
  return builder


def _change(config, default_baseline, split, changes):
  """The config with the user's settings."""
  if default_baseline is not None:
    if not hasattr(config.source, "default_baseline"):
      raise ValueError(f"config {config.name} has no default_baseline")
    source = dataclasses.replace(
      config.source, default_baseline=default_baseline
    )
    config = dataclasses.replace(config, source=source)
  rule = dataclasses.replace(config.patches.split, **split)
  patches = dataclasses.replace(config.patches, split=rule)
  return dataclasses.replace(config, **{"patches": patches, **changes})


def _check_maps(config):
  """Reads the user's maps: a wrong one would fail every tile."""
  try:
    climate_maps.load(config.climate_map, config.legend, config.water_mask)
  except ValueError as error:
    raise BuildError(f"{error}") from error
  if config.dem:
    tiles.open_tile(config.dem)


@contextlib.contextmanager
def _lock(directory):
  try:
    with files.lock(directory / ".lock"):
      yield
  except files.LockedError as error:
    raise BuildError(
      f"{directory} is being built by another process, {error.holder}; wait"
      " until it has finished"
    ) from None


def _claim(path, settings):
  """Refuses tiles of a source with other settings."""
  settings = {"settings": {"source": settings["source"]}}
  if path.exists():
    _check_settings(path, settings["settings"])
  else:
    files.write_text(path, json.dumps(settings))


def _check_settings(path, wanted):
  """Refuses a folder that was built with other settings."""
  way_out = f"delete {path.parent} or choose another --output"
  try:
    found = json.loads(path.read_text())["settings"]
  except (OSError, ValueError, KeyError) as error:
    raise BuildError(f"{path} cannot be read ({error!r}); {way_out}") from error
  if differing := list(_differences(found, wanted)):
    raise BuildError(
      f"{path.parent} was built with other settings "
      f"({'; '.join(differing)}); {way_out}"
    )


def _differences(old, new, key=""):
  """Yields a text for each setting that differs."""
  if isinstance(old, dict) and isinstance(new, dict):
    for name in sorted(old | new):
      yield from _differences(
        old.get(name), new.get(name), f"{key}.{name}".strip(".")
      )
  elif old != new:
    yield f"{key} was {old}, is now {new}"


def _given(flags_by_name):
  values = {name: flag.value for name, flag in flags_by_name.items()}
  return {name: value for name, value in values.items() if value is not None}


def main(argv):
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  # The user can do nothing about the libraries' warnings.
  logging.set_verbosity(logging.ERROR)
  start = time.monotonic()
  try:
    builder = build(
      _CONFIG.value,
      _OUTPUT.value,
      _SOURCE.value,
      _NUM_WORKERS.value,
      strict=_STRICT.value,
      beam=_BEAM_RUNNER.value and (_BEAM_RUNNER.value, _BEAM_OPTIONS.value),
      default_baseline=_DEFAULT_BASELINE.value,
      split=_given(_SPLIT_CHANGES),
      **_given(_CHANGES),
    )
  except (
    BuildError,
    sources.UnknownConfigError,
    rasters.RasterError,
    geo_tiles.EmptySplitError,
    tiles.TileError,
    ModuleNotFoundError,
    concurrent.futures.process.BrokenProcessPool,
    OSError,
  ) as error:
    print(f"data_prep.build: {error}", file=sys.stderr)
    sys.exit(1)
  errors = builder.info.metadata.get("errors", [])
  if builder.counts:
    rows = figures(builder, time.monotonic() - start)
    # Loads matplotlib, which no worker needs.
    from data_prep import report

    report.write_report(
      _OUTPUT.value,
      config=builder.builder_config.name,
      figures=rows,
      places=builder.places,
      errors=errors,
    )
    print("\n".join(f"{name:<40}{value:>12,}" for name, value in rows.items()))
    print(f"in {builder.data_path}")
  else:
    print(f"{builder.data_path} is built already.")
  if errors:
    for error in errors:
      print(
        f"data_prep.build: {error['file']}: {error['reason']}", file=sys.stderr
      )
    print(
      f"data_prep.build: tiles that could not be used: {len(errors)}; when they"
      f" are repaired, delete {builder.data_path} and build again",
      file=sys.stderr,
    )
    sys.exit(3)


def figures(builder, seconds):
  """Integers of the closing table by name, of a builder that has just built."""
  counts, info = builder.counts, builder.info
  records = sum(counts[split] for split in splits.SPLITS)
  num_bytes = int(info.dataset_size)
  reasons = sorted(counts.keys() - set(splits.SPLITS))
  return {
    "tiles read": builder.num_tiles,
    "tiles that could not be used": len(builder.errors),
    "patches": counts.total(),
    **{f"left out: {reason}": counts[reason] for reason in reasons},
    **{f"kept: {split}": counts[split] for split in splits.SPLITS},
    "bytes a record": num_bytes // records,
    "records a second": round(records / seconds),
    "seconds": round(seconds),
  }


if __name__ == "__main__":
  app.run(main)
