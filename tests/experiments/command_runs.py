"""Commands of experiments/ as a user runs them."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(script, *arguments):
  """Runs a command to its end, on one CPU device."""
  return subprocess.run(
    [sys.executable, f"experiments/{script}", *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )
