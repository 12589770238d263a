"""Tiles of .SAFE products of Sentinel-2 Level-2A, folders or zips.

A tile is a GeoTIFF `<product>_s2.tif` of uint16 at 10 m with the product's DN;
bands of 20 m are resampled bilinearly, the classes of SCL by nearest neighbour.

References:
  Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, issue 15,
  2024.
"""

import contextlib
import pathlib
import re
import xml.etree.ElementTree as ElementTree
import zipfile

import imagecodecs
import numpy as np

from data_prep import grids, products, tile_writer, tiles


def convert_safe(path, directory, default_baseline=None):
  """Makes a tile of `products.BANDS_11` of a product, unless it exists.

  Args:
    path: The .SAFE folder, or a zip of it, which is read in place.
    directory: Folder for the tile; it exists.
    default_baseline: Baseline of names that have none, or None.

  Returns:
    Path of the tile.

  Raises:
    tiles.TileError: A file is missing, corrupt or of another size.
  """
  path = pathlib.Path(path)
  with tiles.as_tile_error(path):
    product = products.parse_product(path.name, default_baseline)
    target = pathlib.Path(directory) / products.tile_name(product.name)
    if target.exists():
      return target
    with _open_safe(path) as (names, read):
      metadata = _find(names, "MTD_TL.xml")
      root = metadata.partition("GRANULE/")[0].strip("/")
      if root and products.strip_suffix(root) != product.name:
        raise ValueError(f"holds {root}, expected {product.name}.SAFE")
      grid = _read_grid(read(metadata))
      # Finds all of them before the first is decoded, which takes a while.
      members = {
        band: _find(names, f"IMG_DATA/R{res}m/*_{band}_{res}m.jp2")
        for band in products.BANDS_11
        for res in [10 * products.upsampling_factor(band)]
      }
      planes = (
        _read_jp2(read(member), band, grid) for band, member in members.items()
      )
      tile_writer.write_planes(
        target,
        planes,
        bands=products.BANDS_11,
        grid=grid,
        dtype=np.uint16,
        date=product.date,
      )
  return target


@contextlib.contextmanager
def _open_safe(path):
  """Yields the names of a product's files, and a function that reads one."""
  if path.is_dir():
    names = [file.relative_to(path).as_posix() for file in path.rglob("*")]
    yield names, lambda name: (path / name).read_bytes()
    return
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    for name in names:
      # Also recognises backslashes and drives.
      member = pathlib.PureWindowsPath(name)
      if member.anchor or ".." in member.parts:
        raise ValueError(f"member {name} lies outside of the zip's folder")
    yield names, archive.read


def _find(names, pattern):
  """The only file of a product's granule that matches a pattern."""
  regex = re.escape(f"GRANULE/*/{pattern}").replace(r"\*", "[^/]*")
  found = [name for name in names if re.fullmatch(f"([^/]+/)?{regex}", name)]
  if len(found) != 1:
    raise ValueError(f"{len(found)} files GRANULE/*/{pattern}, expected 1")
  return found[0]


def _read_grid(metadata):
  """The grid of the 10 m pixels, from the bytes of MTD_TL.xml."""
  try:
    root = ElementTree.fromstring(metadata)
  except ElementTree.ParseError as error:
    raise ValueError(f"MTD_TL.xml is not XML: {error}") from error

  def number(path, pattern, expected):
    text = (root.findtext(f".//{path}") or "").strip()
    if not re.fullmatch(pattern, text):
      raise ValueError(f"MTD_TL.xml: {path} is {text!r}, expected {expected}")
    return float(text.removeprefix("EPSG:"))

  size, corner = "Size[@resolution='10']", "Geoposition[@resolution='10']"
  even = r"\d*[02468]", "an even number"
  metres = r"-?\d+(\.\d+)?", "metres"
  return grids.Grid(
    height=int(number(f"{size}/NROWS", *even)),
    width=int(number(f"{size}/NCOLS", *even)),
    west=number(f"{corner}/ULX", *metres),
    north=number(f"{corner}/ULY", *metres),
    pixel_width=number(f"{corner}/XDIM", "10", "10"),
    pixel_height=-number(f"{corner}/YDIM", "-10", "-10"),
    epsg=int(number("HORIZONTAL_CS_CODE", r"EPSG:\d+", "EPSG:<code>")),
  )


def _read_jp2(data, band, grid):
  """Decodes a band and resamples it to 10 m."""
  try:
    plane = imagecodecs.jpeg2k_decode(data)
  except Exception as error:
    raise ValueError(f"band {band}: {error}") from error
  shape = (
    grid.height // products.upsampling_factor(band),
    grid.width // products.upsampling_factor(band),
  )
  dtype = np.uint8 if band == "SCL" else np.uint16
  if (plane.shape, plane.dtype) != (shape, dtype):
    raise ValueError(
      f"band {band} is {plane.dtype} of {plane.shape}, expected"
      f" {np.dtype(dtype)} of {shape}"
    )
  if band == "SCL":
    # Classes cannot be interpolated.
    return plane.repeat(2, axis=0).repeat(2, axis=1)
  return (
    products.upsample(plane) if products.upsampling_factor(band) == 2 else plane
  )
