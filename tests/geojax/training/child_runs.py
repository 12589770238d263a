"""Runs in processes of their own, one or several of a run, and their logs."""

import os
import pathlib
import socket
import subprocess
import sys

from geojax.training import config as config_lib
from geojax.training import logs

_SCRIPT = pathlib.Path(__file__).with_name("killed_run.py")
ROOT = pathlib.Path(__file__).parents[3]
_TIMINGS = ("patches_per_second", "data_wait_fraction")


def log(workdir):
  """Returns the lines of a run's log, without what depends on the machine."""
  lines = logs.read_metrics(workdir)
  return [{k: v for k, v in x.items() if k not in _TIMINGS} for x in lines]


def _start(folder, config, when, *arguments, devices):
  path = folder.with_suffix(".config.json")
  config_lib.save_config(config, path)
  environment = {
    **os.environ,
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "PYTHONPATH": str(ROOT),
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
  with _start(folder, config, when, devices=devices) as process:
    printed = process.communicate()
  return process.returncode, *printed


def run_several(folder, config, when, *, processes=2, devices=1):
  """The same of several processes, of which the first one never ends early."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = str(free.getsockname()[1])
  started = [
    _start(
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
