"""Sentinel-2: tiles, Level-2A .SAFE products or zips of them.

A tile is a GeoTIFF `<product>_s2.tif` of uint16 at 10 m whose name is that of
the product, see `products`; `safe_products` makes one of a product. Bands that
the file names may be in any order, and more than images have.
"""

import dataclasses
import pathlib
from typing import ClassVar

from data_prep import (
  configs,
  places,
  products,
  safe_products,
  splits,
  tile_source,
  tiles,
)
from data_prep.products import BANDS, BANDS_11
from geojax import files


@dataclasses.dataclass(frozen=True)
class Sentinel2(tile_source.TileSource):
  """Tiles and products anywhere below a folder.

  Attributes:
    kind: Name of the kind of input, part of a data set's settings.
    default_baseline: Processing baseline of products whose name has none.
    date_from: Regular expression whose group is the date in a file's name; then
      tiles need not have the name of a product.
  """

  bands: ClassVar[tuple[str, ...]] = products.ALL_BANDS
  features: ClassVar[dict[str, type]] = {
    "product": str,
    "mgrs": str,
    "baseline": str,
    "relative_orbit": int,
    "cloud_fraction": float,
  }
  contents: ClassVar[str] = "products"
  looked_for: ClassVar[str] = "*_s2.tif, *.SAFE or *.zip"

  kind: str = "tiles"
  default_baseline: str | None = None
  date_from: str = ""

  def __post_init__(self):
    if self.default_baseline is not None:
      products.check_baseline(self.default_baseline)
    tile_source.date_parser(self.date_from)
    if self.date_from and self.kind != "tiles":
      raise ValueError(
        f"config {self.kind} reads dates off the names of products; leave out"
        " --date_from"
      )

  def inputs_in(self, root, folders, names):
    """See `TileSource.inputs_in`."""
    if root.name.endswith(".SAFE"):
      folders.clear()
      return [root]
    endings = (".tif", ".tiff") if self.date_from else ("_s2.tif", ".zip")
    return [root / name for name in names if name.endswith(endings)]

  def tile_name(self, path):
    """See `TileSource.tile_name`."""
    if self.date_from:
      return path.name
    return products.tile_name(path.name)

  def convert(self, path, directory):
    """See `TileSource.convert`."""
    paths, errors = [], []
    with tiles.collect_errors(errors, path):
      if self.date_from or path.name.endswith("_s2.tif"):
        self.describe(path)  # Reports names that have no date or baseline.
        paths.append(path)
      elif not (files.is_local(path) and files.is_local(directory)):
        raise ValueError(
          "a product, of which no tile is made in a bucket; build from it on a"
          " machine with a disk, and copy the tile that this makes"
        )
      else:
        paths.append(self.make_tile(path, directory))
    return paths, errors

  def make_tile(self, path, directory):
    """Makes the tile of one input, unless it exists; returns its path."""
    return safe_products.convert_safe(path, directory, self.default_baseline)

  def open_scene(self, tile):
    """See `TileSource.open_scene`."""
    product = self.describe(tile.path)
    return products.ProductScene(
      date=product.date,
      # Tiles without names of bands have those of `BANDS_11`.
      bands=BANDS,
      has_scl="SCL" in (tile.bands or BANDS_11),
      order=BANDS_11,
      baseline=product.baseline,
      about={
        "product": product.name,
        "mgrs": product.mgrs,
        "baseline": product.baseline,
        "relative_orbit": product.relative_orbit,
      },
    )

  def describe(self, path):
    """Returns the `products.Product` of a path's name."""
    name = pathlib.Path(path).name
    if not self.date_from:
      return products.parse_product(name, self.default_baseline)
    if self.default_baseline is None:
      raise ValueError(
        "--date_from needs --default_baseline, which determines the offset of"
        " the pixels"
      )
    return products.Product(
      name=products.strip_suffix(name),
      date=tile_source.date_parser(self.date_from)(name),
      baseline=self.default_baseline,
      mgrs="",
      relative_orbit=-1,
    )


CONFIG = configs.GeoTilesConfig(
  name="sentinel2",
  description="Sentinel-2 Level-2A: tiles, .SAFE products or zips of them.",
  source=Sentinel2(),
  bands=BANDS,
  # Reflectance 0.2 +- 0.2.
  scale=((2000, 2000),) * len(BANDS),
  dtype="uint16",
  patches=places.PatchRule(
    size=128,
    stride=128,
    # A patch's 1.28 km are 0.1 degrees of longitude at 83 N.
    split=splits.SplitRule(block_deg=1, buffer_deg=0.1, inset_deg=0),
  ),
)
