"""Images of any origin, listed in a table: `--source=DIR --table=FILE`.

`tables` describes the table. What it does not say of bands, pixel type and size
is taken from the images: most of them decide, the others are errors.
"""

import collections
import contextlib
import dataclasses
import functools
import pathlib
import pickle
from typing import ClassVar

import numpy as np
import tqdm

from data_prep import (
  band_files,
  configs,
  grids,
  image_files,
  image_patches,
  places,
  splits,
  tables,
  tile_source,
  tiles,
)
from geojax import encodings, sphere

# Rows of one task.
_ROWS = 256
# How far a file's own place may lie from that of the table.
_MAX_APART_KM = 0.1
_RGB = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class Images(tile_source.TileSource):
  """The images of a table.

  Attributes:
    table: Path of the table, also below the source's folder.
    table_sha256: Digest of the table.
    target: Columns of targets, see `tables.read`.
    class_bands: Bands of classes, which are not interpolated.
    date_from: Regular expression whose group is the date in a file's name.
    pixel_m: Metres a pixel of images without a georeference; 0: unknown.
    split: "place", or "longitude:TRAIN,VALIDATION,TEST" in percent.
  """

  bands: ClassVar[tuple[str, ...]] = ()
  contents: ClassVar[str] = "images"
  reads_buckets: ClassVar[bool] = False
  # Lists of images are named by their content.
  makes_tiles: ClassVar[bool] = False

  table: str = ""
  table_sha256: str = ""
  target: tuple[str, ...] = ()
  class_bands: tuple[str, ...] = ("SCL",)
  date_from: str = ""
  pixel_m: float = 0.0
  split: str = "place"

  def __post_init__(self):
    tile_source.date_parser(self.date_from)
    splits.parse_split_by(self.split)

  def with_inputs(self, source_dir):
    """See `Source.with_inputs`."""
    if not self.table:
      raise ValueError(
        "config images needs --table=FILE, a CSV or parquet file"
      )
    path = self._table_path(source_dir)
    return dataclasses.replace(self, table_sha256=tables.digest(path))

  def _table_path(self, source_dir):
    """The table, relative to the working folder or else to the source's."""
    path = pathlib.Path(self.table)
    if not path.exists() and source_dir is not None:
      below = pathlib.Path(source_dir) / path
      path = below if below.exists() else path
    return path

  def find_patches(self, config, directory, folder, executor_map=map):
    """See `Source.find_patches`."""
    directory = tile_source.make_folder(directory)
    path = self._table_path(folder)
    table, errors = tables.read(
      path,
      folder,
      config.bands,
      self.target,
      tile_source.date_parser(self.date_from),
    )
    if table.has_split and self.split != "place":
      raise tiles.TileError(path, "has a column split, so leave out --split")
    unknown = set(self.class_bands) - {*type(self).class_bands, *config.bands}
    if unknown:
      raise tiles.TileError(
        path, f"--class_bands {', '.join(sorted(unknown))}: not among --bands"
      )
    images, unusable = self._survey(config, table, executor_map)
    errors += unusable
    _check_some(path, images, errors)
    config, images, unusable = _settle(config, table, images)
    errors += unusable
    _check_some(path, images, errors)
    rule = _split_rule(config.patches, self.split, images)
    config = dataclasses.replace(
      config, patches=dataclasses.replace(config.patches, split=rule)
    )
    lists = tile_source.make_folder(directory / "images")
    parts = image_patches.write_parts(lists, images, config.patches)
    return config, parts, errors

  def _survey(self, config, table, executor_map):
    """Reads the header of each image, in parallel."""
    chunks = [
      table.rows[start : start + _ROWS]
      for start in range(0, len(table.rows), _ROWS)
    ]
    task = functools.partial(_read_headers, self, config.bands, table.bands)
    images, errors = [], []
    for found, failed in tqdm.tqdm(
      executor_map(task, chunks),
      total=len(chunks),
      desc="looking at images",
      unit_scale=_ROWS,
      unit="image",
      disable=None,
    ):
      images += found
      errors += failed
    return images, errors

  def open_patches(self, path, config):
    """See `Source.open_patches`."""
    return image_patches.opened(path, config, self.class_bands)

  def files_beside(self, path):
    """See `Source.files_beside`; an archive counts as a whole."""
    found = (
      image_files.split_archive(file)[0]
      for image in pickle.loads(pathlib.Path(path).read_bytes())
      for file in image.row.files
    )
    return list(dict.fromkeys(found))

  def open_tile(self, path, config):
    """See `TileSource.open_tile`."""
    return _with_place(
      band_files.opened((path,), config.bands, self.class_bands), path
    )

  def open_scene(self, tile):
    """See `TileSource.open_scene`."""
    parse = tile_source.date_parser(self.date_from)
    return tile_source.Scene(
      date=parse(tile.path.name) if parse else None, bands=tile.bands
    )


def _check_some(path, images, errors):
  if not images:
    reasons = "; ".join(map(str, errors[:3]))
    raise tiles.TileError(path, f"no row can be used: {reasons}")


