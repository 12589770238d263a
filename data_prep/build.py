"""Builds a data set: cuts tiles, labels patches, writes records.

  python -m data_prep.build --config=earth --output=data
  python -m data_prep.build --config=sentinel2 --source=DIR --output=data
  python -m data_prep.build --config=path/to/mine.py --source=DIR --output=data

Writes records to `<output>/geo_tiles/<config>/<version>/`, and figures, errors
and a map to `report.json` and `places.png` of `<output>`. `data_prep.sources`
describes configs. With `--publish=gs://BUCKET/data` the records are then copied
to a bucket. The same command resumes a build that was killed: whole tiles and
whole shards are kept, and records appear under their name only when all of them
are there.

Exits with 0; with 1 if there is no data set; and with 3 if the data set, built
now or before, lacks tiles that could not be used.
"""

import concurrent.futures
import concurrent.futures.process
import os
import sys
import time

from absl import app, flags, logging

from data_prep import (
  beam_map,
  geo_tiles,
  leaks,
  map_targets,
  rasters,
  sources,
  splits,
  targets,
  tiles,
)
from data_prep.build_data_set import build
from data_prep.build_folder import BuildError
from data_prep.publish import PublishError, publish
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
_PUBLISH = flags.DEFINE_string(
  "publish",
  None,
  "Folder, usually gs://BUCKET/data, that the records of --output are copied to"
  " once they are built; readers find them when all are there. Files that are"
  " there already are kept, and another data set is never overwritten.",
)
_STRICT = flags.DEFINE_boolean(
  "strict", False, "Stop at the first tile that cannot be used."
)
# Fields of the source.
_SOURCE_CHANGES = {
  "default_baseline": flags.DEFINE_string(
    "default_baseline",
    None,
    "Processing baseline, such as 04.00, of Sentinel-2 products whose name has"
    " none.",
  ),
  "table": flags.DEFINE_string(
    "table", None, "CSV or parquet table of the images in --source."
  ),
  "target": flags.DEFINE_multi_string(
    "target",
    None,
    "Column of the table that becomes a target; COLUMN:class, COLUMN:number and"
    " COLUMN:classes, several names separated by |, determine its kind. Of"
    " phileo: a label; by default all that there are.",
  ),
  "class_bands": flags.DEFINE_list(
    "class_bands", None, "Bands of classes, which are not interpolated."
  ),
  "date_from": flags.DEFINE_string(
    "date_from",
    None,
    "Regular expression whose group is the date in a file's name.",
  ),
  "pixel_m": flags.DEFINE_float(
    "pixel_m",
    None,
    "Metres a pixel of images without a georeference.",
    lower_bound=0,
  ),
  "split": flags.DEFINE_string(
    "split", None, "place, or longitude:60,20,20: from west to east."
  ),
}
# Fields of the rule of patches.
_PATCH_CHANGES = {
  "size": flags.DEFINE_integer(
    "size", None, "Rows and columns of a patch.", lower_bound=1
  ),
  "stride": flags.DEFINE_integer(
    "stride",
    None,
    "Pixels from one patch to the next; by default the size, if one is given.",
    lower_bound=1,
  ),
}
# Fields of the split rule.
_SPLIT_CHANGES = {
  name: flags.DEFINE_float(name, None, text)
  for name, text in {
    "block_deg": "Side in degrees of the blocks that go to one split.",
    "validation": "Share of the blocks held out for validation.",
    "test": "Share of the blocks held out for test.",
  }.items()
} | {
  "seed": flags.DEFINE_integer(
    "split_seed", None, "Seed of the draw of blocks.", lower_bound=0
  ),
}
# Fields of the config.
_CHANGES = {
  "name": flags.DEFINE_string(
    "name", None, "Name of the data set; by default that of the config."
  ),
  "bands": flags.DEFINE_list("bands", None, "Names of the bands, in order."),
  "scale": flags.DEFINE_string(
    "scale",
    None,
    "OFFSET,DIVISOR of all bands, or of each: (raw - offset) / divisor is what"
    " a model sees. auto: mean and deviation of the train split.",
  ),
  "climate_map": flags.DEFINE_string(
    "climate_map", None, "GeoTIFF of climate zones of the whole Earth."
  ),
  "legend": flags.DEFINE_string(
    "legend", None, "JSON file of zones by the climate map's codes."
  ),
  "water_mask": flags.DEFINE_string(
    "water_mask", None, "GeoTIFF that is not 0 on water; makes it sea."
  ),
  "splits": flags.DEFINE_string(
    "splits",
    None,
    "CSV of splits by the records' ids, such as splits.csv of another build;"
    " all other patches are left out.",
  ),
  "dem": flags.DEFINE_string(
    "dem", None, "GeoTIFF of elevations in metres; adds terrain to records."
  ),
}
_MAPS = {
  "class_map": flags.DEFINE_multi_string(
    "class_map",
    [],
    "NAME=FILE.tif[,legend.json]: a target of each pixel, sampled from a map of"
    " classes, a GeoTIFF or a folder of them.",
  ),
  "value_map": flags.DEFINE_multi_string(
    "value_map", [], "NAME=FILE.tif: the same, from a map of values."
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
  beam_map.RUNNERS,
  "Run the build's tasks on Apache Beam instead (extra [beam]). All workers"
  " must see --output and --source.",
)
_BEAM_OPTIONS = flags.DEFINE_multi_string(
  "beam_option", [], "Option of the Beam pipeline, such as --region=..."
)


def _given(flags_by_name):
  values = {name: flag.value for name, flag in flags_by_name.items()}
  return {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in values.items()
    if value is not None
  }


def _parse_maps():
  try:
    return tuple(
      map_targets.parse(text, kind)
      for kind, flag in _MAPS.items()
      for text in flag.value
    )
  except ValueError as error:
    raise BuildError(f"{error}") from error


def main(argv):
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]}")
  # The user can do nothing about the libraries' warnings.
  logging.set_verbosity(logging.ERROR)
  start = time.monotonic()
  try:
    # A bucket that cannot be used is reported before any work.
    publish_dir = _PUBLISH.value and files.path(_PUBLISH.value)
    if publish_dir and not files.is_local(files.path(_OUTPUT.value)):
      raise BuildError(
        f"--output={_OUTPUT.value} is in a bucket already; leave out --publish"
      )
    builder = build(
      _CONFIG.value,
      _OUTPUT.value,
      _SOURCE.value,
      _NUM_WORKERS.value,
      strict=_STRICT.value,
      beam=_BEAM_RUNNER.value and (_BEAM_RUNNER.value, _BEAM_OPTIONS.value),
      source=_given(_SOURCE_CHANGES),
      patches=_given(_PATCH_CHANGES),
      split=_given(_SPLIT_CHANGES),
      maps=_parse_maps(),
      **_given(_CHANGES),
    )
  except (
    BuildError,
    sources.UnknownConfigError,
    rasters.RasterError,
    geo_tiles.EmptySplitError,
    tiles.TileError,
    ModuleNotFoundError,
    PublishError,
    concurrent.futures.process.BrokenProcessPool,
    OSError,
  ) as error:
    _fail(error)
  errors = builder.info.metadata.get("errors", [])
  if builder.counts:
    rows = figures(builder, time.monotonic() - start)
    # Loads matplotlib, which no worker needs.
    from data_prep import report

    report.write_report(
      _OUTPUT.value,
      config=builder.builder_config.name,
      figures=rows,
      columns=builder.columns,
      targets=builder.info.metadata.get("targets", []),
      leaks=builder.info.metadata.get("leaks", {}),
      errors=errors,
    )
    print("\n".join(f"{name:<40}{value:>12,}" for name, value in rows.items()))
    for line in descriptions(builder):
      print(line)
    print(f"in {builder.data_path}")
    for sentence in warnings(builder):
      print(f"data_prep.build: warning: {sentence}", file=sys.stderr)
  else:
    print(f"{builder.data_path} is built already.")
  if publish_dir:
    try:
      print(publish(builder, publish_dir))
    except (PublishError, OSError) as error:
      _fail(error)
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


