"""The memory of a process, and what a training step of the Core encoder holds.

  python -m experiments.benchmarks.memory [--size atto]

prints what one step of `experiments.benchmarks.train_step` holds, in MiB: the
growth of the process from before the compilation to the peak of the steps, the
buffers that XLA plans, and the largest of them where a step holds most.
"""

import argparse
import collections
import pathlib
import re
import tempfile

from experiments import command

_LARGEST = 16
_STEPS = 3


def resident_mib(peak: bool = False) -> float:
  """Resident size of this process in MiB, now or at its peak, on Linux.

  The peak is not that of `resource.getrusage`, which starts at the peak of
  whoever started the process.
  """
  name = "VmHWM:" if peak else "VmRSS:"
  status = pathlib.Path("/proc/self/status").read_text()
  (line,) = (x for x in status.splitlines() if x.startswith(name))
  return int(line.split()[1]) / 1024


def peak_mib() -> float:
  """Peak resident size of this process so far."""
  return resident_mib(peak=True)


def reset_peak() -> None:
  """Lets the peak start at what the process holds now."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")


def live_buffers(folder: str) -> list[tuple[str, int]]:
  """Buffers at the peak of a program that XLA dumped into a folder.

  Args:
    folder: Holds the dump of one program named `step`.

  Returns:
    Shape and bytes of each buffer.
  """
  (program,) = pathlib.Path(folder).glob("*jit_step*after_optimizations.txt")
  shapes = dict(
    re.findall(r"%?([\w.\-]+) = (\w+\[[\d,]*\])", program.read_text())
  )
  (ranges,) = pathlib.Path(folder).glob("*jit_step*live-range.txt")
  _, peak = ranges.read_text().split("(peak):")
  peak, *_ = peak.split("Stack trace breakdown")
  buffers = re.findall(r"([\w.\-]+)\{[\d,]*\}: (\d+) bytes", peak)
  return [(shapes.get(name, name), int(size)) for name, size in buffers]


def grow(size: str, options: dict) -> tuple[float, float]:
  """Growth of the process by a compilation, and up to the peak of the steps."""
  import jax
  import jax.numpy as jnp

  from experiments.benchmarks import train_step_forms as forms

  before = resident_mib()
  step, optimizer, variables = forms.compile_jax_step(size, options)
  compiled = resident_mib() - before
  variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), variables)
  params = variables["params"]
  state = [params, variables["batch_stats"], optimizer.init(params)]
  images, targets = map(jnp.asarray, forms.make_batch(*forms.BATCHES[size]))
  del params, variables
  reset_peak()
  for _ in range(_STEPS):
    *state[:], _ = step(*state, images, targets)
    jax.block_until_ready(state)
  return compiled, peak_mib() - before


def main():
  """Prints the profile of one size."""
  # They import this module.
  from experiments.benchmarks import train_step_forms as forms
  from geojax.training import compilation

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--size", choices=tuple(forms.BATCHES), default="atto")
  size = parser.parse_args().size
  batch, side = forms.BATCHES[size]
  print(f"core_{size}, {batch} x {side} x {side}, MiB")
  options = compilation.options()
  compiled, peak = grow(size, options)
  with tempfile.TemporaryDirectory() as folder:
    dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
    program, *_ = forms.compile_jax_step(size, options | dump)
    buffers = live_buffers(folder)
  planned = program.memory_analysis()
  for words, mib in (
    ("the process grows by at the peak of its steps", peak),
    ("of it: libraries and the compiled program", compiled),
    ("arguments", planned.argument_size_in_bytes / 2**20),
    ("buffers of a step", planned.temp_size_in_bytes / 2**20),
  ):
    print(f"{mib:7.1f}  {words}")
  print("The largest arguments and buffers when a step holds most, by shape:")
  totals, counts = collections.Counter(), collections.Counter()
  for shape, size_in_bytes in buffers:
    totals[shape] += size_in_bytes
    counts[shape] += 1
  for shape, total in totals.most_common(_LARGEST):
    print(f"{total / 2**20:7.1f}  {counts[shape]} x {shape}")


if __name__ == "__main__":
  command.keep_freed_memory_low()
  main()
