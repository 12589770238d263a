"""Sentinel-2 products, Level-2A and 1C: names, and the meaning of pixels.

The name has date and processing baseline. Pixels are digital numbers (DN) of
uint16, with an offset from baseline 04.00 on; `ProductScene` subtracts it and
leaves out clouded patches.

References:
  Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, issue 15,
  2024.
"""

import collections
import dataclasses
import datetime
import re

import numpy as np

from data_prep import tile_source

# In the order of a tile.
BANDS_11 = (
  *("SCL", "B02", "B03", "B04", "B08"),
  *("B05", "B06", "B07", "B8A", "B11", "B12"),
)
BANDS = BANDS_11[1:]
# All that tiles may have; B10 is in Level-1C alone.
ALL_BANDS = (*BANDS, "B01", "B09", "B10")
_BANDS_10M = ("B02", "B03", "B04", "B08")

# From this baseline on each DN has 1000 added, which allows for reflectances
# below 0; DN 0 stays "no data".
_OFFSET_BASELINE = "04.00"
_OFFSET = 1000
# Scenes of 2017 and 2018, processed in 2018: some baseline before the offset.
_BIGEARTHNET_BASELINE = "02.00"

# Reasons for leaving patches out.
NO_DATA, CLOUD = "no data", "cloud"
# Classes of SCL: no data and defective; cloud of medium and high probability.
_NO_DATA_CLASSES = (0, 1)
_CLOUD_CLASSES = (8, 9)
# From this share of a patch on, it is left out.
_MAX_UNCLEAR = 0.1

# Rows of 20 m that are resampled at once: 32 bits a pixel, yet little memory.
_STRIP = 256

_SUFFIX = re.compile(r"(\.SAFE)?(\.zip)?$|(_train)?_s2\.(tif|npy)$")
# Planetary Computer leaves the baseline out; BigEarthNet 2 appends row and
# column, and tiles of Major TOM have their cell at the end.
_PRODUCT = re.compile(
  r"S2[ABC]_MSI(L2A|L1C)_(?P<time>\d{8}T\d{6})(_N(?P<baseline>\d{4}))?"
  r"_R(?P<orbit>\d{3})_T(?P<mgrs>\d{2}[A-Z]{3})(_\d{8}T\d{6})?"
  r"(_\d+_\d+|_\d+[UD]_\d+[LR])?"
)
_BIGEARTHNET = re.compile(r"S2[AB]_MSIL2A_(\d{8})T(\d{1,6})_\d+_\d+")
_BASELINE = re.compile(r"\d\d\.\d\d")


@dataclasses.dataclass(frozen=True)
class Product:
  """The parts of a product's name.

  Attributes:
    name: The name, without the suffix of a file.
    date: When it was sensed, UTC.
    baseline: Processing baseline, such as "04.00".
    mgrs: MGRS tile, such as "33UXP"; "" if the name has none.
    relative_orbit: 1 to 143; -1 if the name has none.
  """

  name: str
  date: datetime.datetime
  baseline: str
  mgrs: str
  relative_orbit: int


def parse_product(name, default_baseline=None):
  """Parses the name of a product, or of a file made of one, to a `Product`.

  Args:
    name: Such as `S2A_MSIL2A_20220105T101411_N0301_R022_T33UXP_20220105T...`
      or BigEarthNet's `S2A_MSIL2A_20170613T101031_87_48`, with or without a
      suffix `.SAFE`, `.zip`, `_s2.tif` or `_s2.npy`.
    default_baseline: Baseline of names that have none, or None. 99.xx counts as
      none: users of Sen2Cor make those products, with or without an offset.

  Raises:
    ValueError: The name is of another form, or has no baseline and there is no
      default.
  """
  name = strip_suffix(name)
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
      f"{name!r} is not the name of a Sentinel-2 product ({error}), expected"
      " S2A_MSIL2A_<yyyymmdd>T<hhmmss>_N<baseline>_R<orbit>_T<tile>_<...>"
    ) from None
  if baseline is None:
    baseline = default_baseline
  if baseline is None:
    raise ValueError(
      f"{name!r} has no processing baseline, which determines the offset of"
      " the pixels; --default_baseline gives one"
    )
  check_baseline(baseline)
  return Product(name, date, baseline, mgrs, orbit)


