"""The twelve monthly images of Blue Marble 2004, from a folder or from NASA."""

import calendar
import dataclasses
import pathlib

import numpy as np
import pooch
import tqdm

from data_prep import rasters
from data_prep.rasters import HEIGHT, WIDTH
from data_prep.sources import earth
from data_prep.sources.earth import MONTHS, YEAR
from geojax import files

NASA = (
  "https://assets.science.nasa.gov/content/dam/science/esd/eo/images/bmng/"
  "bmng-base"
)
_TIMEOUT_S = 60


class BlueMarble(earth.Earth):
  """Tiles of the monthly images; see `download` for what is checked."""

  bands = ("red", "green", "blue")
  reads_buckets = False

  def fetch(self, download_dir, source_dir):
    """The folder with the images; downloads them without `--source`."""
    folder = pathlib.Path(download_dir if source_dir is None else source_dir)
    if source_dir is None:
      download(folder)
    for month in MONTHS:
      rasters.check_blue_marble(image_path(folder, month))
    return folder

  def open_month(self, folder, month):
    """See `earth.Earth.open_month`."""
    rgb = earth.wrap_east(rasters.read_blue_marble(image_path(folder, month)))
    return lambda rows, cols: rgb(rows, cols).astype(np.int16)


def image_path(folder, month):
  """Path of a month's image: `2004MM.jpg`, or NASA's own name of it."""
  names = (f"{YEAR}{month:02d}.jpg", _nasa_name(month))
  for name in names:
    if (folder / name).exists():
      return folder / name
  raise rasters.RasterError(
    folder,
    f"{names[0]} or {names[1]}",
    "neither",
    "put all twelve months there or leave --source out to download them",
  )


def download(folder, base_url=NASA):
  """Downloads the images that a folder lacks, from `base_url`.

  NASA publishes no checksums of these images. So each must be a whole colour
  JPEG of 5400 x 2700 pixels, and the SHA-256 of its first download is kept in
  the folder's `SHA256SUMS` (see the command sha256sum): a file that differs
  from it later is refused. The first download itself relies on HTTPS.

  Raises:
    rasters.RasterError: An image cannot be downloaded, is not as expected or
      differs from its first download.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for leftover in folder.glob("*.tmp"):
    leftover.unlink()
  sums, known = folder / "SHA256SUMS", {}
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
      with files.atomic(path) as temporary:
        _download(url, temporary)
        rasters.read_blue_marble(temporary)
        _check_sum(temporary, known.get(name), url)
    elif name in known:
      _check_sum(path, known[name], path)
    if name not in known:
      known[name] = rasters.sha256(path)
      text = "".join(f"{known[n]}  {n}\n" for n in sorted(known))
      files.write_text(sums, text)


def _nasa_name(month):
  return f"world.{YEAR}{month:02d}.3x{WIDTH}x{HEIGHT}.jpg"


def _download(url, path):
  # A stream that is refused midway is never closed by pooch. An image is a few
  # MB: it's read whole, which gives the connection back whatever the answer is.
  get = pooch.HTTPDownloader(timeout=_TIMEOUT_S, stream=False)
  try:
    get(url, path, None)
  except OSError as error:
    raise rasters.RasterError(
      url,
      "an image",
      f"{error}",
      "try again, or give a folder that has the images by --source",
    ) from error


def _check_sum(path, expected, shown_as):
  """Refuses a file that differs from its first download, if there was one."""
  found = rasters.sha256(path)
  if expected is not None and found != expected:
    raise rasters.RasterError(
      shown_as,
      f"SHA-256 {expected}",
      found,
      "it changed since its first download; if you trust it, delete its line "
      "in SHA256SUMS",
    )


CONFIG = dataclasses.replace(
  earth.CONFIG,
  name="blue_marble",
  description="The twelve monthly images of Blue Marble 2004.",
  source=BlueMarble(
    overlap=27,
    months_per_block=4,
    open_sea_kept=0.1,
    region=earth.SEEN_BY_SENTINEL_2,
  ),
  bands=BlueMarble.bands,
  scale=earth.RGB_SCALE,
)
