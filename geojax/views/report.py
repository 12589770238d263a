"""A run on one page: tables, pictures, and a globe of patches to click.

One self-contained HTML file: scripts and images are inside, and it requests
nothing from any network.
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

from geojax import sphere
from geojax.views import labels, scales

NUM_CELLS = 8192
_PAGE = pathlib.Path(__file__).parent / "page"
_COAST_ROWS = 180
_IMAGE_SIDE = 128


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of figures.

  Attributes:
    title: Its subject, with units.
    corner: Heading of the column of row names.
    columns: Names of the columns.
    rows: A tuple `(name, cells)` per row, cells as text.
  """

  title: str
  corner: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, tuple[str, ...]], ...]


def render(
  *, title, summary, headline, tables, pictures, config, patches, climate_map
) -> str:
  """Renders the page.

  Args:
    title: Title of the page.
    summary: A sentence below the title.
    headline: The `Table` of the run and the baselines.
    tables: More tables, folded.
    pictures: Tuples of a caption and the bytes of a PNG.
    config: The config of the run, a nested dict.
    patches: Dicts made by `describe_patch`; with none, the page has no globe.
    climate_map: Zones of the world, `[height, width]`, 0 for sea; not used
      without patches.

  Returns:
    The HTML.
  """
  patches = sorted(patches, key=lambda patch: patch["distance_km"])
  lat, lon = sphere.unit_to_latlon(sphere.equal_area_grid(NUM_CELLS))
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_PAGE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template("report.html.j2").render(
    title=title,
    summary=summary,
    headline=headline,
    tables=tables,
    pictures=[
      {"caption": caption, "source": _data_uri(content, "image/png")}
      for caption, content in pictures
    ],
    config=json.dumps(config, indent=2),
    data={
      "patches": patches,
      "cells": {"lat": _rounded(lat), "lon": _rounded(lon)},
      "figure": (
        json.loads(globe(patches, climate_map).to_json()) if patches else {}
      ),
    },
    regions=list(zip(scales.REGION_NAMES, scales.REGION_COLOURS, strict=True)),
    style=_inline("report.css"),
    script=_inline("report.js"),
    plotly=markupsafe.Markup(plotly.offline.get_plotlyjs() if patches else ""),
  )


def describe_patch(
  *,
  record,
  image,
  prediction,
  climate_probs,
  cell_levels=None,
  areas_km2=None,
  true_level=None,
):
  """Collects the data that the page shows of a patch.

  Args:
    record: Its index in the split.
    image: Red, green and blue, uint8, shape `[height, width, 3]`.
    prediction: A dict as in `patches.example_patches`.
    climate_probs: Predicted probabilities of the zones, shape `[31]`.
    cell_levels: Level above which a credible region contains each cell of
      `sphere.equal_area_grid(NUM_CELLS)`, shape `[NUM_CELLS]`; None, as the
      next two, for a regression.
    areas_km2: Areas of the regions of `scales.REGION_LEVELS`, shape `[3]`.
    true_level: Level above which a credible region contains the true place.

  Returns:
    A dict of JSON's types.

  Raises:
    ValueError: If `cell_levels` has another shape.
  """
  lat, lon, lat_predicted, lon_predicted = (
    round(prediction[name], 3)
    for name in ("lat_true", "lon_true", "lat_predicted", "lon_predicted")
  )
  place = labels.place_name(lat, lon)
  date = labels.date_name(prediction["day_true"])
  km = f"{prediction['distance_km']:,.0f}"
  described = {
    "record": record,
    "distance_km": prediction["distance_km"],
    "lat": lat,
    "lon": lon,
    "lat_predicted": lat_predicted,
    "lon_predicted": lon_predicted,
    "km": km,
    "option": f"{km} km: {place}, {date}",
    "image": _encode(image),
    "text": {
      "place-true": place,
      "place-predicted": labels.place_name(lat_predicted, lon_predicted),
      "climate-true": labels.zone_name(prediction["zone_true"]),
      "climate-predicted": "; ".join(
        f"{labels.zone_name(zone)} {100 * climate_probs[zone]:.0f} %"
        for zone in np.argsort(-climate_probs)[:3]
      ),
      "date-true": date,
      "date-predicted": labels.date_name(prediction["day_predicted"]),
      "regions": "",
    },
    "cells": "",
    "counts": [],
  }
  if cell_levels is None:
    return described
  if np.shape(cell_levels) != (NUM_CELLS,):
    raise ValueError(
      f"cell_levels must have shape [{NUM_CELLS}], found"
      f" {list(np.shape(cell_levels))}"
    )
  # Cells from the densest region out, and how many each region has.
  region = scales.region_of(cell_levels)
  counts = np.cumsum(np.bincount(region)[: len(scales.REGION_LEVELS)])
  cells = np.argsort(region, kind="stable")[: counts[-1]].astype("<u2")
  described["cells"] = base64.b64encode(cells.tobytes()).decode()
  described["counts"] = counts.tolist()
  areas = ", ".join(
    f"{name}: {area / 1e6:.2g} million km\N{SUPERSCRIPT TWO}"
    for name, area in zip(scales.REGION_NAMES, areas_km2, strict=True)
  )
  described["text"]["regions"] = (
    f"Areas of the credible regions, {areas}. The true place lies on the edge"
    f" of the {100 * true_level:.0f} % region."
  )
  return described


