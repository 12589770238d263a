"""A bucket on this machine for all tests of this folder.

Its environment is that of the tests' process too, and of the commands they run.
"""

import pytest

from experiments.benchmarks import bucket_server


@pytest.fixture(scope="session")
def _server():
  with (
    bucket_server.running() as proxy,
    pytest.MonkeyPatch.context() as patch,
  ):
    for name, value in bucket_server.environment(proxy.url).items():
      patch.setenv(name, value)
    yield proxy


@pytest.fixture
def bucket(_server):
  """The `bucket_server.Proxy`: no request counted, no faults, no latency."""
  _server.requests.clear()
  yield _server
  _server.faults, _server.latency_s = None, 0.0


@pytest.fixture
def bucket_dir(bucket, request):
  """A folder of the test's own in the bucket, gs://..."""
  return f"gs://{bucket_server.BUCKET}/{request.node.name}"
