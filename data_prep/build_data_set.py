"""Builds a data set: finds its tiles, cuts them and writes the records."""

import contextlib
import dataclasses
import io
import shutil
import tempfile

import tensorflow_datasets as tfds

from data_prep import (
  beam_map,
  build_folder,
  climate_maps,
  configs,
  geo_tiles,
  map_files,
  publish,
  records,
  sources,
  splits,
  task_maps,
)
from geojax import files


def build(
  config_name,
  output,
  source_dir=None,
  num_workers=0,
  *,
  strict=False,
  beam=None,
  source=None,
  patches=None,
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
    source: Fields of the config's source to replace, a dict.
    patches: Fields of the `places.PatchRule` to replace, a dict.
    split: Fields of the `splits.SplitRule` to replace, a dict.
    **changes: Fields of the `configs.GeoTilesConfig` to replace.

  Returns:
    A `geo_tiles.GeoTiles`; its `counts` are empty if it was built before.

  Raises:
    build_folder.BuildError: A setting is invalid, or the output was built with
      others or is being built.
    sources.UnknownConfigError: There is no such config.
    rasters.RasterError: A raster is missing or differs.
    tiles.TileError: A tile cannot be used.
  """
  folders = {"--output": files.path(output)}
  if source_dir is not None:
    folders["--source"] = source_dir = files.path(source_dir)
  output = folders["--output"]
  config = sources.find(config_name)
  _check_folders(folders, beam, config)
  if beam is not None:
    # Workers may have another working directory.
    output = files.absolute(output)
    source_dir = source_dir and files.absolute(source_dir)
  try:
    config = _change(config, source or {}, patches or {}, split or {}, changes)
    inputs = config.source.with_inputs(source_dir)
    config = dataclasses.replace(config, source=inputs)
  except ValueError as error:
    raise build_folder.BuildError(f"{error}") from error
  tile_dir = output / "tiles" / config.name
  record_dir = output / geo_tiles.GeoTiles.name / config.name
  settings = config.settings()
  built = record_dir / str(geo_tiles.GeoTiles.VERSION)
  in_bucket = not files.is_local(output)
  # On disk the folder appears when all is in it.
  if (built / publish.LAST if in_bucket else built).exists():
    kept = build_folder.check_settings(built / "metadata.json", settings)
    config = configs.restore(config, kept)
    return geo_tiles.GeoTiles(config=config, data_dir=output)
  with contextlib.ExitStack() as stack:
    stack.enter_context(build_folder.lock(tile_dir))
    if beam is None:
      executor_map = stack.enter_context(task_maps.open_map(num_workers))
    else:
      seen = [source_dir, *config.files.values()]
      executor_map = beam_map.beam_map(
        *beam,
        folder=tile_dir,
        config_file=sources.config_file(config_name),
        seen=[x for x in map(files.path, filter(None, seen)) if x.exists()],
      )
    if config.source.makes_tiles:
      build_folder.claim(tile_dir / "settings.json", settings)
    data_dir = output
    if in_bucket:
      # For the metadata alone; TFDS would write it piece by piece.
      data_dir = stack.enter_context(tempfile.TemporaryDirectory())
    else:
      for leftover in record_dir.glob("incomplete.*"):
        shutil.rmtree(leftover)
    folder = config.source.fetch(output / "downloads", source_dir)
    for _ in executor_map(_check_maps, [config]):
      pass
    config, paths, errors = config.source.find_patches(
      config, tile_dir, folder, executor_map
    )
    if strict and errors:
      raise errors[0]
    _check_complete(config, split or {})
    builder = geo_tiles.GeoTiles(
      config=config,
      data_dir=data_dir,
      tile_paths=paths,
      executor_map=executor_map,
      strict=strict,
      errors=errors,
      shard_dir=tile_dir / "shards",
      asked=settings,
      target=built if in_bucket else None,
    )
    # TFDS prints that it downloads, which it does not.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
    if in_bucket:
      publish.complete(builder, built, builder.checksums)
      builder = builder.moved_to(output)
    files.remove_folder(tile_dir / "shards")
  return builder


def _check_folders(folders, beam, config):
  """Refuses folders that a build cannot use, before any work."""
  if beam is not None:
    beam_map.check_runner(beam[0], folders)
  for flag, folder in folders.items():
    if files.is_local(folder):
      continue
    if not config.source.reads_buckets:
      raise build_folder.BuildError(
        f"{flag}={folder}: config {config.name} reads and makes files on a disk"
        f" alone; copy them there, and the records to a bucket by --publish"
      )
    if beam is None:
      raise build_folder.BuildError(
        f"{flag}={folder} is in a bucket, which needs workers on Beam, see"
        " --beam_runner; without them give folders of this machine, and copy"
        " the records to a bucket by --publish=gs://BUCKET/FOLDER"
      )


def _change(config, source, patches, split, changes):
  """The config with the user's settings."""
  for field in source:
    if not hasattr(config.source, field):
      raise ValueError(f"config {config.name} has no {field}")
  changes = dict(changes)
  given = {k for k, v in {**changes, **patches, **split}.items() if v}
  given |= {target.kind for target in changes.get("maps", ())}
  if unused := [name for name in config.source.unused if name in given]:
    raise ValueError(
      f"config {config.name} takes patches as they are; leave out"
      f" --{', --'.join(unused)}"
    )
  if "maps" in changes:
    # Those of the config stay.
    changes["maps"] = (*config.maps, *changes["maps"])
  if changes.get("splits"):
    # The file decides about each patch.
    if given := [*_draw_flags(split), *({"split"} & source.keys())]:
      raise ValueError(
        f"--splits decides about each patch; leave out --{', --'.join(given)}"
      )
    splits.read_listed(changes["splits"])
    patches = {**patches, "train_kept": 1.0, "max_sea": 1.0}
    nothing = ("buffer_deg", "inset_deg", "validation", "test")
    split = {**split, **dict.fromkeys(nothing, 0.0)}
  if isinstance(scale := changes.get("scale"), str):
    changes["scale"] = _parse_scale(scale)
  if "bands" in changes and "scale" not in changes:
    if len(set(config.scale)) > 1:
      raise ValueError(f"--bands of config {config.name} needs --scale")
    # One pair for all bands.
    changes["scale"] = config.scale[:1]
  if changes.get("name", config.name) != config.name:
    changes["base"] = config.name
  if "size" in patches:
    patches = {"stride": patches["size"], **patches}
  rule = config.patches
  return dataclasses.replace(
    config,
    **{
      "source": dataclasses.replace(config.source, **source),
      "patches": dataclasses.replace(
        rule, **patches, split=dataclasses.replace(rule.split, **split)
      ),
      **changes,
    },
  )


def _draw_flags(split):
  """Flags, of those given, that choose which blocks are held out."""
  flags = {"seed": "split_seed", "test": "test", "validation": "validation"}
  return [flag for name, flag in flags.items() if name in split]


def _parse_scale(text):
  """Parses `--scale` to pairs of offset and divisor, () for auto."""
  if text == "auto":
    return ()
  try:
    numbers = [float(number) for number in text.split(",")]
  except ValueError:
    numbers = []
  pairs = tuple(zip(numbers[::2], numbers[1::2], strict=False))
  if not numbers or len(numbers) % 2 or not all(d > 0 for _, d in pairs):
    raise ValueError(
      f"--scale={text}, expected OFFSET,DIVISOR with DIVISOR > 0, one such pair"
      " a band, or auto"
    )
  return pairs


def _check_complete(config, split):
  """Raises BuildError if settings and what was found do not go together."""
  given = _draw_flags(split)
  if given and not config.has_rule and not config.splits:
    raise build_folder.BuildError(
      "files or --split decide about the splits; leave out"
      f" --{', --'.join(given)}"
    )
  if len(config.scale) not in (0, 1, len(config.bands)):
    raise build_folder.BuildError(
      f"{len(config.scale)} pairs of --scale for {len(config.bands)} bands,"
      f" {', '.join(config.bands)}"
    )
  try:
    records.features(config)
  except ValueError as error:
    raise build_folder.BuildError(f"{error}") from error


def _check_maps(config):
  """Reads the user's maps: a wrong one would fail every tile."""
  try:
    climate_maps.load(*config.climate_files)
    for target in config.maps:
      target.check()
  except ValueError as error:
    raise build_folder.BuildError(f"{error}") from error
  if config.dem:
    map_files.open_raster(config.dem)
