"""Embeddings of tiles' patches, streamed to GeoParquet."""

import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import tqdm

from data_prep import grids, tile_patches, tiles, unseen
from experiments import tile_predictions
from geojax import files
from geojax.training.errors import ConfigError


def embed_tiles(encoder, inputs, path, *, stride=None, dtype="float32"):
  """Embeds tiles one by one; one that fails does not stop the others.

  Args:
    encoder: A `geojax.predict.Predictor`.
    inputs: Files and folders.
    path: The parquet file to write, whole or not at all.
    stride: Pixels from one patch to the next, None for a patch's size.
    dtype: "float16" or "float32".

  Returns:
    The number of patches, and a list of `tiles.TileError`. Without a patch no
    file is written.

  Raises:
    ConfigError: The encoder's patches are not cut from a known kind of tiles.
  """
  config = tile_predictions.tile_config(encoder, stride)
  path.parent.mkdir(parents=True, exist_ok=True)
  errors, number = [], 0
  with (
    files.local_folder(path.with_name(f"{path.stem}_tiles")) as made,
    files.atomic(path) as temporary,
  ):
    with (
      _Writer(temporary, dtype) as writer,
      tqdm.tqdm(unit="patch", disable=None) as bar,
    ):
      for source in map(pathlib.Path, inputs):
        with tiles.collect_errors(errors, source):
          for tile_path in unseen.make_tiles(source, config, made):
            opened = tile_patches.open_tile(tile_path, config)
            found = 0
            for images, corners in tile_predictions.read_batches(
              opened, encoder.batch_size, progress=bar.update
            ):
              writer.add(opened, corners, encoder.features(images))
              found += len(images)
            if not found:
              raise tiles.TileError(source, "no clear patch")
            number += found
    if not number:
      # `atomic` moves what is there.
      raise ConfigError(
        "no patch of any tile was embedded: " + "; ".join(map(str, errors))
      )
  return number, errors


class _Writer:
  """A GeoParquet file, of which a batch of rows is written at a time."""

  def __init__(self, path, dtype):
    self._path, self._type = path, np.dtype(dtype)
    self._writer = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._writer is not None:
      self._writer.close()

  def add(self, patches, corners, features):
    """Writes patches: their first rows and columns `[n, 2]`, and features."""
    outlines = _outlines(patches.tile.grid, corners, patches.size)
    date = patches.scene.date
    count, width = features.shape
    values = pa.array(features.astype(self._type).ravel())
    columns = {
      "tile": pa.array([patches.tile.path.stem] * count),
      "row": pa.array(corners[:, 0].astype(np.int32)),
      "col": pa.array(corners[:, 1].astype(np.int32)),
      "date": pa.array(
        [None if date is None else date.date()] * count, pa.date32()
      ),
      "embedding": pa.FixedSizeListArray.from_arrays(values, width),
      "geometry": pa.array(shapely.to_wkb(outlines).tolist(), pa.binary()),
    }
    table = pa.table(columns)
    if self._writer is None:
      schema = table.schema.with_metadata({"geo": json.dumps(_GEO)})
      self._writer = pq.ParquetWriter(self._path, schema)
    self._writer.write_table(
      table.replace_schema_metadata(self._writer.schema.metadata)
    )


# https://geoparquet.org/releases/v1.1.0; without a CRS it is OGC:CRS84,
# longitude and latitude of WGS 84.
_GEO = {
  "version": "1.1.0",
  "primary_column": "geometry",
  "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"]}},
}


def _outlines(grid, corners, size):
  """Outlines of patches in longitude and latitude, counterclockwise."""
  # From the upper left pixel's outer corner.
  down = np.array([0, size, size, 0]) - 0.5
  right = np.array([0, 0, size, size]) - 0.5
  lat, lon = grid.pixel_to_latlon(corners[:, :1] + down, corners[:, 1:] + right)
  # Across the antimeridian a patch goes on beyond 180 degrees.
  lon = grids.unwrap(lon, lon[:, :1])
  return shapely.polygons(np.stack([lon, lat], axis=-1))