@contextlib.contextmanager
def _with_place(opened, path):
  """A tile that says where it lies; in a table, an image need not."""
  with opened as tile:
    if isinstance(tile.grid, grids.Spot):
      raise tiles.TileError(path, "no georeference")
    yield tile


def _read_headers(source, bands, band_columns, rows):
  """Looks at some images; one task of a build."""
  images, errors = [], []
  for row in rows:
    with tiles.collect_errors(errors, row.files[0]):
      images.append(_read_header(source, bands, band_columns, row))
  return images, errors


def _read_header(source, bands, band_columns, row):
  spot = row.lat_deg, row.lon_deg
  with band_files.opened(
    row.files, band_columns or bands, source.class_bands, spot
  ) as tile:
    grid = tile.grid
    is_known = not np.isnan(row.lat_deg)
    if isinstance(grid, grids.Spot):
      if is_known and source.pixel_m:
        grid = grids.centered(*dataclasses.astuple(grid), source.pixel_m)
    elif is_known:
      _check_place(tile, spot)
    return image_patches.Image(
      row=row,
      grid=grid,
      dtype=tile.dtype.name,
      bands=tile.bands,
      num_bands=tile.num_bands,
    )


def _check_place(tile, spot):
  """Raises unless the file lies where the table says."""
  lat, lon = tile.grid.pixel_to_latlon(
    (tile.grid.height - 1) / 2, (tile.grid.width - 1) / 2
  )
  apart = sphere.great_circle_km(
    sphere.latlon_to_unit(lat, lon), sphere.latlon_to_unit(*spot)
  )
  if apart > _MAX_APART_KM:
    raise tiles.TileError(
      tile.path,
      f"centered at {lat:.5f} N {lon:.5f} E by its georeference, but at"
      f" {spot[0]:.5f} N {spot[1]:.5f} E in the table, {apart:,.1f} km away;"
      " correct the table, or leave lat and lon empty",
    )


def _settle(config, table, images):
  """Completes a config by what most images are; the others are errors."""
  errors = []

  def settle(key, name, text=str):
    counts = collections.Counter(map(key, images))
    (wanted, _), *_ = counts.most_common(1)
    for image in images:
      if (found := key(image)) != wanted:
        errors.append(
          tiles.TileError(
            image.row.files[0],
            f"{name} {text(found)}, expected {text(wanted)} as in most",
          )
        )
    images[:] = [image for image in images if key(image) == wanted]
    return wanted

  bands = config.bands or settle(
    _own_bands, "bands", lambda own: ", ".join(own) or "without names"
  )
  if not bands:
    raise tiles.TileError(
      images[0].row.files[0],
      f"{images[0].num_bands} bands without names; name them by --bands",
    )
  dtype = settle(lambda image: image.dtype, "dtype")
  rule = config.patches
  if not rule.size:
    shapes = collections.Counter(
      (image.grid.height, image.grid.width) for image in images
    )
    (height, width), _ = shapes.most_common(1)[0]
    if height != width:
      raise tiles.TileError(
        images[0].row.files[0],
        f"{height} x {width} pixels; pass the side of square patches, --size",
      )
    rule = dataclasses.replace(rule, size=height)
  if not rule.stride:
    rule = dataclasses.replace(rule, stride=rule.size)
  for image in images:
    if min(image.grid.height, image.grid.width) < rule.size:
      errors.append(
        tiles.TileError(
          image.row.files[0],
          f"{image.grid.height} x {image.grid.width} pixels, less than a patch"
          f" of {rule.size}",
        )
      )
  images = [
    image
    for image in images
    if min(image.grid.height, image.grid.width) >= rule.size
  ]
  is_known = {
    "climate": any(image.has_place for image in images),
    "coords": any(image.has_place for image in images),
    "date": any(image.row.date is not None for image in images),
  }
  config = dataclasses.replace(
    config,
    bands=bands,
    dtype=dtype,
    patches=rule,
    labels=tuple(name for name in encodings.LABELS if is_known[name]),
    targets=table.targets,
    has_split_column=table.has_split,
  )
  return config, images, errors


def _own_bands(image):
  return image.bands or (_RGB if image.num_bands == 3 else ())


def _split_rule(rule, split, images):
  """The rule of a build, once the images are known."""
  shares = splits.parse_split_by(split)
  if shares is None:
    return rule.split
  lon = [image.longitudes(rule) for image in images if image.has_place]
  if not lon:
    raise tiles.TileError(
      images[0].row.files[0],
      "no longitude is known to split by; leave out --split",
    )
  return splits.longitude_rule(np.concatenate(lon), shares, rule.split)


CONFIG = configs.GeoTilesConfig(
  name="images",
  description="Images of any origin, listed in a table.",
  source=Images(),
  # Empty: as the images have it; the scale that of the train split.
  bands=(),
  scale=(),
  dtype="",
  patches=places.PatchRule(
    size=0,
    stride=0,
    split=splits.SplitRule(block_deg=1, buffer_deg=0.1, inset_deg=0),
  ),
)
