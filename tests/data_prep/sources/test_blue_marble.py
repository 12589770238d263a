import functools
import gc
import hashlib
import http.server
import io
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from data_prep import rasters, tiles
from data_prep.sources import blue_marble

MONTHS = range(1, 3)
JANUARY = "world.200401.3x5400x2700.jpg"


def jpeg(width=5400, height=2700, mode="RGB", format="JPEG"):
  """A coarse chequerboard with noise on it: large enough to be believed."""
  rng = np.random.default_rng(0)
  shape = (height // 10, width // 10, 3)
  image = Image.fromarray(rng.integers(0, 255, shape, np.uint8))
  image = image.resize((width, height), Image.Resampling.NEAREST).convert(mode)
  file = io.BytesIO()
  image.save(file, format, quality=20)
  return file.getvalue()


@pytest.fixture(scope="module")
def good():
  return jpeg()


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    self.server.asked.append(self.path)
    status, headers, body = self.server.answers.get(
      self.path, self.server.default
    )
    self.send_response(status)
    for key, value in headers.items():
      self.send_header(key, value)
    self.end_headers()
    self.wfile.write(body)

  def log_message(self, *args):
    pass


@pytest.fixture
def server(good, monkeypatch):
  """A NASA of our own, of two months."""
  monkeypatch.setattr(blue_marble, "MONTHS", MONTHS)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.asked, server.answers = [], {}
    server.default = ok(good)
    server.url = f"http://127.0.0.1:{server.server_port}/bmng-base"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def connections_to(server):
  """The sockets, not yet closed, by which this process asked the server."""
  sockets = (x for x in gc.get_objects() if isinstance(x, socket.socket))
  return [s for s in sockets if peer_of(s) == server.server_address]


def peer_of(connection):
  try:
    return connection.getpeername()
  except OSError:
    # It is closed, or listens.
    return None


def ok(body):
  return 200, {"Content-Length": str(len(body))}, body


def test_images_are_downloaded_once_and_their_sums_kept(server, tmp_path, good):
  folder = tmp_path / "new" / "folder"
  blue_marble.download(folder, server.url)
  assert server.asked == [
    "/bmng-base/january/world.200401.3x5400x2700.jpg",
    "/bmng-base/february/world.200402.3x5400x2700.jpg",
  ]
  assert (folder / JANUARY).read_bytes() == good
  sha256 = hashlib.sha256(good).hexdigest()
  # What the command `sha256sum` writes and `sha256sum --check` reads.
  assert (folder / "SHA256SUMS").read_text() == (
    f"{sha256}  world.200401.3x5400x2700.jpg\n"
    f"{sha256}  world.200402.3x5400x2700.jpg\n"
  )
  assert len(list(folder.iterdir())) == 3
  blue_marble.download(folder, server.url)
  assert len(server.asked) == 2
  assert blue_marble.image_path(folder, 1) == folder / JANUARY


def test_the_addresses_are_nasas():
  assert blue_marble.NASA.startswith("https://assets.science.nasa.gov/")


def test_a_download_that_was_killed_goes_on(server, tmp_path, good):
  (tmp_path / ".world.200401.3x5400x2700.jpg.77.tmp").write_bytes(good[:1000])
  (tmp_path / JANUARY).write_bytes(good)  # killed before its sum was kept
  blue_marble.download(tmp_path, server.url)
  assert len(server.asked) == 1
  assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == 2
  assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_changed_is_refused(server, tmp_path, good):
  blue_marble.download(tmp_path, server.url)
  (tmp_path / JANUARY).write_bytes(good + b"!")
  with pytest.raises(rasters.RasterError, match=f"{JANUARY}.*SHA-256"):
    blue_marble.download(tmp_path, server.url)


def test_another_image_than_the_first_is_refused(server, tmp_path, good):
  blue_marble.download(tmp_path, server.url)
  (tmp_path / JANUARY).unlink()
  server.default = ok(good + b"!")
  with pytest.raises(rasters.RasterError, match="first download") as error:
    blue_marble.download(tmp_path, server.url)
  assert hashlib.sha256(good).hexdigest() in str(error.value)
  assert not (tmp_path / JANUARY).exists()


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    ((404, {}, b"gone"), "404"),
    (ok(b"<html>" + b"moved " * 100_000), "JPEG"),
    (ok(b"<html>moved</html>"), "bytes"),
    ("truncated", "truncated|JPEG"),
    ("short", "bytes"),
    ("small", "2700 x 1350"),
    ("grey", "a JPEG, L"),
    ("png", "a PNG"),
  ],
)
def test_what_is_no_image_of_the_earth_is_refused(
  server, tmp_path, good, answer, message
):
  server.default = {
    "truncated": functools.partial(ok, good[:-5000]),
    "short": lambda: (200, {"Content-Length": str(len(good) + 9)}, good),
    "small": lambda: ok(jpeg(2700, 1350) + bytes(300_000)),
    "grey": lambda: ok(jpeg(mode="L")),
    "png": lambda: ok(jpeg(format="PNG") + bytes(300_000)),
  }.get(answer if isinstance(answer, str) else None, lambda: answer)()
  with pytest.raises(rasters.RasterError, match=message) as error:
    blue_marble.download(tmp_path, server.url)
  assert "world.200401" in str(error.value)
  assert not list(tmp_path.iterdir())
  assert not connections_to(server)


