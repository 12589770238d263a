"""Products and patches of Sentinel-2, small, and the tiles they should make."""

import io
import zipfile

import imagecodecs
import numpy as np
import pyarrow
import scipy.ndimage
import tifffile
from pyarrow import parquet

from data_prep import products, tiles

PRODUCT = "S2A_MSIL2A_20220105T101411_N0301_R022_T33UXP_20220105T130211"
SOUTH = "S2B_MSIL2A_20230826T143731_N0509_R096_T20HMK_20230826T204202"
PATCH = "S2A_MSIL2A_20170613T101031_87_48"
SIDE = 120
CLASSES = (0, 4, 9, 11)

MTD_TL = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD">
  <n1:Geometric_Info>
    <Tile_Geocoding metadataLevel="Brief">
      <HORIZONTAL_CS_NAME>WGS84 / UTM zone</HORIZONTAL_CS_NAME>
      <HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>
      <Size resolution="20"><NROWS>60</NROWS><NCOLS>60</NCOLS></Size>
      <Size resolution="10"><NROWS>120</NROWS><NCOLS>120</NCOLS></Size>
      <Geoposition resolution="20">
        <ULX>1</ULX><ULY>1</ULY><XDIM>20</XDIM><YDIM>-20</YDIM>
      </Geoposition>
      <Geoposition resolution="10">
        <ULX>600000</ULX><ULY>{north}</ULY><XDIM>10</XDIM><YDIM>-10</YDIM>
      </Geoposition>
    </Tile_Geocoding>
  </n1:Geometric_Info>
</n1:Level-2A_Tile_ID>"""


def make_bands(side=SIDE, bands=products.BANDS_11):
  rng = np.random.default_rng(len(bands))
  pixels = {}
  for band in bands:
    size = side if band in ("B02", "B03", "B04", "B08") else side // 2
    if band == "SCL":
      pixels[band] = rng.choice(CLASSES, (size, size)).astype(np.uint8)
    else:
      pixels[band] = rng.integers(1, 12000, (size, size), np.uint16)
      pixels[band][:7, :9] = 0
  return pixels


def jp2(plane):
  return imagecodecs.jpeg2k_encode(
    plane, level=0, reversible=True, codecformat="jp2"
  )


def jp2_path(safe, band):
  resolution = 10 if band in ("B02", "B03", "B04", "B08") else 20
  return safe.joinpath(
    *("GRANULE", "L2A_T33UXP_A034157", "IMG_DATA", f"R{resolution}m"),
    f"T33UXP_20220105T101411_{band}_{resolution}m.jp2",
  )


def make_safe(folder, name=PRODUCT, epsg=32633, north=5400000, bands=None):
  safe = folder / f"{name}.SAFE"
  for band, plane in (make_bands() if bands is None else bands).items():
    path = jp2_path(safe, band)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jp2(plane))
  # Bands of the same name at 20 m are there as well.
  other = jp2_path(safe, "B05").with_name("T33UXP_20220105T101411_B02_20m.jp2")
  other.write_bytes(b"not read")
  metadata = safe / "GRANULE" / "L2A_T33UXP_A034157" / "MTD_TL.xml"
  metadata.write_text(MTD_TL.format(epsg=epsg, north=north))
  return safe


def make_zip(safe):
  path = safe.with_name(safe.name + ".zip")
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for file in sorted(safe.rglob("*")):
      archive.write(file, file.relative_to(safe.parent))
  return path


def geotiff(plane, west, north, pixel_size, epsg=32633):
  file = io.BytesIO()
  keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)
  tifffile.imwrite(
    file,
    plane,
    photometric="minisblack",
    metadata=None,
    extratags=[
      (33550, "d", 3, (pixel_size, pixel_size, 0.0), True),
      (33922, "d", 6, (0.0, 0.0, 0.0, west, north, 0.0), True),
      (34735, "H", len(keys), keys, True),
    ],
  )
  return file.getvalue()


def make_patch(folder, name=PATCH, **replaced):
  patch = folder / name
  patch.mkdir(parents=True)
  for band, plane in make_bands(bands=products.BANDS).items():
    size = 1200 / plane.shape[0]
    data = geotiff(plane, 404400.0, 5342400.0, size)
    (patch / f"{name}_{band}.tif").write_bytes(replaced.get(band, data))
  return patch


CELL_BANDS = make_bands(1068, products.BANDS)


def write_parquet(path, rows, row_group_size=1):
  table = pyarrow.Table.from_pylist(rows)
  parquet.write_table(table, path, row_group_size=row_group_size)
  return path


def bilinear(plane):
  """An oracle: coordinates of centres, halves rounded up."""
  at = [(np.arange(2 * n) - 0.5) / 2 for n in plane.shape]
  grid = np.meshgrid(*at, indexing="ij")
  exact = scipy.ndimage.map_coordinates(
    plane.astype(float), grid, order=1, mode="nearest"
  )
  return np.floor(exact + 0.5 + 1e-9)


def expected_plane(band, plane):
  if band in ("B02", "B03", "B04", "B08"):
    return plane
  nearest = plane.repeat(2, axis=0).repeat(2, axis=1)
  if band == "SCL":
    return nearest
  # All that a pixel of no data reaches, along with its diagonal.
  at = [(np.arange(2 * n) - 0.5) / 2 for n in plane.shape]
  grid = np.meshgrid(*at, indexing="ij")
  touched = scipy.ndimage.map_coordinates(
    (plane == 0).astype(float), grid, order=1, mode="nearest"
  )
  return np.where(touched > 0, nearest, bilinear(plane))


def assert_tile(path, pixels, grid):
  tile = tiles.open_tile(path, "uint16")
  assert tile.bands == tuple(pixels)
  assert tile.grid == grid
  found = tile.read(tile.bands)
  for i, (band, plane) in enumerate(pixels.items()):
    np.testing.assert_array_equal(
      found[..., i], expected_plane(band, plane), band
    )
  return tile
