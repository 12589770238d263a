"""Sentinel-2 Level-2A: products and patch collections, made tiles of one kind.

A tile is a GeoTIFF `<product>_s2.tif` of uint16 at 10 m, digital numbers (DN)
as the product has them; bands of 20 m are bilinear, the scene classification
SCL is nearest neighbour. Date and processing baseline are read off the name.
`Sentinel2` is the source; the `convert_*` functions make tiles of

* .SAFE products, folders or zips,
* BigEarthNet's patches, a folder a patch and a GeoTIFF a band,
* Major TOM Core-S2L2A, parquet files with a row a cell and a GeoTIFF a band.

References:
  Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, issue 15,
  2024.
  Sumbul et al., BigEarthNet: a large-scale benchmark archive for remote
  sensing image understanding, IGARSS 2019.
  Francis & Czerkawski, Major TOM: expandable datasets for Earth observation,
  IGARSS 2024.
"""

import collections
import contextlib
import dataclasses
import datetime
import functools
import importlib.util
import os
import pathlib
import re
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from typing import ClassVar

import imagecodecs
import numpy as np
import tqdm

from data_prep import scenes, tiles

# In the order of a tile.
BANDS_11 = (
  *("SCL", "B02", "B03", "B04", "B08"),
  *("B05", "B06", "B07", "B8A", "B11", "B12"),
)
BANDS = BANDS_11[1:]
_BANDS_10M = ("B02", "B03", "B04", "B08")

KINDS = ("tiles", "bigearthnet", "major_tom")

# From this baseline on 1000 is added to each DN, so that reflectances below 0
# can be told; DN 0 stays "no data".
_OFFSET_BASELINE = "04.00"
_OFFSET = 1000
# Scenes of 2017 and 2018, processed in 2018: some baseline before the offset.
_BIGEARTHNET_BASELINE = "02.00"

# Pixels along a side of a patch at 10 m.
_BIGEARTHNET_SIDE = 120
_MAJOR_TOM_SIDE = 1068

# Rows of 20 m that are resampled at once: 32 bits a pixel, yet little memory.
_STRIP = 256

_SUFFIX = re.compile(r"(\.SAFE)?(\.zip)?$|(_train)?_s2\.(tif|npy)$")
# Planetary Computer leaves the baseline out; BigEarthNet 2 appends row and
# column, and tiles of Major TOM have their cell at the end.
_PRODUCT = re.compile(
  r"S2[ABC]_MSIL2A_(?P<time>\d{8}T\d{6})(_N(?P<baseline>\d{4}))?"
  r"_R(?P<orbit>\d{3})_T(?P<mgrs>\d{2}[A-Z]{3})(_\d{8}T\d{6})?"
  r"(_\d+_\d+|_\d+[UD]_\d+[LR])?"
)
_BIGEARTHNET = re.compile(r"S2[AB]_MSIL2A_(\d{8})T(\d{1,6})_\d+_\d+")
# Columns of Major TOM that name a cell.
_KEYS = ("product_id", "grid_cell")
_CELL = re.compile(r"\d+[UD]_\d+[LR]")
_BASELINE = re.compile(r"\d\d\.\d\d")


@dataclasses.dataclass(frozen=True)
class Product:
  """What a product's name tells.

  Attributes:
    name: The name, without any suffix of a file.
    date: When it was sensed, UTC.
    baseline: Processing baseline, such as "04.00".
    mgrs: MGRS tile, such as "33UXP"; "" where the name tells none.
    relative_orbit: 1 to 143; -1 where the name tells none.
  """

  name: str
  date: datetime.datetime
  baseline: str
  mgrs: str
  relative_orbit: int


