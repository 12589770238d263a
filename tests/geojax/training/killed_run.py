"""A run that ends in the middle of something, as the test that starts it says.

python killed_run.py WORKDIR CONFIG.json WHEN
"""

import errno
import json
import os
import pathlib
import signal
import sys
import threading
import time

import jax

from geojax import files
from geojax.training import checkpoint, loop, sharding
from geojax.training import config as config_lib
from geojax.training.errors import Interrupted


def _end(number):
  os.kill(os.getpid(), number)


def _end_in_put(count, rows, number):
  """Ends the run when a batch of so many rows is put for the count'th time."""
  real, puts = sharding.put_batch, []
  rows //= jax.process_count()

  def put(batch, mesh):
    if len(batch["image"]) == rows:
      puts.append(1)
      if len(puts) == count:
        _end(number)
      elif len(puts) > count and jax.process_count() > 1:
        # JAX's service looks for the signal once a second.
        time.sleep(0.4)
    return real(batch, mesh)

  sharding.put_batch = put


def _end_in_save(folder):
  """Ends the run as soon as a save has begun to write arrays."""

  def watch():
    while True:
      for path in folder.glob("*tmp*"):
        if any(found.is_file() for found in path.rglob("*")):
          _end(signal.SIGKILL)
      time.sleep(0.0005)

  threading.Thread(target=watch, daemon=True).start()


def _end_after(count, seconds):
  """Ends the run so long after the count'th batch, of any kind, is put."""
  real, puts = sharding.put_batch, []

  def put(batch, mesh):
    puts.append(1)
    if len(puts) == count:
      # Not a daemon: even a run that is done by then ends so.
      threading.Timer(seconds, _end, [signal.SIGKILL]).start()
    return real(batch, mesh)

  sharding.put_batch = put


def _fail_to_read():
  """No checkpoint can be read by this process."""

  def fail(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")

  checkpoint.ocp.load = fail


def main(workdir, config_path, when, port=None, count=1, process_id=0):
  """Trains until the moment that `when` names."""
  if port:
    sharding.join_processes(f"localhost:{port}", int(count), int(process_id))
  workdir = files.path(workdir)
  config = config_lib.default_config()
  config.update(json.loads(pathlib.Path(config_path).read_text()))
  rows = config.data.batch_size
  if when == "step":
    _end_in_put(7, rows, signal.SIGKILL)
  elif when == "save":
    _end_in_save(workdir / "checkpoints")
  elif when == "evaluation":
    _end_in_put(1, config.data.eval_batch_size, signal.SIGKILL)
  elif when == "term":
    _end_in_put(2, rows, signal.SIGTERM)
  elif when.startswith("after "):
    _, batches, seconds = when.split()
    _end_after(int(batches), float(seconds))
  elif when == "unreadable":
    _fail_to_read()
  elif when == "term_in_evaluation":
    _end_in_put(1, config.data.eval_batch_size, signal.SIGTERM)
  try:
    loop.train(config, workdir, progress=False)
  except Interrupted as stopped:
    print(stopped)
    sys.exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
  main(*sys.argv[1:])
