"""Whether the memory of a long run stays as it is.

  python -m experiments.benchmarks.soak --data_dir=DIR

Trains 2,000 steps with evaluation and a checkpoint every 100, and compares the
process's memory at the end with that after the first 200: within 2 %, or the
exit code is 1.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from geojax.training import logs

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of the data sets.")
_NAME = flags.DEFINE_string("name", "geo_tiles/earth", "The data set.")
_STEPS = flags.DEFINE_integer("steps", 2000, "Steps to train.")
_SETTLED, _ALLOWED = 200, 0.02


def memory_by_step(process, workdir: pathlib.Path) -> list[tuple[int, float]]:
  """Follows a run to its end.

  Args:
    process: The run's.
    workdir: Its folder.

  Returns:
    Resident MiB after each evaluation, by step.
  """
  page = os.sysconf("SC_PAGE_SIZE")
  found = []
  while process.poll() is None:
    time.sleep(0.05)
    steps = [
      line["step"]
      for line in logs.read_metrics(workdir)
      if line["split"] == "validation"
    ]
    if steps and (not found or steps[-1] > found[-1][0]):
      try:
        statm = pathlib.Path(f"/proc/{process.pid}/statm").read_text()
      except OSError:
        break
      resident = int(statm.split()[1])
      if resident:
        found.append((steps[-1], resident * page / 2**20))
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
  for step, mib in found:
    print(f"step {step:>5}  {mib:8.1f} MiB")
  settled = next(mib for step, mib in found if step >= _SETTLED)
  growth = found[-1][1] / settled - 1
  print(f"growth since step {_SETTLED}: {growth:.2%}")
  if growth > _ALLOWED:
    sys.exit(1)


if __name__ == "__main__":
  app.run(main)