def _repair_time(digits):
  """Time of day in BigEarthNet's names, which lost zeros: 93020, 94161."""
  if len(digits) % 2 or int(digits[:2]) > 23:
    digits = "0" + digits
  digits = digits.ljust(6, "0")
  return datetime.timedelta(
    hours=min(int(digits[:2]), 23),
    minutes=min(int(digits[2:4]), 59),
    seconds=min(int(digits[4:6]), 59),
  )


def parse_patch(name, default_baseline=None):
  """`parse_product` for BigEarthNet; version 1 came before the offset."""
  if _BIGEARTHNET.fullmatch(strip_suffix(name)):
    default_baseline = _BIGEARTHNET_BASELINE
  return parse_product(name, default_baseline)


def strip_suffix(name):
  """Name of a product, without the suffix of its file."""
  return _SUFFIX.sub("", name, count=1)


def tile_name(name):
  """File name of the tile that is made of a product."""
  return f"{strip_suffix(name)}_s2.tif"


def check_baseline(baseline):
  """Raises ValueError unless a baseline can be compared as text."""
  if not _BASELINE.fullmatch(baseline):
    raise ValueError(f"baseline {baseline!r}, expected one such as '04.00'")


def remove_offset(pixels, baseline):
  """Converts DN of any bands but SCL to reflectance times 10,000.

  Args:
    pixels: DN, uint16, shape `[...]`.
    baseline: Processing baseline, such as "04.00".

  Returns:
    Array of uint16, shape `[...]`; 0 only where `pixels` is 0, no data.
  """
  pixels = np.asarray(pixels)
  if pixels.dtype != np.uint16:
    raise ValueError(f"pixels of {pixels.dtype}, expected uint16")
  check_baseline(baseline)
  if baseline < _OFFSET_BASELINE:
    return pixels
  reflectance = np.maximum(pixels, np.uint16(_OFFSET + 1))
  reflectance -= np.uint16(_OFFSET)
  # Restores 0; any other DN is above its reflectance.
  return np.minimum(reflectance, pixels, out=reflectance)


def upsampling_factor(band):
  """Tile pixels along the side of a pixel of the band: 1 or 2."""
  return 1 if band in _BANDS_10M else 2


def upsample(plane):
  """Doubles a band's rows and columns, bilinearly; areas stay where they are.

  Centres of the new pixels lie a quarter of an old pixel off the old centres:
  weights are 9, 3, 3 and 1 sixteenths. Next to no data (0) a pixel is its
  nearest one: a mixture with 0 would be a wrong reflectance.

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductScene(tile_source.Scene):
  """A product over a tile: reflectance without offset, of clear patches.

  Attributes:
    baseline: Processing baseline, which determines the offset.
    has_scl: Whether the tile has the band SCL.
  """

  baseline: str
  has_scl: bool = True

  def with_bands(self, bands):
    """See `tile_source.Scene.with_bands`; SCL comes first, if it is there."""
    scl = ("SCL",) * self.has_scl
    return dataclasses.replace(self, bands=(*scl, *bands))

  def prepare(self, patches):
    """See `tile_source.Scene.prepare`.

    Leaves out patches with 10 % or more pixels of no data, defects or cloud by
    SCL. Without SCL, pixels that are 0 in every band have no data, and the
    cloud fraction is NaN, unknown.
    """
    pixels = (1, 2)
    if self.has_scl:
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
    left_out = collections.Counter(
      {NO_DATA: int(is_empty.sum()), CLOUD: int(is_cloudy.sum())}
    )
    return features, ~is_empty & ~is_cloudy, left_out
