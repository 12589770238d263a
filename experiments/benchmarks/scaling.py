"""What a step costs on 1, 2, 4 and 8 devices, and on paper on a TPU pod.

  python -m experiments.benchmarks.scaling

Devices are simulated on this machine's cores, so that step times tell what
spreading costs, never what more devices gain. Bytes are those of the
collectives in the compiled step, memory what its compiler plans for a device.
The pod is worked out from the operations that the compiler counts, as are hours
and cost of experiments/configs/sentinel2.py on several machines: estimates.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import dataclasses
import math
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.benchmarks import noise
from experiments.configs import sentinel2
from geojax import models, tasks
from geojax.training import config as config_lib
from geojax.training import sharding
from geojax.training import state as state_lib
from geojax.training import step as step_lib

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Rows of the whole batch.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps to time.")

_BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "bf16": 2}
_COLLECTIVE = re.compile(
  r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter|"
  r"collective-permute)(?:-start)?\("
)

# A TPU v5e chip: bfloat16 operations and bytes between chips a second, memory.
_V5E_FLOPS, _V5E_BYTES, _V5E_GIB = 197e12, 200e9, 16
# Shares of these that a step is taken to reach.
_ARITHMETIC_SHARE, _LINK_SHARE = 0.3, 0.5


def collectives(text: str) -> list[tuple[str, int]]:
  """Reads the collectives off a compiled program.

  Args:
    text: The program, as of `jax.stages.Compiled.as_text`.

  Returns:
    Kind and bytes of the result of each.
  """
  found = []
  for shapes, kind in _COLLECTIVE.findall(text):
    size = sum(
      _BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
      for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    )
    found.append((kind, size))
  return found


def _step_and_state(config, image_shape, mesh):
  """A compiled step for a mesh, and the shapes of its state."""
  task_list = tasks.create_tasks(config, mesh=mesh)
  shapes = state_lib.state_shapes(config, task_list, image_shape=image_shape)
  shardings = sharding.state_shardings(
    shapes, mesh, fsdp=config.sharding == "fsdp"
  )
  scale = np.zeros(image_shape[2], np.float32), np.ones(image_shape[2])
  step = step_lib.make_train_step(
    config,
    task_list,
    offset=scale[0],
    divisor=scale[1].astype(np.float32),
  )
  return (
    sharding.compile_step(step, shardings, parallel="jit"),
    models.unbox(shapes),
    shardings,
  )


def _measure(config, devices):
  mesh = jax.make_mesh(
    (devices, 1),
    ("data", "model"),
    devices=jax.devices()[:devices],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
  step, shapes, shardings = _step_and_state(config, (32, 32, 5), mesh)
  state = jax.device_put(
    jax.tree.map(lambda x: np.full(x.shape, 0.01, x.dtype), shapes), shardings
  )
  rows = _BATCH_SIZE.value
  batch = sharding.put_batch(
    {
      "image": np.zeros((rows, 32, 32, 5), np.float32),
      **noise.read_labels(rows),
    },
    mesh,
  )
  compiled = step.lower(state, batch).compile()
  memory = compiled.memory_analysis()
  state, metrics = compiled(state, batch)
  jax.block_until_ready(metrics)
  times = []
  for _ in range(_STEPS.value):
    start = time.perf_counter()
    state, metrics = compiled(state, batch)
    jax.block_until_ready(metrics)
    times.append(time.perf_counter() - start)
  moved = sum(size for _, size in collectives(compiled.as_text()))
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  return 1e3 * np.median(times), moved / 2**20, held / 2**20


def on_paper(rows_per_chip: int = 32, chips: int = 256) -> str:
  """Works a step of core_base out for a pod of v5e chips: an estimate.

  Args:
    rows_per_chip: Patches of 128 x 128 pixels and ten bands a chip.
    chips: How many.

  Returns:
    A sentence.
  """
  config = config_lib.default_config()
  config.model.depths, config.model.widths = (
    (3, 3, 27, 3),
    (128, 256, 512, 1024),
  )
  mesh = jax.make_mesh(
    (1, 1),
    ("data", "model"),
    devices=jax.devices()[:1],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
  step, state, _ = _step_and_state(config, (128, 128, 10), mesh)
  batch = {
    "image": jax.ShapeDtypeStruct((1, 128, 128, 10), jnp.float32),
    **jax.eval_shape(lambda: noise.read_labels(1)),
  }
  flops = step.lower(state, batch).cost_analysis()["flops"]
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  compute_s = rows_per_chip * flops / (_V5E_FLOPS * _ARITHMETIC_SHARE)
  # A ring sends all but one part of the gradients twice.
  moved = 2 * 4 * parameters * (chips - 1) / chips
  exchange_s = moved / (_V5E_BYTES * _LINK_SHARE)
  held_gib = 4 * 4 * parameters / 2**30
  slower = max(compute_s, exchange_s)
  return (
    f"Estimate, not measured: core_base ({parameters / 1e6:.0f} M parameters,"
    f" {flops / 1e9:.0f} GFLOP a patch and step) on {chips} v5e chips with"
    f" {rows_per_chip} patches each: {1e3 * compute_s:.0f} ms of arithmetic at"
    f" {_ARITHMETIC_SHARE:.0%} of the peak, {moved / 2**20:.0f} MiB a chip in"
    f" {1e3 * exchange_s:.0f} ms at {_LINK_SHARE:.0%} of the links; between"
    f" {rows_per_chip * chips / (compute_s + exchange_s):,.0f} and"
    f" {rows_per_chip * chips / slower:,.0f} patches a second. Parameters,"
    f" gradients and AdamW's two moments need {held_gib:.1f} of {_V5E_GIB} GiB,"
    f" {held_gib / chips * 1024:.0f} MiB under fsdp; activations come on top"
  )


@dataclasses.dataclass(frozen=True)
class Machine:
  """What a run costs on paper.

  Attributes:
    name: Its name.
    chips: How many.
    hosts: Machines that these are in, each of which reads its own rows.
    flops: bfloat16 operations a second of a chip.
    share: Of these, what a step is taken to reach.
    link_bytes: Bytes a second between chips.
    dollars: List price of a chip and hour, on demand.
  """

  name: str
  chips: int
  hosts: int
  flops: float
  share: float
  link_bytes: float
  dollars: float


_MACHINES = (
  # An H100 was measured at 0.17 to 0.24 of 684e12 with core_nano and vit_s.
  Machine("1 H100", 1, 1, 684e12, 0.2, math.inf, 3.0),
  Machine("v5litepod-16", 16, 4, _V5E_FLOPS, 0.2, _V5E_BYTES, 1.2),
  Machine("v5e-256", 256, 64, _V5E_FLOPS, 0.2, _V5E_BYTES, 1.2),
)
# Ten bands and the scene classification, compressed.
# What a host reads a second, from a bucket or its own disk.
_READ_BYTES = 1e9
_SENTINEL2_SHAPE, _RECORD_BYTES = (128, 128, 11), 0.6 * 128 * 128 * 11 * 2


def sentinel2_on_paper() -> str:
  """Works the recipe for Sentinel-2 out; returns a table in Markdown."""
  config = sentinel2.get_config()
  mesh = jax.make_mesh(
    (1, 1),
    ("data", "model"),
    devices=jax.devices()[:1],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
  step, state, _ = _step_and_state(config, _SENTINEL2_SHAPE, mesh)
  batch = {
    "image": jax.ShapeDtypeStruct((1, *_SENTINEL2_SHAPE), jnp.float32),
    **jax.eval_shape(lambda: noise.read_labels(1)),
  }
  flops = step.lower(state, batch).cost_analysis()["flops"]
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  rows = config.data.batch_size
  patches = rows * config.num_steps
  lines = [
    f"Estimate, not measured: {parameters / 1e6:.0f} M parameters,"
    f" {flops / 1e9:.1f} GFLOP a patch and step; {config.num_steps:,} steps of"
    f" {rows:,} patches, {patches * _RECORD_BYTES / 1e12:.0f} TB of records.",
    "| machine | arithmetic and exchange | reading | hours | list price |",
    "|---|--:|--:|--:|--:|",
  ]
  for machine in _MACHINES:
    compute_s = rows * flops / (machine.chips * machine.flops * machine.share)
    # A ring sends all but one part of the gradients twice.
    moved = 2 * 4 * parameters * (machine.chips - 1) / machine.chips
    compute_s += moved / (machine.link_bytes * _LINK_SHARE)
    read_s = rows * _RECORD_BYTES / (machine.hosts * _READ_BYTES)
    # Batches are read while a step computes.
    hours = max(compute_s, read_s) * config.num_steps / 3600
    cost = hours * machine.chips * machine.dollars
    lines.append(
      f"| {machine.name} | {1e3 * compute_s:.0f} ms | {1e3 * read_s:.0f} ms |"
      f" {hours:.1f} | ${cost:,.0f} |"
    )
  return "\n".join(lines)


def main(argv):
  """Prints the table and the estimate."""
  del argv
  config = config_lib.default_config()
  config.model.depths, config.model.widths = (1, 1), (32, 64)
  config.model.patch_size = 4
  print(
    f"{'sharding':<12}{'devices':>8}{'step ms':>10}{'MiB moved':>11}", end=""
  )
  print(f"{'MiB a device':>14}")
  for config.sharding in ("replicated", "fsdp"):
    for devices in (1, 2, 4, 8):
      step_ms, moved, held = _measure(config, devices)
      print(
        f"{config.sharding:<12}{devices:>8}{step_ms:>10.1f}{moved:>11.2f}"
        f"{held:>14.2f}",
        flush=True,
      )
  print(on_paper())
  print(sentinel2_on_paper())


if __name__ == "__main__":
  app.run(main)