def parse_product(name, default_baseline=None):
  """Reads what the name of a product, or of a file made of one, tells.

  Args:
    name: Such as `S2A_MSIL2A_20220105T101411_N0301_R022_T33UXP_20220105T...`
      or BigEarthNet's `S2A_MSIL2A_20170613T101031_87_48`; suffixes `.SAFE`,
      `.zip`, `_s2.tif` and `_s2.npy` are cut off.
    default_baseline: Baseline of names that tell none, or None. Baselines of
      99.xx are none: those products are made by users of Sen2Cor, with an
      offset or without.

  Returns:
    A `Product`.

  Raises:
    ValueError: If the name is of another form or tells no baseline and there
      is no default.
  """
  name = _SUFFIX.sub("", name, count=1)
  baseline, mgrs, orbit = None, "", -1
  try:
    if match := _PRODUCT.fullmatch(name):
      date = datetime.datetime.strptime(match["time"], "%Y%m%dT%H%M%S")
      mgrs, orbit = match["mgrs"], int(match["orbit"])
      if (digits := match["baseline"]) and not digits.startswith("99"):
        baseline = f"{digits[:2]}.{digits[2:]}"
    elif match := _BIGEARTHNET.fullmatch(name):
      date = datetime.datetime.strptime(match[1], "%Y%m%d")
      date += _repair_time(match[2])
    else:
      raise ValueError("of another form")
  except ValueError as error:
    raise ValueError(
      f"{name!r} is no name of a Level-2A product ({error}), expected"
      " S2A_MSIL2A_<yyyymmdd>T<hhmmss>_N<baseline>_R<orbit>_T<tile>_<...>"
    ) from None
  if baseline is None:
    baseline = default_baseline
  if baseline is None:
    raise ValueError(
      f"{name!r} does not tell the processing baseline, on which the offset of"
      " the pixels depends; the config key default_baseline gives one"
    )
  _check_baseline(baseline)
  return Product(name, date, baseline, mgrs, orbit)


def _repair_time(digits):
  """Time of day of BigEarthNet's names, which lost zeros: 93020, 94161."""
  if len(digits) % 2 or int(digits[:2]) > 23:
    digits = "0" + digits
  digits = digits.ljust(6, "0")
  return datetime.timedelta(
    hours=min(int(digits[:2]), 23),
    minutes=min(int(digits[2:4]), 59),
    seconds=min(int(digits[4:6]), 59),
  )


def _check_baseline(baseline):
  """Baselines are compared as text: only where they are of one form."""
  if not _BASELINE.fullmatch(baseline):
    raise ValueError(f"baseline {baseline!r}, expected one such as '04.00'")


def remove_offset(pixels, baseline):
  """Makes DN of all baselines alike: reflectance times 10,000.

  Not for SCL, whose values are classes.

  Args:
    pixels: DN of any bands but SCL, uint16, shape `[...]`.
    baseline: Processing baseline, such as "04.00".

  Returns:
    Array of uint16, shape `[...]`; 0 only where `pixels` is 0, no data.

  Raises:
    ValueError: If the pixels are not uint16 or the baseline has another form.
  """
  pixels = np.asarray(pixels)
  if pixels.dtype != np.uint16:
    raise ValueError(f"pixels of {pixels.dtype}, expected uint16")
  _check_baseline(baseline)
  if baseline < _OFFSET_BASELINE:
    return pixels
  reflectance = np.maximum(pixels, np.uint16(_OFFSET + 1))
  reflectance -= np.uint16(_OFFSET)
  # 0 stays, and nothing else is below its reflectance.
  return np.minimum(reflectance, pixels, out=reflectance)


def upsample(plane):
  """Doubles a band's rows and columns, bilinearly; areas stay where they are.

  Centres of the new pixels lie a quarter of an old pixel off the old centres:
  weights are 9, 3, 3 and 1 sixteenths. Next to no data (0) a pixel is that of
  the nearest: a mixture with 0 would be a reflectance that nobody measured.

  Args:
    plane: uint16, shape `[height, width]`.

  Returns:
    uint16, shape `[2 * height, 2 * width]`, rounded, halves up.
  """
  height, width = plane.shape
  padded = np.pad(plane, 1, "edge")
  fine = np.empty((2 * height, 2 * width), np.uint16)
  for top in range(0, height, _STRIP):
    bottom = min(top + _STRIP, height)
    rows = padded[top : bottom + 2].astype(np.uint32)
    near = rows[1:-1]
    for i, far in enumerate((rows[:-2], rows[2:])):
      column, valid = 3 * near + far, (near != 0) & (far != 0)
      for j, side in enumerate((slice(None, -2), slice(2, None))):
        fine[2 * top + i : 2 * bottom : 2, j::2] = np.where(
          valid[:, 1:-1] & valid[:, side],
          (3 * column[:, 1:-1] + column[:, side] + 8) // 16,
          near[:, 1:-1],
        )
  return fine


