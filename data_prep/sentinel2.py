"""Sentinel-2 Level-2A as a source: products and patch collections, as tiles.

A tile is a GeoTIFF `<product>_s2.tif` of uint16 at 10 m, whose name tells the
product; see `products`. What is none yet, `safe_products` and
`patch_collections` make one.
"""

import dataclasses
import functools
import os
import pathlib
import re
from typing import ClassVar

import tqdm

from data_prep import patch_collections, products, safe_products, sources, tiles
from data_prep.products import BANDS, BANDS_11

KINDS = ("tiles", "bigearthnet", "major_tom")


@dataclasses.dataclass(frozen=True)
class Sentinel2:
  """Tiles of a folder that somebody has.

  Attributes:
    kind: What is looked for, anywhere below the folder: "tiles", that is
      `*_s2.tif`, used where they are, and .SAFE folders and zips; "bigearthnet"
      or "major_tom", patches of these collections.
    default_baseline: Processing baseline of products whose name tells none.
  """

  bands: ClassVar[tuple[str, ...]] = BANDS
  # What records tell beside image, label, place and date.
  features: ClassVar[dict[str, type]] = {
    "product": str,
    "mgrs": str,
    "baseline": str,
    "relative_orbit": int,
    "cloud_fraction": float,
  }

  kind: str = "tiles"
  default_baseline: str | None = None

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(f"kind {self.kind!r}, expected {', '.join(KINDS)}")
    if self.default_baseline is not None:
      products.check_baseline(self.default_baseline)

  def fetch(self, download_dir, manual_dir):
    """Makes sure that the folder is there, before any work begins.

    Args:
      download_dir: Folder for downloads; there are none.
      manual_dir: Folder of the user's own files.

    Returns:
      The folder to read from.

    Raises:
      tiles.TileError: If there is no such folder.
    """
    del download_dir
    return sources.require_folder(manual_dir, "products")

  def cut_tiles(self, directory, folder, executor_map=map):
    """Makes the tiles that are not there yet.

    Args:
      directory: Where the tiles go that have to be made; made if missing.
      folder: As of `fetch`.
      executor_map: `map`, or that of an executor of processes.

    Returns:
      Paths of all tiles, sorted by name, and a list of `tiles.TileError`, one
      an input that failed.

    Raises:
      tiles.TileError: If there is nothing to make tiles of.
    """
    directory = sources.make_folder(directory)
    inputs, looked_for = self._find_inputs(folder, directory)
    if not inputs:
      raise tiles.TileError(folder, f"no {looked_for} in it or below")
    errors, tile_paths, origins, todo = [], {}, {}, []
    for path in inputs:
      # What a parquet file gives, only its rows tell.
      gives_many = path.suffix == ".parquet"
      name = products.tile_name(path.name)
      if gives_many or _claim(origins, name, path, errors):
        todo.append(path)
    convert = functools.partial(self.convert, directory=directory)
    with tqdm.tqdm(
      total=len(todo), desc="making tiles", unit="input", disable=None
    ) as bar:
      for path, (found, failed) in zip(
        todo, executor_map(convert, todo), strict=True
      ):
        bar.update()
        errors += failed
        for tile_path in found:
          if _claim(origins, tile_path.name, path, errors):
            tile_paths[tile_path.name] = tile_path
    return [tile_paths[name] for name in sorted(tile_paths)], errors

  def convert(self, path, directory):
    """Makes the tiles of one input; a task of its own for a process.

    Args:
      path: A tile, which stays where it is, or what a tile is made of.
      directory: Where tiles go that have to be made; it exists.

    Returns:
      A list of paths and one of `tiles.TileError`.
    """
    if self.kind == "major_tom":
      return patch_collections.convert_major_tom(
        path, directory, self.default_baseline
      )
    make = safe_products.convert_safe
    if self.kind == "bigearthnet":
      make = patch_collections.convert_bigearthnet
    paths, errors = [], []
    with sources.collect(errors, path):
      if self.kind == "tiles" and path.name.endswith("_s2.tif"):
        self.describe(path)  # that a name tells nothing is told here
        paths.append(path)
      else:
        paths.append(make(path, directory, self.default_baseline))
    return paths, errors

  def open_scene(self, tile):
    """Tells what a tile shows.

    Args:
      tile: A `tiles.Tile` that `cut_tiles` gave the path of.

    Returns:
      A `products.ProductScene`.

    Raises:
      ValueError: If the name of the tile tells no date or no baseline.
    """
    product = self.describe(tile.path)
    return products.ProductScene(
      date=product.date,
      # A tile that names no bands has those that are agreed upon.
      bands=BANDS_11 if "SCL" in (tile.bands or BANDS_11) else BANDS,
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
    """What the name of a tile tells.

    Args:
      path: A path that `cut_tiles` gave.

    Returns:
      A `products.Product`.

    Raises:
      ValueError: As of `products.parse_product`.
    """
    parse = products.parse_product
    if self.kind == "bigearthnet":
      parse = products.parse_patch
    return parse(pathlib.Path(path).name, self.default_baseline)

  def _find_inputs(self, folder, directory):
    """Files and folders to make tiles of, sorted, and what they were to be."""
    inputs, directory = [], directory.resolve()
    for root, folders, files in os.walk(folder):
      root = pathlib.Path(root)
      if root.resolve() == directory:
        folders.clear()
        continue
      if self.kind == "tiles":
        if root.name.endswith(".SAFE"):
          inputs.append(root)
          folders.clear()
          continue
        inputs += [
          root / name
          for name in files
          if name.endswith(("_s2.tif", ".zip")) and not name.startswith(".")
        ]
      elif self.kind == "bigearthnet":
        if any(re.search(r"_B(\d\d|8A)\.tif$", name) for name in files):
          inputs.append(root)
      else:
        # The one of that name lists all cells, without their bands.
        inputs += [
          root / name
          for name in files
          if name.endswith(".parquet") and name != "metadata.parquet"
        ]
    looked_for = {
      "tiles": "*_s2.tif, *.SAFE or *.zip",
      "bigearthnet": "folder with *_B02.tif and the other bands",
      "major_tom": "*.parquet with Major TOM's cells",
    }
    return sorted(inputs), looked_for[self.kind]


def _claim(origins, name, path, errors):
  """Whether `path` is the only one so far to give the tile of that name."""
  if origins.setdefault(name, path) == path:
    return True
  errors.append(
    tiles.TileError(path, f"gives {name}, as {origins[name]} does; left out")
  )
  return False
