"""What the page of a run holds, before any browser opens it."""

import base64
import html.parser
import json

import numpy as np
import pytest
import report_sample

from geojax import sphere
from geojax.views import report


class _Page(html.parser.HTMLParser):
  """Tags with their attributes, and the text of the data."""

  def __init__(self, text):
    super().__init__()
    self.tags = []
    self._in_data = False
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._in_data = dict(attrs).get("id") == "data"

  def handle_data(self, data):
    if self._in_data:
      self.data = json.loads(data)
      self._in_data = False


@pytest.fixture(scope="module")
def text():
  return report_sample.page()


@pytest.fixture(scope="module")
def page(text):
  return _Page(text)


def test_the_page_is_one_file_that_asks_for_nothing(text, page):
  assert len(text) < 15e6
  for tag, attrs in page.tags:
    for name in ("src", "href"):
      value = attrs.get(name) or "#"
      assert value.startswith(("data:", "#")), (tag, value)
    assert tag != "iframe"
  (policy,) = [
    attrs["content"]
    for _, attrs in page.tags
    if attrs.get("http-equiv") == "Content-Security-Policy"
  ]
  assert policy.startswith("default-src 'none'")
  assert "http" not in policy


def test_the_page_holds_tables_pictures_and_config(text):
  for words in (
    "<td>1,816</td>",
    "median distance, km",
    "A picture of nothing",
    base64.b64encode(b"\x89PNG\r\n").decode(),
    "&lt;core&gt;",
    "Over land &lt;/script&gt; patches",
  ):
    assert words in text, words


def test_images_and_controls_are_labelled(page):
  ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
  labelled = {a["for"] for tag, a in page.tags if tag == "label"}
  for tag, attrs in page.tags:
    if tag == "img":
      assert "alt" in attrs
    if tag == "select":
      assert attrs["id"] in labelled
    if tag == "html":
      assert attrs["lang"] == "en"
    for name in ("aria-labelledby", "aria-describedby"):
      assert attrs.get(name, next(iter(ids))) in ids


def test_patches_come_nearest_first_with_their_regions(page):
  near, far = page.data["patches"]
  assert (near["record"], far["record"]) == (1, 2)
  cells = np.frombuffer(base64.b64decode(near["cells"]), "<u2")
  assert near["counts"] == sorted(near["counts"])
  assert near["counts"][-1] == len(cells)
  x = sphere.equal_area_grid(report.NUM_CELLS)
  place = sphere.latlon_to_unit(5.0, -175.0)
  away = sphere.great_circle_km(x[cells], place)
  inner = near["counts"][0]
  assert away[:inner].max() <= away[inner:].min()
  # The share m of a vMF's mass covers -2 pi log(1 - m)/kappa steradian.
  expected = -2 * np.pi * np.log(1 - np.array([0.5, 0.8, 0.95])) / 100
  np.testing.assert_allclose(
    np.array(near["counts"]) * 4 * np.pi / report.NUM_CELLS, expected, rtol=0.1
  )
  lat = np.array(page.data["cells"]["lat"])[cells[:inner]]
  assert lat.mean() == pytest.approx(5, abs=1)
  assert near["text"]["climate-predicted"].startswith(
    "Af (tropical, rainforest) 70 %; Cfb"
  )
  assert near["text"]["date-true"] == "19 Jul"
  assert "50 %: 1.8 million km²" in near["text"]["regions"]
  assert "83 %" in near["text"]["regions"]


def test_the_globe_has_a_dot_a_patch_and_the_coasts_handed_in(page):
  coast, *regions, _, dots, _, _ = page.data["figure"]["data"]
  assert all(
    trace["type"] == "scattergeo" for trace in page.data["figure"]["data"]
  )
  assert dots["lat"] == [0, 20]
  assert dots["lon"] == [-175, 10]
  lat, lon = report.coastlines(report_sample.climate_map())
  assert coast["lat"] == lat
  lat = [x for x in lat if x is not None]
  lon = [x for x in lon if x is not None]
  assert (min(lat), max(lat)) == (10, 50)
  assert (min(lon), max(lon)) == (-30, 40)
  assert len(regions) == 3
  # Plotly's own layers would be requested from a server.
  geo = page.data["figure"]["layout"]["geo"]
  shown = [name for name, value in geo.items() if name[:4] == "show" and value]
  assert shown == ["showframe"]


def _describe(**regions):
  return report.describe_patch(
    record=0,
    image=np.zeros((256, 200, 3), np.uint8),
    prediction={
      "lat_true": 0.0,
      "lon_true": 0.0,
      "lat_predicted": 0.0,
      "lon_predicted": 0.0,
      "distance_km": 0.0,
      "zone_true": 0,
      "zone_predicted": 0,
      "zone_probability": 1.0,
      "day_true": 1.0,
      "day_predicted": 1.0,
    },
    climate_probs=np.eye(31)[0],
    **regions,
  )


def test_a_regression_has_no_regions():
  described = _describe()
  assert described["cells"] == described["text"]["regions"] == ""
  assert described["text"]["climate-true"] == "sea"
  # Large patches are shown smaller.
  assert len(described["image"]) < 10_000


def test_cells_are_those_of_the_page():
  with pytest.raises(ValueError, match=r"shape \[8192\], found \[10\]"):
    _describe(cell_levels=np.full(10, 0.1))
