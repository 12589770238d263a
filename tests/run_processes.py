"""Runs in processes of their own, killed at some moment; what a run leaves."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import jax
import numpy as np

from geojax.training import config as config_lib
from geojax.training import logs

ROOT = pathlib.Path(__file__).parents[1]
_SCRIPT = ROOT / "tests/geojax/training/killed_run.py"
# Lines of a log that depend on the machine.
_TIMINGS = ("patches_per_second", "data_wait_fraction")


def log(workdir):
  """The lines of a run's log, without timings."""
  lines = logs.read_metrics(workdir)
  return [{k: v for k, v in x.items() if k not in _TIMINGS} for x in lines]


def assert_same_state(a, b):
  """Asserts that two trees of arrays are equal to the last bit."""
  jax.tree.map(np.testing.assert_array_equal, a, b)


def start(workdir, config, when, *arguments, devices=2):
  """Starts a run that ends when `when` says, see killed_run.py."""
  folder = tempfile.mkdtemp()
  path = pathlib.Path(folder, "config.json")
  config_lib.save_config(config, path)
  environment = {
    **os.environ,
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "PYTHONPATH": str(ROOT),
  }
  return subprocess.Popen(
    [sys.executable, str(_SCRIPT), str(workdir), str(path), when, *arguments],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run(workdir, config, when, **options):
  """Exit code, standard output and error of a run in a process of its own."""
  with start(workdir, config, when, **options) as process:
    printed = process.communicate()
  return process.returncode, *printed


def run_two(workdir, config, when):
  """The same of two processes with one device each."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = str(free.getsockname()[1])
  started = [
    start(workdir, config, when if i else "never", port, str(i), devices=1)
    for i in range(2)
  ]
  printed = [process.communicate() for process in started]
  return [
    (process.returncode, *words)
    for process, words in zip(started, printed, strict=True)
  ]
