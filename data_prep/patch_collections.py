"""Published collections of Sentinel-2 patches, made tiles.

* BigEarthNet's patches, a folder a patch and a GeoTIFF a band,
* Major TOM Core-S2L2A, parquet files with a row a cell and a GeoTIFF a band.

The tiles are as those of `safe_products`, without SCL.

References:
  Sumbul et al., BigEarthNet: a large-scale benchmark archive for remote
  sensing image understanding, IGARSS 2019.
  Francis & Czerkawski, Major TOM: expandable datasets for Earth observation,
  IGARSS 2024.
"""

import dataclasses
import pathlib
import re
import tempfile

import numpy as np

from data_prep import products, sources, tile_writer, tiles

# Pixels along a side of a patch at 10 m.
_BIGEARTHNET_SIDE = 120
_MAJOR_TOM_SIDE = 1068

# Columns of Major TOM that name a cell.
_KEYS = ("product_id", "grid_cell")
_CELL = re.compile(r"\d+[UD]_\d+[LR]")


def convert_bigearthnet(folder, directory, default_baseline=None):
  """Makes a tile of one of BigEarthNet's patches, unless it is there.

  Args:
    folder: The patch's folder, with a GeoTIFF a band.
    directory: Folder for the tile; it exists.
    default_baseline: Baseline of the names of version 2, N9999, which tell
      none. Version 1 is known to come before the offset.

  Returns:
    Path of the tile, which has `products.BANDS`.

  Raises:
    tiles.TileError: If the name does not parse, or a band is missing, corrupt
      or lies elsewhere than the others.
  """
  folder = pathlib.Path(folder)
  with tiles.as_tile_error(folder):
    product = products.parse_patch(folder.name, default_baseline)
    target = pathlib.Path(directory) / products.tile_name(product.name)
    if not target.exists():
      files = {
        band: folder / f"{folder.name}_{band}.tif" for band in products.BANDS
      }
      _write_patch(target, files, _BIGEARTHNET_SIDE, product.date)
  return target


def convert_major_tom(parquet_path, directory, default_baseline=None):
  """Makes a tile of each cell in a file of Major TOM, unless it is there.

  Tiles lie where the GeoTIFFs say. Those have one corner in all bands, that of
  the cell, which lies between pixels of the product, whereas the pixels seem to
  be the product's nearest, unresampled: a band may lie half a pixel off.

  Args:
    parquet_path: A file of `images/` of Core-S2L2A.
    directory: Folder for the tiles; it exists.
    default_baseline: Baseline of products that tell none, or None.

  Returns:
    The tiles' paths, which have `products.BANDS`, and a list of
    `tiles.TileError`, one a row that failed.
  """
  # Only this source needs it, and every process would load it.
  from pyarrow import parquet

  path = pathlib.Path(parquet_path)
  paths, errors = [], []
  with sources.collect(errors, path), parquet.ParquetFile(path) as file:
    columns = file.schema_arrow.names
    if missing := [c for c in (*_KEYS, *products.BANDS) if c not in columns]:
      raise ValueError(
        f"column {', '.join(missing)} missing, it has {', '.join(columns)}"
      )
    for group in range(file.num_row_groups):
      with sources.collect(errors, path, f"row group {group}: "):
        for i, row in enumerate(_read_rows(file, group, directory)):
          with sources.collect(errors, path, f"row {i} of row group {group}: "):
            target = _convert_row(row, directory, default_baseline)
            if target in paths:
              raise ValueError(f"gives {target.name}, as a row before it does")
            paths.append(target)
  return paths, errors


def _read_rows(file, group, directory):
  """Rows of a row group, one at a time; without bands if no tile is missing."""
  rows = file.read_row_group(group, columns=list(_KEYS)).to_pylist()
  names = (products.tile_name(_cell_name(row)) for row in rows)
  if all((pathlib.Path(directory) / name).exists() for name in names):
    yield from rows
    return
  for batch in file.iter_batches(1, [group], [*_KEYS, *products.BANDS]):
    yield from batch.to_pylist()


def _cell_name(row):
  return f"{row['product_id']}_{row['grid_cell']}"


def _convert_row(row, directory, default_baseline):
  """Makes a tile of one row of Major TOM, unless it is there."""
  if not _CELL.fullmatch(row["grid_cell"] or ""):
    raise ValueError(f"grid_cell {row['grid_cell']!r}, expected as 48U_704L")
  name = _cell_name(row)
  product = products.parse_product(name, default_baseline)
  target = pathlib.Path(directory) / products.tile_name(name)
  if target.exists():
    return target
  # The reader of tiles reads files; these are gone before the next row.
  with tempfile.TemporaryDirectory() as folder:
    files = {
      band: pathlib.Path(folder) / f"{band}.tif" for band in products.BANDS
    }
    for band, file in files.items():
      if row[band] is None:
        raise ValueError(f"{name}: band {band} missing")
      file.write_bytes(row[band])
    try:
      _write_patch(target, files, _MAJOR_TOM_SIDE, product.date)
    except tiles.TileError as error:
      band = pathlib.Path(error.path).stem
      raise ValueError(f"{name}: band {band}: {error.reason}") from error
  return target


def _write_patch(target, files, side, date):
  """Writes a tile of a patch that has a GeoTIFF a band."""
  opened = {}
  for band, file in files.items():
    tile = tiles.open_tile(file, np.uint16)
    if not opened:
      grid = dataclasses.replace(
        tile.grid, height=side, width=side, pixel_width=10.0, pixel_height=10.0
      )
    factor = products.upsampling_factor(band)
    expected = dataclasses.replace(
      grid,
      height=side // factor,
      width=side // factor,
      pixel_width=10.0 * factor,
      pixel_height=10.0 * factor,
    )
    same = np.allclose(
      dataclasses.astuple(tile.grid),
      dataclasses.astuple(expected),
      rtol=0,
      atol=1e-3,  # a millimetre
    )
    if tile.num_bands != 1 or not same:
      raise tiles.TileError(
        file, f"{tile.num_bands} x {tile.grid}, expected 1 x {expected}"
      )
    # Its only band, which the file leaves without a name.
    opened[band] = dataclasses.replace(tile, bands=(band,))

  def planes():
    for band, tile in opened.items():
      plane = tile.read([band])[..., 0]
      is_coarse = products.upsampling_factor(band) == 2
      yield products.upsample(plane) if is_coarse else plane

  tile_writer.write_planes(
    target, planes(), bands=tuple(files), grid=grid, dtype=np.uint16, date=date
  )
