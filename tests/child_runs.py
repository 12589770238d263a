"""Runs in processes of their own, one or several of a run, and their logs."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile

from geojax.training import config as config_lib
from geojax.training import logs, progress

ROOT = pathlib.Path(__file__).parents[1]
_SCRIPT = ROOT / "tests/geojax/training/killed_run.py"
# Runs of one test compile the same programs, as those of a user do.
_PROGRAMS = tempfile.TemporaryDirectory()


def log(workdir):
  """Returns the lines of a run's log, without what depends on the machine."""
  lines = logs.read_metrics(workdir)
  return [
    {k: v for k, v in x.items() if k not in progress.TIMINGS} for x in lines
  ]


def start(folder, config, when, *arguments, devices=2):
  """Starts a run that ends at the moment that `when` names.

  Args:
    folder: Its workdir.
    config: Its config.
    when: See killed_run.py.
    *arguments: Port, number of processes and index of this one.
    devices: Number of simulated devices.

  Returns:
    A `Popen`.
  """
  path = pathlib.Path(tempfile.mkdtemp(), "config.json")
  config_lib.save_config(config, path)
  environment = {
    **os.environ,
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "PYTHONPATH": str(ROOT),
    "JAX_COMPILATION_CACHE_DIR": _PROGRAMS.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    # As runs in the test's own process, which these are compared with.
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
  }
  return subprocess.Popen(
    [sys.executable, str(_SCRIPT), str(folder), str(path), when, *arguments],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run(folder, config, when, *, devices=2):
  """Exit code, standard output and error of a run in a process of its own."""
  with start(folder, config, when, devices=devices) as process:
    printed = process.communicate()
  return process.returncode, *printed


def run_several(folder, config, when, *, processes=2, devices=1):
  """The same of several processes, of which the first one never ends early."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = str(free.getsockname()[1])
  started = [
    start(
      folder,
      config,
      when if index else "never",
      *(port, str(processes), str(index)),
      devices=devices,
    )
    for index in range(processes)
  ]
  printed = [process.communicate() for process in started]
  return [
    (process.returncode, *words)
    for process, words in zip(started, printed, strict=True)
  ]
