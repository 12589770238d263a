"""Whether a run that is killed at random ends like one that is not.

  python -m experiments.benchmarks.kills --data_dir=DIR [--kills=30]

Trains a small run once without an interruption and once with `--kills` of them,
at random moments, by SIGKILL and SIGTERM in turns; each time the same command
goes on. Both must end with the same log and test metrics, to the last digit,
and with the same parameters, optimizer state and averages, bit by bit; the exit
code is 1 if not.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from absl import app, flags, logging

from geojax.training import logs, progress
from geojax.training import run as run_lib

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of the data sets.")
_NAME = flags.DEFINE_string("name", "geo_tiles/earth", "The data set.")
_KILLS = flags.DEFINE_integer("kills", 30, "Interruptions.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")


def start(workdir: pathlib.Path):
  """Starts or goes on with the small run.

  Args:
    workdir: Its folder.

  Returns:
    The process.
  """
  settings = {
    "num_steps": 10_000,
    "log_every": 25,
    "eval_every": 500,
    "checkpoint_every": 130,
    "data.dir": _DATA_DIR.value,
    "data.name": _NAME.value,
    "data.batch_size": 32,
    "model.widths": "(16,)",
    "mixture.num_centers": 16,
  }
  return subprocess.Popen(
    [
      sys.executable,
      "experiments/main.py",
      "--config=experiments/configs/base.py",
      f"--workdir={workdir}",
      *(f"--config.{key}={value}" for key, value in settings.items()),
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def interrupt(workdir: pathlib.Path, rng: random.Random) -> int:
  """Interrupts a run until it has been as often as asked, or is done.

  Args:
    workdir: Its folder.
    rng: Draws the moments, from its start until some way into its steps.

  Returns:
    How many interruptions there were.
  """
  for number in range(_KILLS.value):
    with start(workdir) as process:
      time.sleep(rng.uniform(2, 10))
      if process.poll() is not None:
        return number
      process.send_signal((signal.SIGKILL, signal.SIGTERM)[number % 2])
    expected = (-signal.SIGKILL, os.EX_TEMPFAIL, -signal.SIGTERM)
    if process.returncode not in expected:
      sys.exit(f"interruption {number}: exit code {process.returncode}")
  return _KILLS.value


def compare(a: pathlib.Path, b: pathlib.Path) -> list[str]:
  """Compares two workdirs.

  Args:
    a: One run's folder.
    b: The other's.

  Returns:
    What differs.
  """
  found = []
  for workdir in (a, b):
    lines = [
      {key: value for key, value in line.items() if key not in progress.TIMINGS}
      for line in logs.read_metrics(workdir)
    ]
    path = workdir / "eval/test/metrics.json"
    state = run_lib.load(workdir, last=True).state
    found.append((lines, json.loads(path.read_text()), state))
  (lines, metrics, state), (other_lines, other_metrics, other_state) = found
  differing = []
  if lines != other_lines:
    differing.append("metrics.jsonl")
  if metrics != other_metrics:
    differing.append("eval/test/metrics.json")
  for (key, leaf), other in zip(
    jax.tree_util.tree_leaves_with_path(state),
    jax.tree.leaves(other_state),
    strict=True,
  ):
    if np.asarray(leaf).tobytes() != np.asarray(other).tobytes():
      differing.append(jax.tree_util.keystr(key))
  return differing


def main(argv):
  """Trains both, compares, prints."""
  del argv
  logging.set_verbosity(logging.WARNING)
  with tempfile.TemporaryDirectory() as folder:
    whole, killed = (
      pathlib.Path(folder, "whole"),
      pathlib.Path(folder, "killed"),
    )
    kills = interrupt(killed, random.Random(_SEED.value))
    for workdir in (killed, whole):
      if start(workdir).wait():
        sys.exit(f"{workdir} did not end")
    differing = compare(killed, whole)
  print(
    f"{kills} interruptions; differing: {', '.join(differing) or 'nothing'}"
  )
  if differing:
    sys.exit(1)


if __name__ == "__main__":
  app.run(main)
