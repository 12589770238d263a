"""A bucket on this machine, empty for each test."""

import re

import pytest

from experiments.benchmarks import bucket_server
from geojax import files


@pytest.fixture(scope="session")
def _server():
  """The proxy before a bucket that all libraries of this process talk to."""
  with bucket_server.running() as proxy, pytest.MonkeyPatch.context() as patch:
    for name, value in bucket_server.environment(proxy.url).items():
      patch.setenv(name, value)
    yield proxy


@pytest.fixture
def bucket(_server):
  """The `bucket_server.Proxy`: no request counted, no faults, no latency."""
  _server.requests.clear()
  yield _server
  _server.faults, _server.latency_s = None, 0.0
  _server.headers = {}


@pytest.fixture
def url(bucket, request):
  """URL of a folder in the bucket for one test alone."""
  name = re.sub(r"\W+", "_", request.node.nodeid.rpartition("::")[2])
  return f"gs://{bucket_server.BUCKET}/{name}"


@pytest.fixture(scope="session")
def data(_server, smoke):
  """URL of the smoke data set's folder in the bucket."""
  url = f"gs://{bucket_server.BUCKET}/data"
  for path in (smoke / "geo_tiles").rglob("*"):
    if path.is_file():
      name = path.relative_to(smoke).as_posix()
      files.copy_from(path, files.path(url) / name)
  return url


@pytest.fixture
def no_waiting(monkeypatch):
  """Failed requests are tried again at once."""
  import gcsfs.retry

  async def pause(_):
    pass

  monkeypatch.setattr(gcsfs.retry.asyncio, "sleep", pause)