def globe(patches, climate_map) -> plotly.graph_objects.Figure:
  """The interactive globe: coasts, regions of a chosen patch, and all patches.

  Args:
    patches: Dicts made by `describe_patch`.
    climate_map: Zones of the world, `[height, width]`, 0 for sea.

  Returns:
    The figure. Its traces: coasts; the regions of 95, 80 and 50 %; the line
    from the true to the predicted place; the patches; the predicted and the
    true place.
  """
  figure = plotly.graph_objects.Figure()

  def add(lat=(), lon=(), **look):
    look = {"hoverinfo": "skip", "showlegend": False, **look}
    figure.add_scattergeo(lat=list(lat), lon=list(lon), **look)

  add(
    *coastlines(climate_map),
    mode="lines",
    line={"color": "#8a939c", "width": 0.8},
  )
  for colour in scales.REGION_COLOURS[::-1]:
    marker = {"color": colour, "size": 7, "symbol": "square", "opacity": 0.75}
    add(mode="markers", marker=marker)
  add(mode="lines", line={"color": "black", "width": 1.5})
  edges = scales.ERROR_EDGES_KM
  steps = len(edges) - 1
  distance_km = np.array([patch["distance_km"] for patch in patches])
  step = np.clip(np.searchsorted(edges, distance_km, "right") - 1, 0, steps - 1)
  colour_scale = [
    [share, f"rgb({red},{green},{blue})"]
    for i, (red, green, blue) in enumerate(scales.error_colours())
    for share in (i / steps, (i + 1) / steps)
  ]
  add(
    [patch["lat"] for patch in patches],
    [patch["lon"] for patch in patches],
    text=[patch["option"] for patch in patches],
    hoverinfo="text",
    mode="markers",
    marker={
      "color": step.tolist(),
      "colorscale": colour_scale,
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
        "tickfont": {"size": 12},
        "ticklabeloverflow": "allow",
      },
    },
  )
  for symbol, colour, size in (("x", "black", 11), ("star", "white", 16)):
    marker = {"symbol": symbol, "color": colour, "size": size}
    marker["line"] = {"color": "black", "width": 1.5}
    add(mode="markers", marker=marker)
  grid = {"showgrid": True, "gridcolor": "#e4e8ec", "dtick": 30}
  # Plotly's own land and coasts would be requested from a server.
  figure.update_geos(
    projection={"type": "orthographic", "rotation": {"lat": 20, "lon": 10}},
    bgcolor="white",
    visible=False,
    showframe=True,
    framecolor="#8a939c",
    showocean=False,
    lataxis=grid,
    lonaxis=grid,
  )
  figure.update_layout(
    template="none",
    margin={"l": 20, "r": 20, "t": 4, "b": 70},
    font={"family": "system-ui, Liberation Sans, DejaVu Sans, sans-serif"},
  )
  return figure


def coastlines(climate_map):
  """Contours the land of a climate map at about one degree.

  Args:
    climate_map: Zones of the world, `[height, width]`, 0 for sea.

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
  lat, lon = [], []
  for line in contourpy.contour_generator(lon_deg, lat_deg, land).lines(0.5):
    # Islands of one or two cells only clutter the globe.
    if len(line) >= 6:
      lon += [*_rounded(line[:, 0]), None]
      lat += [*_rounded(line[:, 1]), None]
  return lat, lon


def _encode(image):
  image = PIL.Image.fromarray(image)
  image.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
  file = io.BytesIO()
  image.save(file, "JPEG", quality=90, subsampling=0)
  return _data_uri(file.getvalue(), "image/jpeg")


def _data_uri(content, kind):
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _inline(name):
  return markupsafe.Markup((_PAGE / name).read_text(encoding="utf-8"))


def _rounded(values):
  return np.round(values, 2).tolist()
