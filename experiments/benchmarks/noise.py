"""Made-up inputs: a Sentinel-2 tile of smooth noise, and labels."""

import numpy as np
from scipy import ndimage

from data_prep import products
from geojax import encodings, sphere

PRODUCT = "S2B_MSIL2A_20220705T101411_N0400_R022_T33UXP_20220706T120000"


def make_planes(side):
  """Yields bands: smooth noise and a little rough noise, as of a landscape.

  Args:
    side: Rows and columns.

  Yields:
    Arrays of uint16, shape `[side, side]`: SCL, all clear, and the ten bands.
  """
  rng = np.random.default_rng(0)
  yield np.full((side, side), 4, np.uint16)
  for _ in products.BANDS:
    coarse = rng.normal(size=(side // 8 + 2, side // 8 + 2))
    smooth = ndimage.zoom(ndimage.gaussian_filter(coarse, 2), 8, order=1)
    plane = 3000 + 4000 * smooth[:side, :side]
    plane += rng.normal(0, 40, (side, side))
    yield np.clip(plane, 1001, 16000).astype(np.uint16)


def read_labels(count, task=None):
  """Returns labels of so many places all over the Earth, by name, float32."""
  del task  # The geographic labels are those of every task here.
  lat_lon = sphere.unit_to_latlon(sphere.fibonacci_lattice(count))
  fractions = np.tile(np.eye(31)[3], (count, 1))
  label = encodings.encode_label(fractions, *lat_lon, np.full(count, 180))
  return encodings.split_label(label.astype(np.float32))
