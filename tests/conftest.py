"""What every test runs under: eight simulated devices, no silent broadcasts."""

import os
import pathlib
import tempfile

# Read once, when JAX starts; so before anything imports it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
# With two processes, threads of BLAS would wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Programs that are alike compile but once, in whatever process: pytest's own
# sets this before it starts others, and so do they for the commands they run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# XLA's optimisations take a third of the time of all tests, and the programs of
# training and models run for a moment; see `optimisations`. This is of commands
# that tests start: make test-slow has them compiled as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import jax
import pytest

from data_prep import build

# A [batch, 1] loss against a [batch] mask broadcasts to [batch, batch] and
# trains on nonsense; here it raises instead.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Of pytest's own process, whatever holds for the commands it starts.
jax.config.update("jax_disable_most_optimizations", True)

_REPO = pathlib.Path(__file__).parents[1]


# Tests, by folder or file, of small programs whose rounding matters.
_OPTIMISED = {"vmf", "mixture", "losses", "evaluation", "test_norms"}


@pytest.fixture(autouse=True)
def optimisations(request):
  """Compiles the mathematics as users do."""
  flag = "jax_disable_most_optimizations"
  before = jax.config.read(flag)
  if {request.path.parent.name, request.path.stem} & _OPTIMISED:
    jax.config.update(flag, False)
  yield
  jax.config.update(flag, before)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
  """A folder with the tiles and records of `earth_smoke`, really built."""
  output = tmp_path_factory.mktemp("smoke")
  build.build("earth_smoke", output)
  return output


@pytest.fixture
def shared_data():
  """Real samples that are not part of the repository."""
  folder = pathlib.Path(
    os.environ.get("GEOJAX_SHARED_DATA", _REPO.parent / "shared" / "data")
  )
  if not folder.is_dir():
    pytest.skip(
      f"no samples at {folder}; GEOJAX_SHARED_DATA tells another place"
    )
  return folder