def _fail(error):
  print(f"data_prep.build: {error}", file=sys.stderr)
  sys.exit(1)


def figures(builder, seconds):
  """Integers of the closing table by name, of a builder that has just built."""
  counts, info = builder.counts, builder.info
  records = sum(counts[split] for split in splits.SPLITS)
  num_bytes = int(info.dataset_size)
  reasons = sorted(counts.keys() - set(splits.SPLITS))
  return {
    "tiles read": builder.num_files,
    "tiles that could not be used": len(builder.errors),
    **(
      {"tiles with edges in no patch": builder.num_cropped}
      if builder.num_cropped
      else {}
    ),
    "patches": counts.total(),
    **{f"left out: {reason}": counts[reason] for reason in reasons},
    **{f"kept: {split}": counts[split] for split in splits.SPLITS},
    "bytes a record": num_bytes // records,
    "records a second": round(records / seconds),
    "seconds": round(seconds),
  }


def descriptions(builder):
  """Yields a line for each target, and for a scale that was measured."""
  config, metadata = builder.builder_config, builder.info.metadata
  for target in metadata.get("targets", []):
    yield targets.one_line(target)
  if not config.scale:
    pairs = (
      f"{band} {offset:.4g},{divisor:.4g}"
      for band, (offset, divisor) in zip(
        config.bands, metadata["scale"], strict=True
      )
    )
    yield f"scale (mean,deviation of train): {'; '.join(pairs)}"


def warnings(builder):
  """Yields sentences about a builder that has just built."""
  config, metadata = builder.builder_config, builder.info.metadata
  if config.splits:
    listed = len(splits.read_listed(config.splits))
    found = sum(len(columns["lat"]) for columns in builder.columns.values())
    if found < listed:
      yield (
        f"{config.splits} lists {listed:,} patches, {listed - found:,} of which"
        " are not here"
      )
  yield from leaks.warn(metadata.get("leaks", {}))
  for target in metadata.get("targets", []):
    yield from targets.warn(target, config.has_rule)


if __name__ == "__main__":
  app.run(main)
