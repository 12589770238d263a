"""Major TOM Core-S2L2A: parquet files with a row a cell, a GeoTIFF a band.

References:
  Francis & Czerkawski, Major TOM: expandable datasets for Earth observation,
  IGARSS 2024.
"""

import dataclasses
import pathlib
import re
import tempfile
from typing import ClassVar

from pyarrow import parquet

from data_prep import products, tiles
from data_prep.sources import bigearthnet, sentinel2

# Pixels of 10 m along a side of a cell.
_SIDE = 1068
# Columns that name a cell.
_KEYS = ("product_id", "grid_cell")
_CELL = re.compile(r"\d+[UD]_\d+[LR]")


@dataclasses.dataclass(frozen=True)
class MajorTom(sentinel2.Sentinel2):
  """Parquet files anywhere below a folder; the cells' tiles have no SCL.

  Tiles lie where the GeoTIFFs say. Those have one corner in all bands, that of
  the cell, which lies between pixels of the product, whereas the pixels seem to
  be the product's nearest, unresampled: a band may lie half a pixel off.
  """

  reads_buckets: ClassVar[bool] = False
  looked_for: ClassVar[str] = "*.parquet with Major TOM's cells"

  kind: str = "major_tom"

  def inputs_in(self, root, folders, files):
    """See `TileSource.inputs_in`; metadata.parquet has no bands."""
    del folders
    return [
      root / name
      for name in files
      if name.endswith(".parquet") and name != "metadata.parquet"
    ]

  def tile_name(self, path):
    """None: only the rows of a file tell."""
    del path

  def convert(self, path, directory):
    """See `TileSource.convert`; a row that fails is one error."""
    path = pathlib.Path(path)
    paths, errors = [], []
    collect = tiles.collect_errors
    with collect(errors, path), parquet.ParquetFile(path) as file:
      columns = file.schema_arrow.names
      if missing := [c for c in (*_KEYS, *products.BANDS) if c not in columns]:
        raise ValueError(
          f"column {', '.join(missing)} missing, it has {', '.join(columns)}"
        )
      for group in range(file.num_row_groups):
        with collect(errors, path, f"row group {group}: "):
          for i, row in enumerate(_read_rows(file, group, directory)):
            with collect(errors, path, f"row {i} of row group {group}: "):
              target = self._convert_row(row, directory)
              if target in paths:
                raise ValueError(
                  f"gives {target.name}, as a row before it does"
                )
              paths.append(target)
    return paths, errors

  def _convert_row(self, row, directory):
    """Makes the tile of one row, unless it exists; returns its path."""
    if not _CELL.fullmatch(row["grid_cell"] or ""):
      raise ValueError(f"grid_cell {row['grid_cell']!r}, expected as 48U_704L")
    name = _cell_name(row)
    product = self.describe(name)
    target = pathlib.Path(directory) / products.tile_name(name)
    if target.exists():
      return target
    # Tiles are read from files; these are deleted before the next row.
    with tempfile.TemporaryDirectory() as folder:
      files = {
        band: pathlib.Path(folder) / f"{band}.tif" for band in products.BANDS
      }
      for band, file in files.items():
        if row[band] is None:
          raise ValueError(f"{name}: band {band} missing")
        file.write_bytes(row[band])
      try:
        bigearthnet.write_tile(target, files, _SIDE, product.date)
      except tiles.TileError as error:
        band = pathlib.Path(error.path).stem
        raise ValueError(f"{name}: band {band}: {error.reason}") from error
    return target


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


CONFIG = dataclasses.replace(
  sentinel2.CONFIG,
  name="major_tom",
  description="Major TOM Core-S2L2A, parquet files with a row a cell.",
  source=MajorTom(),
)
