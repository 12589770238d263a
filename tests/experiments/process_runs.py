"""Several processes of one run, as `experiments/main.py` starts them."""

import contextlib
import os
import socket
import subprocess
import sys

import command_runs
import tiny_encoder

_FLAGS = (
  "--config=experiments/configs/base.py",
  "--config.data.name=geo_tiles/earth_smoke",
  "--config.data.batch_size=24",
  "--config.data.eval_batch_size=48",
  "--config.mixture.num_centers=16",
  *tiny_encoder.FLAGS,
)


def free_address():
  """Returns an address of this host that a coordinator can use."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return f"localhost:{free.getsockname()[1]}"


@contextlib.contextmanager
def start(smoke, workdir, arguments):
  """Starts one process for each tuple of arguments; ends all of them.

  Args:
    smoke: The folder that the fixture of that name gives.
    workdir: Folder of the run.
    arguments: Arguments of each process.

  Yields:
    A `Popen` for each.
  """
  address = free_address()
  started = [
    subprocess.Popen(
      [
        *(sys.executable, "experiments/main.py", *_FLAGS),
        *(f"--config.data.dir={smoke}", f"--workdir={workdir}"),
        *(f"--coordinator={address}", f"--num_processes={len(arguments)}"),
        *(f"--process_id={index}", *own),
      ],
      cwd=command_runs.ROOT,
      env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index, own in enumerate(arguments)
  ]
  try:
    yield started
  finally:
    for process in started:
      process.kill()
      process.communicate()
