"""An image, and maps around it."""

import numpy as np
import pyproj
import rasterio

from data_prep import grids, map_targets

# 10 m in UTM, and coarser and finer maps around its patches.
IMAGE = grids.Grid(64, 64, 600000.0, 5500020.0, 10.0, 10.0, 32633)
SIZE = 16
ROWS, COLS = (x.ravel() for x in np.mgrid[0:48:16, 0:48:16])


def around(grid, epsg, pixel, margin=5):
  """A grid of square pixels of another projection that covers a grid."""
  corners = np.array([[0, 0, 1, 1], [0, 1, 0, 1]]) * [
    [grid.height],
    [grid.width],
  ]
  lat, lon = grid.pixel_to_latlon(*(corners - 0.5))
  x, y = lon, lat
  if epsg != 4326:
    to_map = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = to_map.transform(lon, lat)
  west = np.floor(x.min() / pixel) * pixel - margin * pixel
  north = np.ceil(y.max() / pixel) * pixel + margin * pixel
  return grids.Grid(
    int(np.ceil((north - y.min()) / pixel)) + margin,
    int(np.ceil((x.max() - west) / pixel)) + margin,
    float(west),
    float(north),
    pixel,
    pixel,
    epsg,
  )


def transform_of(grid):
  return rasterio.transform.from_origin(
    grid.west, grid.north, grid.pixel_width, grid.pixel_height
  )


def first_patch(pixels, grid):
  """The part of a map on the image's own pixels under its first patch."""
  row, col = (
    round(x / 10) for x in (grid.north - IMAGE.north, IMAGE.west - grid.west)
  )
  return pixels[row : row + SIZE, col : col + SIZE]


def class_map(path, legend=""):
  return map_targets.MapTarget("cover", "class_map", str(path), str(legend))


def value_map(path):
  return map_targets.MapTarget("height", "value_map", str(path))