def test_no_connection_is_an_error_with_a_way_out(server, tmp_path):
  server.shutdown()
  server.server_close()
  with pytest.raises(rasters.RasterError, match=r"january.*--source"):
    blue_marble.download(tmp_path, server.url)


def test_either_name_of_an_image_is_found(tmp_path):
  (tmp_path / "200402.jpg").touch()
  assert blue_marble.image_path(tmp_path, 2).name == "200402.jpg"
  with pytest.raises(rasters.RasterError, match=r"200401\.jpg or world"):
    blue_marble.image_path(tmp_path, 1)


@pytest.mark.shared_data
def test_real_months_are_accepted_and_differ(shared_data):
  folder = shared_data / "blue_marble"
  january, july = (
    rasters.read_blue_marble(blue_marble.image_path(folder, month))
    for month in (1, 7)
  )
  assert january.shape == (2700, 5400, 3)
  # Siberia, 60 to 65 N 90 to 120 E, is white in January alone.
  siberia = slice(375, 450), slice(4050, 4500)
  assert january[siberia].mean() > july[siberia].mean() + 50


@pytest.fixture
def source():
  return blue_marble.BlueMarble(
    overlap=17, months_per_block=12, open_sea_kept=0, region=(60, 95, 65, 100)
  )


def test_an_incomplete_folder_is_refused(source, tmp_path):
  with pytest.raises(rasters.RasterError, match=r"200401\.jpg or world"):
    source.fetch(tmp_path / "downloads", tmp_path)
  assert not (tmp_path / "downloads").exists()


def test_images_are_downloaded_where_there_is_no_folder(
  source, tmp_path, monkeypatch
):
  asked = []
  monkeypatch.setattr(blue_marble, "download", asked.append)
  monkeypatch.setattr(rasters, "check_blue_marble", lambda path: None)
  for month in range(1, 13):
    (tmp_path / f"2004{month:02d}.jpg").touch()
  assert source.fetch(tmp_path, None) == tmp_path
  assert asked == [tmp_path]


@pytest.mark.shared_data
def test_each_month_of_blue_marble_is_its_own(source, tmp_path, shared_data):
  folder = source.fetch(tmp_path, shared_data / "blue_marble")
  paths, _ = source.cut_tiles(tmp_path, folder)
  assert len(paths) == 12
  means = {}
  for path in paths:
    tile = tiles.open_tile(path, "int16")
    assert tile.bands == ("red", "green", "blue")
    means[tile.date.month] = tile.read(tile.bands).mean()
  assert len(set(means.values())) == 12
  assert means[1] > means[7] + 50, "Siberia is white in winter"