def convert_safe(path, directory, default_baseline=None):
  """Makes a tile of a .SAFE product, unless it is there.

  Args:
    path: The .SAFE folder, or a zip of it, which is read in place.
    directory: Folder for the tile; it exists.
    default_baseline: Baseline of names that tell none, or None.

  Returns:
    Path of the tile, which has `BANDS_11`.

  Raises:
    tiles.TileError: If the name does not parse, or a file of the product is
      missing, corrupt or of another size than the others.
  """
  path = pathlib.Path(path)
  with _as_tile_error(path):
    product = parse_product(path.name, default_baseline)
    target = _target(directory, product.name)
    if target.exists():
      return target
    with _open_safe(path) as (names, read):
      metadata = _find(names, "MTD_TL.xml")
      root = metadata.partition("GRANULE/")[0].strip("/")
      if root and _SUFFIX.sub("", root, count=1) != product.name:
        raise ValueError(f"holds {root}, expected {product.name}.SAFE")
      grid = _read_grid(read(metadata))
      # All of them before the first is decoded, which takes a while.
      members = {
        band: _find(names, f"IMG_DATA/R{res}m/*_{band}_{res}m.jp2")
        for band in BANDS_11
        for res in [10 * _factor(band)]
      }
      planes = (
        _read_jp2(read(member), band, grid) for band, member in members.items()
      )
      tiles.write_planes(
        target,
        planes,
        bands=BANDS_11,
        grid=grid,
        dtype=np.uint16,
        date=product.date,
      )
  return target


def convert_bigearthnet(folder, directory, default_baseline=None):
  """Makes a tile of one of BigEarthNet's patches, unless it is there.

  Args:
    folder: The patch's folder, with a GeoTIFF a band.
    directory: Folder for the tile; it exists.
    default_baseline: Baseline of the names of version 2, N9999, which tell
      none. Version 1 is known to come before the offset.

  Returns:
    Path of the tile, which has `BANDS`.

  Raises:
    tiles.TileError: If the name does not parse, or a band is missing, corrupt
      or lies elsewhere than the others.
  """
  folder = pathlib.Path(folder)
  with _as_tile_error(folder):
    product = _parse_patch(folder.name, default_baseline)
    target = _target(directory, product.name)
    if not target.exists():
      files = {band: folder / f"{folder.name}_{band}.tif" for band in BANDS}
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
    The tiles' paths, which have `BANDS`, and a list of `tiles.TileError`, one
    a row that failed.
  """
  # Only this source needs it.
  from pyarrow import parquet

  path = pathlib.Path(parquet_path)
  paths, errors = [], []
  with _collect(errors, path), parquet.ParquetFile(path) as file:
    columns = file.schema_arrow.names
    if missing := [c for c in (*_KEYS, *BANDS) if c not in columns]:
      raise ValueError(
        f"column {', '.join(missing)} missing, it has {', '.join(columns)}"
      )
    for group in range(file.num_row_groups):
      with _collect(errors, path, f"row group {group}: "):
        for i, row in enumerate(_read_rows(file, group, directory)):
          with _collect(errors, path, f"row {i} of row group {group}: "):
            target = _convert_row(row, directory, default_baseline)
            if target in paths:
              raise ValueError(f"gives {target.name}, as a row before it does")
            paths.append(target)
  return paths, errors


def _read_rows(file, group, directory):
  """Rows of a row group, one at a time; without bands if no tile is missing."""
  rows = file.read_row_group(group, columns=list(_KEYS)).to_pylist()
  if all(_target(directory, _cell_name(row)).exists() for row in rows):
    yield from rows
    return
  for batch in file.iter_batches(1, [group], [*_KEYS, *BANDS]):
    yield from batch.to_pylist()


def _cell_name(row):
  return f"{row['product_id']}_{row['grid_cell']}"


def _convert_row(row, directory, default_baseline):
  """Makes a tile of one row of Major TOM, unless it is there."""
  if not _CELL.fullmatch(row["grid_cell"] or ""):
    raise ValueError(f"grid_cell {row['grid_cell']!r}, expected as 48U_704L")
  name = _cell_name(row)
  product = parse_product(name, default_baseline)
  target = _target(directory, name)
  if target.exists():
    return target
  # The reader of tiles reads files; these are gone before the next row.
  with tempfile.TemporaryDirectory() as folder:
    files = {band: pathlib.Path(folder) / f"{band}.tif" for band in BANDS}
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
    factor = _factor(band)
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
      yield upsample(plane) if _factor(band) == 2 else plane

  tiles.write_planes(
    target, planes(), bands=tuple(files), grid=grid, dtype=np.uint16, date=date
  )


def _factor(band):
  """Pixels of a tile along the side of a pixel of the band."""
  return 1 if band in _BANDS_10M else 2


def _parse_patch(name, default_baseline):
  """`parse_product` for BigEarthNet, of whose first version it is known."""
  if _BIGEARTHNET.fullmatch(_SUFFIX.sub("", name, count=1)):
    default_baseline = _BIGEARTHNET_BASELINE
  return parse_product(name, default_baseline)


def _target(directory, name):
  return pathlib.Path(directory) / f"{name}_s2.tif"


@contextlib.contextmanager
def _as_tile_error(path):
  """Whatever fails is told with the file's name."""
  try:
    yield
  except tiles.TileError:
    raise
  except Exception as error:
    # Decoders raise what they like, and so does a full disk.
    raise tiles.TileError(path, str(error) or repr(error)) from error


