"""A run on one page: tables, pictures, and a globe of patches to click.

One HTML file with everything inside of it, scripts and images too: it opens
from a disk, years later, and asks nothing of any network.
"""

import base64
import dataclasses
import io
import json
import pathlib

import contourpy
import jinja2
import markupsafe
import numpy as np
import PIL.Image
import plotly.graph_objects
import plotly.offline

from geojax import climate, sphere
from geojax.views import map_layers, patches

NUM_CELLS = 8192
_PAGE = pathlib.Path(__file__).parent / "page"
_COAST_ROWS = 180
_SIDE = 128


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of figures.

  Attributes:
    title: What it is about, with units.
    corner: Name of the rows' names.
    columns: Names of the columns.
    rows: A tuple `(name, cells)` a row, cells as text.
  """

  title: str
  corner: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, tuple[str, ...]], ...]


def render(
  *, title, summary, headline, tables, pictures, config, said, climate_map
) -> str:
  """Renders the page.

  Args:
    title: Its title.
    summary: A sentence below it.
    headline: The `Table` of the run beside the baselines.
    tables: More of them, folded.
    pictures: Tuples of a caption and the bytes of a PNG.
    config: The config of the run, a nested dict.
    said: A dict a patch, as of `describe_patch`.
    climate_map: Zones of the world, as of `map_layers.draw_land`.

  Returns:
    The HTML.
  """
  said = sorted(said, key=lambda patch: patch["distance_km"])
  lat, lon = sphere.unit_to_latlon(sphere.equal_area_grid(NUM_CELLS))
  data = {
    "patches": said,
    "cells": {"lat": _rounded(lat), "lon": _rounded(lon)},
    "figure": json.loads(globe(said, climate_map).to_json()),
  }
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_PAGE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template("report.html.j2").render(
    title=title,
    summary=summary,
    headline=_rows(headline),
    tables=[_rows(table) for table in tables],
    pictures=[
      {"caption": caption, "source": _data_uri(content, "image/png")}
      for caption, content in pictures
    ],
    config=json.dumps(config, indent=2),
    data=data,
    num_patches=len(said),
    style=_inline("report.css"),
    script=_inline("report.js"),
    plotly=markupsafe.Markup(plotly.offline.get_plotlyjs()),
  )


def describe_patch(
  *, record, image, said, climate_probs, probability=None, level=None
):
  """What the page shows of a patch.

  Args:
    record: Its index in the split.
    image: Red, green and blue, uint8, shape `[height, width, 3]`.
    said: As of `patches.example_patches`.
    climate_probs: Predicted probabilities of the zones, shape `[31]`.
    probability: Probability of each of `NUM_CELLS` cells, or None.
    level: Credible level of the true place, or None.

  Returns:
    A dict that JSON knows.
  """
  place = patches.place_name(said["lat_true"], said["lon_true"])
  likeliest = np.argsort(-climate_probs)[:3]
  kilometres = f"{said['distance_km']:,.0f}"
  described = {
    "record": record,
    "distance_km": said["distance_km"],
    "lat": round(said["lat_true"], 3),
    "lon": round(said["lon_true"], 3),
    "lat_said": round(said["lat_predicted"], 3),
    "lon_said": round(said["lon_predicted"], 3),
    "km": kilometres,
    "place": place,
    "place_said": patches.place_name(
      said["lat_predicted"], said["lon_predicted"]
    ),
    "climate": _zone_name(said["zone_true"]),
    "climate_said": "; ".join(
      f"{_zone_name(zone)} {100 * climate_probs[zone]:.0f} %"
      for zone in likeliest
    ),
    "date": patches.date_name(said["day_true"]),
    "date_said": patches.date_name(said["day_predicted"]),
    "image": _encode(image),
    "option": (
      f"{kilometres} km: {place}, {patches.date_name(said['day_true'])}"
    ),
    "words": "",
    "cells": "",
    "counts": [],
  }
  if probability is not None:
    described |= _describe_regions(probability, level)
  return described


def globe(said, climate_map) -> plotly.graph_objects.Figure:
  """The interactive globe: coasts, regions of a chosen patch, and all patches.

  Args:
    said: A dict a patch, as of `describe_patch`.
    climate_map: As of `map_layers.draw_land`.

  Returns:
    The figure. Its traces: coasts; the regions of 95, 80 and 50 %; the way from
    truth to prediction; the patches; the predicted and the true place.
  """
  lat, lon = coastlines(climate_map)
  figure = plotly.graph_objects.Figure()
  quiet = {"hoverinfo": "skip", "showlegend": False}
  figure.add_scattergeo(
    lat=lat,
    lon=lon,
    mode="lines",
    line={"color": "#8a939c", "width": 0.8},
    **quiet,
  )
  for colour in map_layers.REGION_COLOURS[::-1]:
    figure.add_scattergeo(
      lat=[],
      lon=[],
      mode="markers",
      marker={"color": colour, "size": 7, "symbol": "square", "opacity": 0.75},
      **quiet,
    )
  figure.add_scattergeo(
    lat=[], lon=[], mode="lines", line={"color": "black", "width": 1.5}, **quiet
  )
  edges = map_layers.DISTANCE_EDGES_KM
  steps = len(edges) - 1
  distance_km = np.array([patch["distance_km"] for patch in said])
  step = np.clip(np.searchsorted(edges, distance_km, "right") - 1, 0, steps - 1)
  figure.add_scattergeo(
    lat=[patch["lat"] for patch in said],
    lon=[patch["lon"] for patch in said],
    text=[patch["option"] for patch in said],
    hoverinfo="text",
    mode="markers",
    showlegend=False,
    marker={
      "color": step.tolist(),
      "colorscale": _colour_steps(steps),
      "cmin": -0.5,
      "cmax": steps - 0.5,
      "size": 9,
      "line": {"color": "black", "width": 0.5},
      "colorbar": {
        "title": {"text": "error, km", "side": "top"},
        "orientation": "h",
        "thickness": 12,
        "y": -0.02,
        "yanchor": "top",
        "tickvals": [i - 0.5 for i in range(steps + 1)],
        "ticktext": [f"{edge:,}" for edge in edges],
        "tickfont": {"size": 11},
      },
    },
  )
  for symbol, colour, size in (("x", "black", 11), ("star", "white", 16)):
    figure.add_scattergeo(
      lat=[],
      lon=[],
      mode="markers",
      marker={
        "symbol": symbol,
        "color": colour,
        "size": size,
        "line": {"color": "black", "width": 1.5},
      },
      **quiet,
    )
  # Land from a map service would have to be fetched: none of its layers.
  figure.update_geos(
    projection={"type": "orthographic", "rotation": {"lat": 20, "lon": 10}},
    bgcolor="white",
    visible=False,
    showframe=True,
    framecolor="#8a939c",
    showocean=False,
    lataxis={"showgrid": True, "gridcolor": "#e4e8ec", "dtick": 30},
    lonaxis={"showgrid": True, "gridcolor": "#e4e8ec", "dtick": 30},
  )
  figure.update_layout(
    template="none",
    margin={"l": 4, "r": 4, "t": 4, "b": 70},
    font={"family": "system-ui, Liberation Sans, DejaVu Sans, sans-serif"},
  )
  return figure


def coastlines(climate_map):
  """Coasts of a climate map, at about a degree.

  Args:
    climate_map: As of `map_layers.draw_land`.

  Returns:
    Latitudes and longitudes in degrees, lists with None between lines.
  """
  height, width = climate_map.shape
  step = max(1, height // _COAST_ROWS)
  rows, columns = height // step, width // step
  land = (climate_map[: rows * step, : columns * step] > 0).astype(float)
  land = land.reshape(rows, step, columns, step).mean(axis=(1, 3))
  lat_deg = 90 - (np.arange(rows) + 0.5) * 180 / rows
  lon_deg = (np.arange(columns) + 0.5) * 360 / columns - 180
  lines = contourpy.contour_generator(lon_deg, lat_deg, land).lines(0.5)
  lat, lon = [], []
  for line in lines:
    # Islands of a cell or two are dust at this size.
    if len(line) < 6:
      continue
    lon += [*_rounded(line[:, 0]), None]
    lat += [*_rounded(line[:, 1]), None]
  return lat, lon


def _describe_regions(probability, level):
  """Cells of the credible regions, densest region first, and their sizes."""
  if len(probability) != NUM_CELLS:
    raise ValueError(
      f"probability must have shape [{NUM_CELLS}], found"
      f" {list(probability.shape)}"
    )
  region = map_layers.region_of_cells(probability)
  inside = [
    int(np.sum(region <= i)) for i in range(len(map_layers.REGIONS_PERCENT))
  ]
  cells = np.argsort(region, kind="stable")[: inside[-1]].astype("<u2")
  cell_km2 = 4 * np.pi * sphere.EARTH_RADIUS_KM**2 / NUM_CELLS
  areas = ", ".join(
    f"{percent} %: {count * cell_km2 / 1e6:.2g} million km\u00b2"
    for percent, count in zip(map_layers.REGIONS_PERCENT, inside, strict=True)
  )
  words = f"Credible regions, {areas}."
  if level is not None:
    words += f" The true place lies on the edge of the {100 * level:.0f} % one."
  return {
    "cells": base64.b64encode(cells.tobytes()).decode(),
    "counts": inside,
    "words": words,
  }


def _colour_steps(steps):
  """The colours of the error maps, as Plotly takes steps of colour."""
  scale = []
  for i in range(steps):
    red, green, blue, _ = map_layers.distance_colour(i, bytes=True)
    colour = f"rgb({red},{green},{blue})"
    scale += [[i / steps, colour], [(i + 1) / steps, colour]]
  return scale


def _rows(table):
  return {
    **vars(table),
    "rows": [{"name": name, "cells": cells} for name, cells in table.rows],
  }


def _zone_name(zone):
  if zone == 0:
    return "sea"
  return f"{climate.ZONES[zone]} ({climate.ZONE_NAMES[zone].lower()})"


def _encode(image):
  image = PIL.Image.fromarray(image)
  image.thumbnail((_SIDE, _SIDE))
  file = io.BytesIO()
  image.save(file, "JPEG", quality=90, subsampling=0)
  return _data_uri(file.getvalue(), "image/jpeg")


def _data_uri(content, kind):
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _inline(name):
  return markupsafe.Markup((_PAGE / name).read_text(encoding="utf-8"))


def _rounded(values):
  return np.round(values, 2).tolist()
