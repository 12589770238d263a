"""The page in a real browser: a click, the keyboard, two widths, no request."""

import json
import shutil
import time

import pytest
import report_sample

if not (shutil.which("chromium") and shutil.which("chromedriver")):
  pytest.skip(
    "needs chromium and chromedriver on the PATH: apt-get install chromium"
    " chromium-driver",
    allow_module_level=True,
  )

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp("report") / "report.html"
  path.write_text(report_sample.page(), encoding="utf-8")
  return path


@pytest.fixture(scope="module")
def browser():
  options = webdriver.ChromeOptions()
  options.binary_location = shutil.which("chromium")
  # No sandbox: in a container Chromium may not make one.
  for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
    options.add_argument(argument)
  options.set_capability(
    "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
  )
  driver = webdriver.Chrome(
    service=Service(shutil.which("chromedriver")), options=options
  )
  yield driver
  driver.quit()


@pytest.fixture(params=[1280, 400])
def opened(request, browser, path):
  _wide(browser, request.param)
  _open(browser, path)
  return browser


def _wide(browser, width):
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride",
    {
      "width": width,
      "height": 900,
      "deviceScaleFactor": 1,
      "mobile": width < 500,
    },
  )


def _open(browser, path):
  for kind in ("browser", "performance"):
    browser.get_log(kind)
  browser.get(path.as_uri())
  _until(lambda: browser.execute_script("return document.body.dataset.ready"))


def _until(condition, seconds=30):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, "waited in vain"
    time.sleep(0.05)


def _text(browser, name):
  return browser.find_element(By.ID, name).text


def _points(browser, trace):
  return browser.execute_script(
    "return document.getElementById('globe').data[arguments[0]].lat", trace
  )


def test_a_click_on_a_dot_shows_the_patch(opened):
  opened.execute_script("document.getElementById('globe').scrollIntoView()")
  # The one in front of the globe.
  box = opened.execute_script(
    "const dots = [...document.querySelectorAll('#globe path.point')]"
    ".map((p) => p.getBoundingClientRect()).filter((r) => r.width);"
    "return [dots[0].x + dots[0].width / 2, dots[0].y + dots[0].height / 2]"
  )
  for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
    opened.execute_cdp_cmd(
      "Input.dispatchMouseEvent",
      {
        "type": kind,
        "x": box[0],
        "y": box[1],
        "button": "none" if kind == "mouseMoved" else "left",
        "clickCount": 0 if kind == "mouseMoved" else 1,
      },
    )
    time.sleep(0.2)
  _until(lambda: "558 km" in _text(opened, "patch-title"), 10)
  image = opened.find_element(By.ID, "patch-image")
  assert image.is_displayed()
  assert int(image.get_property("naturalWidth")) == 32
  assert image.accessible_name == "Satellite patch at 20 N 10 E, 19 Jul"
  assert _text(opened, "place-predicted") == "25 N 10 E"
  assert _text(opened, "climate-true").startswith("Cfb")
  assert _text(opened, "climate-predicted").startswith(
    "Af (tropical, rainforest) 70"
  )
  assert (_text(opened, "date-true"), _text(opened, "date-predicted")) == (
    "19 Jul",
    "20 Jan",
  )
  # Its probability map: three regions around the prediction, and the truth.
  for trace in (1, 2, 3):
    assert (
      abs(sum(_points(opened, trace)) / len(_points(opened, trace)) - 25) < 3
    )
  assert _points(opened, 7) == [20]


def test_the_keyboard_does_what_a_click_does(opened):
  opened.find_element(By.ID, "next").send_keys(Keys.ENTER)
  assert "557 km" in _text(opened, "patch-title")
  select = opened.find_element(By.ID, "choose")
  select.send_keys(Keys.ARROW_DOWN)
  _until(lambda: "558 km" in _text(opened, "patch-title"), 10)
  opened.find_element(By.ID, "previous").send_keys(Keys.SPACE)
  _until(lambda: "557 km" in _text(opened, "patch-title"), 10)
  as_map = opened.find_element(By.ID, "as-map")
  as_map.send_keys(Keys.ENTER)
  assert as_map.get_attribute("aria-pressed") == "true"
  _until(lambda: _projection(opened) == "robinson")
  # What has the focus shows it.
  assert "3px" in as_map.value_of_css_property("outline")


def _projection(browser):
  return browser.execute_script(
    "return document.getElementById('globe')._fullLayout.geo.projection.type"
  )


def test_screen_readers_find_names_and_roles(opened):
  names = {
    "choose": ("combobox", "Patch"),
    "next": ("button", "Next"),
    "previous": ("button", "Previous"),
    "as-map": ("button", "Map"),
    "globe": ("image", "Globe of 2 patches coloured by error in km."),
  }
  for name, (role, words) in names.items():
    element = opened.find_element(By.ID, name)
    assert element.aria_role == role
    assert element.accessible_name.startswith(words), element.accessible_name
  live = opened.find_element(By.ID, "patch").get_attribute("aria-live")
  assert live == "polite"


def test_nothing_leaves_the_page_and_nothing_fails(opened, path):
  opened.find_element(By.ID, "next").click()
  opened.find_element(By.ID, "as-map").click()
  time.sleep(0.5)
  requested = set()
  for entry in opened.get_log("performance"):
    message = json.loads(entry["message"])["message"]
    if message["method"] == "Network.requestWillBeSent":
      requested.add(message["params"]["request"]["url"])
  outside = {url for url in requested if not url.startswith(("data:", "blob:"))}
  assert outside == {path.as_uri()}
  assert [e["message"] for e in opened.get_log("browser")] == []


def test_the_page_fits_its_width(opened):
  wide, shown = opened.execute_script(
    "return [document.documentElement.scrollWidth, innerWidth]"
  )
  assert wide <= shown
  globe, panel = (
    opened.find_element(By.ID, name).rect for name in ("globe", "patch")
  )
  beside = panel["x"] >= globe["x"] + globe["width"]
  below = panel["y"] >= globe["y"] + globe["height"]
  assert beside if shown > 760 else below
  for name in ("globe", "patch"):
    assert opened.find_element(By.ID, name).rect["width"] > 0.3 * shown