@contextlib.contextmanager
def _collect(errors, path, where=""):
  """Puts what fails into a list, so that the rest goes on."""
  try:
    yield
  except tiles.TileError as error:
    errors.append(error)
  except Exception as error:
    errors.append(tiles.TileError(path, f"{where}{str(error) or repr(error)}"))


@contextlib.contextmanager
def _open_safe(path):
  """Opens a product's folder or zip.

  Yields:
    The files' names, with slashes, and a function that reads a file by name.
  """
  if path.is_dir():
    names = [file.relative_to(path).as_posix() for file in path.rglob("*")]
    yield names, lambda name: (path / name).read_bytes()
    return
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    for name in names:
      # Knows backslashes and drives, on which a zip may try the same.
      member = pathlib.PureWindowsPath(name)
      if member.anchor or ".." in member.parts:
        raise ValueError(f"member {name} lies outside of the zip's folder")
    yield names, archive.read


def _find(names, pattern):
  """The one file of a product's granule that is called so."""
  regex = re.escape(f"GRANULE/*/{pattern}").replace(r"\*", "[^/]*")
  found = [name for name in names if re.fullmatch(f"([^/]+/)?{regex}", name)]
  if len(found) != 1:
    raise ValueError(f"{len(found)} files GRANULE/*/{pattern}, expected 1")
  return found[0]


def _read_grid(metadata):
  """Where the 10 m pixels lie, from the bytes of MTD_TL.xml."""
  try:
    root = ElementTree.fromstring(metadata)
  except ElementTree.ParseError as error:
    raise ValueError(f"MTD_TL.xml is no XML: {error}") from error

  def number(path, pattern, expected):
    text = (root.findtext(f".//{path}") or "").strip()
    if not re.fullmatch(pattern, text):
      raise ValueError(f"MTD_TL.xml: {path} is {text!r}, expected {expected}")
    return float(text.removeprefix("EPSG:"))

  size, corner = "Size[@resolution='10']", "Geoposition[@resolution='10']"
  even = r"\d*[02468]", "an even number"
  metres = r"-?\d+(\.\d+)?", "metres"
  return tiles.Grid(
    height=int(number(f"{size}/NROWS", *even)),
    width=int(number(f"{size}/NCOLS", *even)),
    west=number(f"{corner}/ULX", *metres),
    north=number(f"{corner}/ULY", *metres),
    pixel_width=number(f"{corner}/XDIM", "10", "10"),
    pixel_height=-number(f"{corner}/YDIM", "-10", "-10"),
    epsg=int(number("HORIZONTAL_CS_CODE", r"EPSG:\d+", "EPSG:<code>")),
  )


def _read_jp2(data, band, grid):
  """Decodes a band of a product at 10 m."""
  try:
    plane = imagecodecs.jpeg2k_decode(data)
  except Exception as error:
    raise ValueError(f"band {band}: {error}") from error
  shape = grid.height // _factor(band), grid.width // _factor(band)
  dtype = np.uint8 if band == "SCL" else np.uint16
  if (plane.shape, plane.dtype) != (shape, dtype):
    raise ValueError(
      f"band {band} is {plane.dtype} of {plane.shape}, expected"
      f" {np.dtype(dtype)} of {shape}"
    )
  if band == "SCL":
    # Between two classes there is none.
    return plane.repeat(2, axis=0).repeat(2, axis=1)
  return upsample(plane) if _factor(band) == 2 else plane


