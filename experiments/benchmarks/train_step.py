"""A training step of the Core encoder in geojax and in PyTorch.

  python -m experiments.benchmarks.train_step [--sizes atto nano] [--rounds 9]

The step is that of `train_step_forms`; losses must agree. PyTorch (extra
`[bench]`) runs eagerly, channels-last and contiguous, and by torch.compile
where that works. Both sides have glibc's huge pages where
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 is in the environment; geojax is compiled
with `compilation.options()`.

Each form runs in a process of its own. They take turns of three steps, so that
other work on the machine slows all of them alike; one more step before those is
not counted, because it pays for memory that the system took away during the
others' turns. Columns: median and least time of a step; both over those of
PyTorch's fastest form; the share of the arithmetic peak, in FLOPs of the native
convolutions, at the least time; growth of the resident size since before the
model was made, at its peak over the steps; seconds until the first step was
done beyond a step's time. The peak is what a large float32 matrix product
reaches in the same processes. `experiments.benchmarks.memory` prints what the
memory of geojax's step consists of.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from experiments import command
from experiments.benchmarks import memory
from experiments.benchmarks import train_step_forms as forms

_STEPS_A_TURN = 3
# How near one loss is to another, relatively.
_AGREEMENT = 1e-4


def count_flops(depths, widths, side: int) -> tuple[int, int]:
  """FLOPs of one image, 2 a multiplication and addition: forward, and a step.

  Those of matrix products and native convolutions. Backward each of them takes
  twice the forward ones, but for the first layers: images need no gradient.
  """
  multiplied, first, channels = 0, 0, forms.BANDS
  for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
    pixels = (side >> stage) ** 2
    # The stem is a block more in the first stage.
    for _ in range(depth + (stage == 0)):
      entry = channels * width * (2 if channels != width else 1)
      if not first:
        first = entry * pixels
      # 1x1 convolutions of the block and of its residual, depthwise, full.
      multiplied += pixels * (entry + 9 * width + 9 * width**2)
      # Squeeze and excitation.
      multiplied += 2 * width * (width // 16)
      channels = width
  multiplied += channels * forms.OUTPUTS
  return 2 * multiplied, 2 * (3 * multiplied - first)


def timed(function):
  """Seconds that a call takes, and what it returns."""
  start = time.perf_counter()
  result = function()
  return time.perf_counter() - start, result


def work(form, size, path):
  """Answers each line read: `step` or `product` by seconds and peak MiB."""
  weights = dict(np.load(path))
  product = forms.make_product(form)
  product()
  before = memory.resident_mib()

  def begin():
    if form == "geojax":
      run = forms.make_jax_run(size, weights)
    else:
      run = forms.make_torch_run(form, size, weights)
    return run, run()

  try:
    first, (run, loss) = timed(begin)
  except Exception as error:
    # torch.compile does not work everywhere: the other forms go on without it.
    if form != "torch compile":
      raise
    words = str(error).strip().splitlines() or [type(error).__name__]
    print(json.dumps({"failed": words[0]}), flush=True)
    return
  second, next_loss = timed(run)
  # Of the steps alone: compiling has a peak of its own.
  memory.reset_peak()
  compiling = max(first - second, 0)
  answer = {"losses": [loss, next_loss], "compile": compiling}
  print(json.dumps(answer), flush=True)
  for line in sys.stdin:
    seconds, _ = timed(run if line.strip() == "step" else product)
    print(seconds, memory.resident_mib(peak=True) - before, flush=True)


class Worker:
  """A form in a process of its own."""

  def __init__(self, form, size, path):
    arguments = ["--form", form, "--sizes", size, "--weights", path]
    self.process = subprocess.Popen(
      [sys.executable, "-m", "experiments.benchmarks.train_step", *arguments],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    line = self.process.stdout.readline()
    if not line:
      raise SystemExit(f"{form} failed with the error above")
    self.beginning = json.loads(line)

  def do(self, task):
    """Seconds of a `step` or `product`, and the peak in MiB so far."""
    self.process.stdin.write(f"{task}\n")
    self.process.stdin.flush()
    return map(float, self.process.stdout.readline().split())

  def close(self):
    """Ends the process."""
    self.process.stdin.close()
    self.process.wait()


def compare(size, forms, rounds):
  """Lets the forms take turns.

  Returns:
    By form the seconds of each step, the peak in MiB and what compiling took;
    and the seconds of the fastest matrix product.
  """
  with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/weights.npz"
    # In a process of its own, whose threads and memory end with it.
    subprocess.run(
      [sys.executable, "-m", "experiments.benchmarks.train_step"]
      + ["--sizes", size, "--weights", path],
      check=True,
    )
    workers = {form: Worker(form, size, path) for form in forms}
  for form, worker in list(workers.items()):
    if "failed" in worker.beginning:
      print(f"{form} does not work here: {worker.beginning['failed']}")
      workers.pop(form).close()
  losses = {
    form: worker.beginning["losses"] for form, worker in workers.items()
  }
  first, second = zip(*losses.values(), strict=True)
  # The second loss comes after AdamW's first step, which is as long for a
  # gradient that is rounding alone as for any other.
  if (
    max(first) / min(first) > 1 + _AGREEMENT or max(second) / min(second) > 1.1
  ):
    raise SystemExit(f"the forms disagree: {losses}")
  steps = {form: [] for form in workers}
  peaks, products = {}, []
  for _ in range(rounds):
    for form, worker in workers.items():
      worker.do("step")
      for _ in range(_STEPS_A_TURN):
        seconds, peaks[form] = worker.do("step")
        steps[form].append(seconds)
  for worker in workers.values():
    products += [next(worker.do("product")) for _ in range(5)]
    worker.close()
  compiling = {
    form: worker.beginning["compile"] for form, worker in workers.items()
  }
  return steps, peaks, compiling, min(products)


def report(size, steps, peaks, compiling, product):
  """Prints the lines of a size."""
  from geojax.models import core

  batch, side = forms.BATCHES[size]
  flops = batch * count_flops(*core.SIZES[size], side)[1]
  peak = 2 * forms.MATRIX**3 / product
  print(
    f"core_{size}, {batch} x {side} x {side}: {flops / 1e9:.0f} GFLOPs a step;"
    f" a matrix product reaches {peak / 1e9:.0f} GFLOPs a second"
  )
  print(
    f"{'form':<20} {'ms':>7} {'least':>7} {'ratio':>6} {'least':>6}"
    f" {'of peak':>8} {'MiB':>6} {'compile s':>9}"
  )
  medians = {form: statistics.median(steps[form]) for form in steps}
  least = {form: min(steps[form]) for form in steps}
  others = [form for form in steps if form != "geojax"]
  ratios = [
    min((values[form] for form in others), default=math.nan)
    for values in (medians, least)
  ]
  for form in steps:
    print(
      f"{form:<20} {1e3 * medians[form]:>7.0f} {1e3 * least[form]:>7.0f}"
      f" {medians[form] / ratios[0]:>6.2f} {least[form] / ratios[1]:>6.2f}"
      f" {flops / least[form] / peak:>8.0%} {peaks[form]:>6.0f}"
      f" {compiling[form]:>9.1f}",
      flush=True,
    )


def main():
  """Prints a table for each size."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  sizes = tuple(forms.BATCHES)
  parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes)
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument(
    "--forms", nargs="+", choices=forms.FORMS, default=forms.FORMS
  )
  parser.add_argument("--form", choices=forms.FORMS, help=argparse.SUPPRESS)
  parser.add_argument("--weights", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.form:
    work(args.form, args.sizes[0], args.weights)
  elif args.weights:
    forms.write_weights(args.sizes[0], args.weights)
  else:
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} CPUs, {args.rounds} rounds; ratio: to PyTorch's best")
    for size in args.sizes:
      report(size, *compare(size, args.forms, args.rounds))


if __name__ == "__main__":
  command.keep_freed_memory_low()
  main()
