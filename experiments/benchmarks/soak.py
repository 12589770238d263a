"""Whether the memory of a long run stays as it is.

  python -m experiments.benchmarks.soak --data_dir=DIR

Trains 10,000 steps with evaluation and a checkpoint every 100, and compares the
process's memory in the last 100 with that after the first 500: within 2 %, or
the exit code is 1. Medians are compared, as a save holds a copy for a moment.
On 2 cores of an Intel Xeon it grew by 7 %, 0.5 MiB with each save and
evaluation. 0.2 MiB of that is what a save of 190 arrays leaves (of one array,
0.04 MiB): TensorStore, up to 0.1.86, never frees what `to_json` makes, 4 KB of
the spec of an array, and Orbax calls it for each. Evaluations alone leave
nothing; where the rest goes is not known.
"""

import collections
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from geojax.training import logs

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of the data sets.")
_NAME = flags.DEFINE_string("name", "geo_tiles/earth", "The data set.")
_SETTLED, _ALLOWED = 500, 0.02
_STEPS = flags.DEFINE_integer(
  "steps", 10_000, "Steps to train.", lower_bound=2 * _SETTLED
)


def memory_by_step(process, workdir: pathlib.Path) -> dict[int, list[float]]:
  """Follows a run to its last evaluation.

  Args:
    process: The run's.
    workdir: Its folder.

  Returns:
    By step of an evaluation, resident MiB 20 times a second until the next.
  """
  page = os.sysconf("SC_PAGE_SIZE")
  found = collections.defaultdict(list)
  while process.poll() is None:
    time.sleep(0.05)
    evaluated = [
      line["step"]
      for line in logs.read_metrics(workdir)
      if line["split"] == "validation"
    ]
    if evaluated and evaluated[-1] < _STEPS.value:
      statm = pathlib.Path(f"/proc/{process.pid}/statm").read_text()
      found[evaluated[-1]].append(int(statm.split()[1]) * page / 2**20)
  return found


def main(argv):
  """Trains and prints the memory."""
  del argv
  settings = {
    "num_steps": _STEPS.value,
    "eval_every": 100,
    "checkpoint_every": 100,
    "data.dir": _DATA_DIR.value,
    "data.name": _NAME.value,
    "data.batch_size": 32,
    "model.widths": "(16,)",
    "mixture.num_centers": 16,
  }
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder, "run")
    with subprocess.Popen(
      [
        sys.executable,
        "experiments/main.py",
        "--config=experiments/configs/base.py",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in settings.items()),
      ],
      stdout=subprocess.DEVNULL,
    ) as process:
      found = memory_by_step(process, workdir)
    if process.returncode:
      sys.exit(process.returncode)
  print("     from step   median MiB  highest")
  for step, samples in found.items():
    print(f"{step:>14} {statistics.median(samples):12.1f} {max(samples):8.1f}")
  settled = next(samples for step, samples in found.items() if step >= _SETTLED)
  *_, last = found.values()
  growth = statistics.median(last) / statistics.median(settled) - 1
  print(f"growth since step {_SETTLED}: {growth:.2%}")
  if growth > _ALLOWED:
    sys.exit(1)


if __name__ == "__main__":
  app.run(main)
