"""Regions of the sphere as polygons, for geographic information systems."""

import json

import numpy as np
import shapely

from geojax import sphere

# Degrees, a centimetre: the digits that GeoJSON is written with.
_GRID = 1e-7


def of_cells(inside) -> shapely.Geometry:
  """Joins cells of an equal-area grid.

  Args:
    inside: Which cells of `sphere.equal_area_grid` belong to the region,
      booleans, shape `[cells]`.

  Returns:
    A Polygon or MultiPolygon in longitude and latitude, with its holes, cut at
    180 degrees; outer rings are counterclockwise.
  """
  inside = np.asarray(inside)
  cells = np.flatnonzero(inside)
  if not len(cells):
    return shapely.MultiPolygon()
  south, west, north, east = sphere.equal_area_bounds(len(inside))[cells].T
  # Neighbours in a band are one rectangle: several times fewer to join.
  begins = np.ones(len(cells), bool)
  begins[1:] = (np.diff(cells) > 1) | (np.diff(south) != 0)
  first = np.flatnonzero(begins)
  last = np.append(first[1:], len(cells)) - 1
  boxes = shapely.box(west[first], south[first], east[last], north[last])
  joined = shapely.set_precision(shapely.union_all(boxes), _GRID)
  return shapely.orient_polygons(joined)


def to_geojson(regions) -> str:
  """Writes regions as GeoJSON.

  Args:
    regions: Pairs of a geometry, see `of_cells`, and a dict of its properties.

  Returns:
    The text of a FeatureCollection, a line a feature.

  References:
    RFC 7946, The GeoJSON Format, 2016.
  """
  features = (
    json.dumps(
      {
        "type": "Feature",
        "properties": properties,
        "geometry": json.loads(shapely.to_geojson(geometry)),
      },
      allow_nan=False,
    )
    for geometry, properties in regions
  )
  lines = ",\n".join(features)
  return f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'