# What is left out of a record's patches, and why.
NO_DATA, CLOUD = "no data", "cloud"
# Classes of SCL: no data and defective; cloud of medium and high probability.
_NO_DATA_CLASSES = (0, 1)
_CLOUD_CLASSES = (8, 9)
# From this share of a patch on, it is left out.
_MAX_UNCLEAR = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentinel2Scene(scenes.Scene):
  """One product over a tile: reflectance without offset, clear patches alone.

  Attributes:
    baseline: Processing baseline, on which the offset depends.
  """

  baseline: str

  def prepare(self, patches):
    """Makes images of patches; see `scenes.Scene.prepare`.

    A patch is left out where 10 % or more of its pixels are no data, defective
    or cloud by SCL. Without SCL, no data is what is 0 in every band, and the
    cloud fraction is unknown: NaN.
    """
    pixels = (1, 2)
    if self.bands == BANDS_11:
      scl, patches = patches[..., 0], patches[..., 1:]
      empty = np.isin(scl, _NO_DATA_CLASSES).mean(pixels)
      cloud = np.isin(scl, _CLOUD_CLASSES).mean(pixels)
    else:
      empty = (patches == 0).all(-1).mean(pixels)
      cloud = np.full(len(patches), np.nan)
    unclear = empty + np.nan_to_num(cloud)
    is_empty = empty >= _MAX_UNCLEAR
    is_cloudy = ~is_empty & (unclear >= _MAX_UNCLEAR)
    features = {
      "image": remove_offset(patches, self.baseline),
      "cloud_fraction": cloud.astype(np.float32),
    }
    left_out = {NO_DATA: is_empty.sum(), CLOUD: is_cloudy.sum()}
    return (
      features,
      ~is_empty & ~is_cloudy,
      collections.Counter(
        {reason: int(count) for reason, count in left_out.items()}
      ),
    )


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
      _check_baseline(self.default_baseline)

  def fetch(self, download_dir, manual_dir):
    """Makes sure that the folder is there, before any work begins.

    Args:
      download_dir: Folder for downloads; there are none.
      manual_dir: Folder of the user's own files.

    Returns:
      The folder to read from.

    Raises:
      tiles.TileError: If there is no such folder, or nothing to read it with.
    """
    del download_dir
    if manual_dir is None or not pathlib.Path(manual_dir).is_dir():
      raise tiles.TileError(
        manual_dir or "Sentinel-2",
        "no such folder; pass --source=FOLDER, where you have the products",
      )
    # Only Major TOM needs it; told here rather than by each of its files.
    if self.kind == "major_tom" and not importlib.util.find_spec("pyarrow"):
      raise tiles.TileError(
        manual_dir, "Python's package pyarrow is missing, which reads parquet"
      )
    return pathlib.Path(manual_dir)

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
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(".*.tmp"):
      leftover.unlink()
    inputs, looked_for = self._find_inputs(folder, directory)
    if not inputs:
      raise tiles.TileError(folder, f"no {looked_for} in it or below")
    errors, tile_paths, origins, todo = [], {}, {}, []
    for path in inputs:
      # What a parquet file gives, only its rows tell.
      name = None if path.suffix == ".parquet" else _tile_name(path)
      if name is None or _claim(origins, name, path, errors):
        todo.append(path)
    convert = functools.partial(_convert, self, directory)
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

  def open_scene(self, tile):
    """Tells what a tile shows.

    Args:
      tile: A `tiles.Tile` that `cut_tiles` gave the path of.

    Returns:
      A `Sentinel2Scene`.

    Raises:
      ValueError: If the name of the tile tells no date or no baseline.
    """
    product = self.describe(tile.path)
    return Sentinel2Scene(
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
      A `Product`.

    Raises:
      ValueError: As of `parse_product`.
    """
    parse = _parse_patch if self.kind == "bigearthnet" else parse_product
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


def _tile_name(path):
  return f"{_SUFFIX.sub('', path.name, count=1)}_s2.tif"


def _claim(origins, name, path, errors):
  """Whether `path` is the only one so far to give the tile of that name."""
  if origins.setdefault(name, path) == path:
    return True
  errors.append(
    tiles.TileError(path, f"gives {name}, as {origins[name]} does; left out")
  )
  return False


def _convert(source, directory, path):
  """Makes the tiles of one input; a task of its own for a process.

  Returns:
    A list of paths and one of `tiles.TileError`.
  """
  if source.kind == "major_tom":
    return convert_major_tom(path, directory, source.default_baseline)
  paths, errors = [], []
  with _collect(errors, path):
    if source.kind == "bigearthnet":
      paths.append(
        convert_bigearthnet(path, directory, source.default_baseline)
      )
    elif path.name.endswith("_s2.tif"):
      source.describe(path)  # that a name tells nothing is told here
      paths.append(path)
    else:
      paths.append(convert_safe(path, directory, source.default_baseline))
  return paths, errors
