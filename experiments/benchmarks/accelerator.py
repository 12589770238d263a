"""Training steps on an accelerator, in geojax and in PyTorch.

  python -m experiments.benchmarks.accelerator [--models core_nano:64]

Patches of 128 x 128 pixels and ten bands, bfloat16. geojax runs the train step
of the command, which also scales and flips the patches; PyTorch (extra
`[bench]`) an encoder of the same sizes with a linear head, compiled, with
autocast, fused AdamW and, for the Core family, channels-last patches that are
scaled already. Batches are on the device, so that reading them costs nothing.

Each form lives in a process of its own, and they take turns. Columns:
milliseconds of a step, the median of turns of ten, of which the host waits for
the last; patches a second; the share of the arithmetic peak, by FLOPs of three
forward passes (without those that remat repeats); GiB that a step needs at its
most. The arithmetic peak is that of a product of large bfloat16 matrices, which
takes minutes on a CPU.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np

SIDE, BANDS, OUTPUTS = 128, 10, 36
FORMS = "geojax", "geojax remat", "torch compile"
_STEPS, _ROUNDS = 10, 9
# Rows and columns of the matrices that measure the peak.
_MATRIX = 8192


def split_name(model: str) -> tuple[str, str, int]:
  """Encoder, size and patch size of a name such as `vit_s/16`."""
  name, _, patch_size = model.partition("/")
  name, size = name.rsplit("_", 1)
  return name, size, int(patch_size or 1)


def make_geojax_run(model: str, batch_size: int, remat: bool):
  """Returns a function that starts a step, one that waits, and GiB."""
  import jax

  from experiments.benchmarks import noise
  from geojax import tasks
  from geojax.training import compilation
  from geojax.training import config as config_lib
  from geojax.training import state as state_lib
  from geojax.training import step as step_lib

  config = config_lib.default_config()
  name, size, patch_size = split_name(model)
  config.model.update(
    name=name, size=size, patch_size=patch_size, remat=remat, dtype="bfloat16"
  )
  config.augment.flip_east_west = config.augment.flip_north_south = True
  task_list = tasks.create_tasks(config)
  state = state_lib.create_state(
    config,
    task_list,
    image_shape=(SIDE, SIDE, BANDS),
    read_labels=noise.read_labels,
  )
  step = jax.jit(
    step_lib.make_train_step(
      config,
      task_list,
      offset=np.zeros(BANDS, np.float32),
      divisor=np.full(BANDS, 1e4, np.float32),
    ),
    donate_argnums=0,
    compiler_options=compilation.options(),
  )
  rng = np.random.default_rng(0)
  images = rng.integers(0, 10_000, (batch_size, SIDE, SIDE, BANDS))
  batch = {"image": images.astype(np.int16), **noise.read_labels(batch_size)}
  batch = jax.device_put(batch)
  step = step.lower(state, batch).compile()
  memory = step.memory_analysis()
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  states = [state]

  def run():
    states[0], metrics = step(states[0], batch)
    return metrics

  return run, jax.block_until_ready, lambda: held


def make_torch_run(model: str, batch_size: int):
  """The same in PyTorch."""
  import torch

  from experiments.benchmarks import torch_models

  device = "cuda" if torch.cuda.is_available() else "cpu"
  name, size, patch_size = split_name(model)
  if name == "vit":
    module = make_torch_vit(size, patch_size)
    layout = torch.contiguous_format
  else:
    module = torch_models.CoreEncoder(
      bands=BANDS,
      num_outputs=OUTPUTS,
      excitation="gate",
      **torch_models.depths_and_widths(size),
    )
    layout = torch.channels_last
  module = module.to(device=device, memory_format=layout)
  images = torch.randn(batch_size, BANDS, SIDE, SIDE, device=device)
  images = images.contiguous(memory_format=layout)
  targets = torch.rand(batch_size, OUTPUTS, device=device)
  optimizer = torch.optim.AdamW(module.parameters(), 1e-3, fused=True)
  apply = torch.compile(module)

  def run():
    optimizer.zero_grad()
    with torch.autocast(device, torch.bfloat16):
      outputs = apply(images)
    loss = (outputs.float() - targets).square().mean()
    loss.backward()
    optimizer.step()
    return loss

  def held():
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0

  return run, lambda loss: float(loss.detach()), held


def make_torch_vit(size: str, patch_size: int):
  """PyTorch's ViT of one of `geojax.models`' sizes."""
  from experiments.benchmarks import torch_models
  from geojax.models import vit

  width, depth, num_heads = vit.SIZES[size]
  return torch_models.ViT(
    bands=BANDS,
    num_outputs=OUTPUTS,
    side=SIDE,
    patch_size=patch_size,
    width=width,
    depth=depth,
    num_heads=num_heads,
  )


def work(form: str, model: str, batch_size: int) -> None:
  """Answers each line read by the milliseconds of a step and GiB."""
  if form == "torch compile":
    run, wait, held = make_torch_run(model, batch_size)
  else:
    run, wait, held = make_geojax_run(model, batch_size, "remat" in form)
  for _ in range(3):
    wait(run())
  print("ready", flush=True)
  for _ in sys.stdin:
    milliseconds = 1e3 * _time(run, wait)
    print(milliseconds, held() / 2**30, flush=True)


def _time(run, wait) -> float:
  """Seconds of one of some calls, of which the last is waited for."""
  start = time.perf_counter()
  for _ in range(_STEPS):
    result = run()
  wait(result)
  return (time.perf_counter() - start) / _STEPS


def measure_peak() -> tuple[str, float]:
  """The device, and FLOPs a second of a product of large matrices."""
  import jax
  import jax.numpy as jnp

  keys = jax.random.split(jax.random.key(0))
  shape = (_MATRIX, _MATRIX)
  left, right = (jax.random.normal(key, shape, jnp.bfloat16) for key in keys)
  product = jax.jit(jnp.matmul)
  jax.block_until_ready(product(left, right))
  times = [
    _time(lambda: product(left, right), jax.block_until_ready)
    for _ in range(_ROUNDS)
  ]
  return jax.devices()[0].device_kind, 2 * _MATRIX**3 / statistics.median(times)


def count_flops(model: str) -> float:
  """FLOPs of a training step, a patch: three times a forward pass's."""
  from experiments.benchmarks import model_table

  name, size, patch_size = split_name(model)
  made = model_table.make_model(name, size, patch_size)
  return 3 * model_table.count_flops(made, BANDS, SIDE)


def compare(model: str, batch_size: int, forms) -> dict:
  """Lets all forms take turns; returns milliseconds and GiB of each."""
  workers = {}
  for form in forms:
    words = ["--form", form, "--models", f"{model}:{batch_size}"]
    workers[form] = subprocess.Popen(
      [sys.executable, "-m", "experiments.benchmarks.accelerator", *words],
      # All are on the device at once.
      env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
  for form, worker in workers.items():
    if worker.stdout.readline().strip() != "ready":
      raise SystemExit(f"{form} of {model} failed")
  answers = {form: [] for form in workers}
  for _ in range(_ROUNDS):
    for form, worker in workers.items():
      worker.stdin.write("run\n")
      worker.stdin.flush()
      answers[form].append(
        [float(word) for word in worker.stdout.readline().split()]
      )
  for worker in workers.values():
    worker.stdin.close()
    worker.wait()
  return {form: np.median(values, axis=0) for form, values in answers.items()}


def main():
  """Prints a table: a line for each encoder and form."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--models",
    nargs="+",
    default=["core_nano:64", "vit_s/16:256"],
    help="encoders and batch sizes",
  )
  parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
  parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
  args = parser.parse_args()
  models = [(m, int(n)) for m, n in (x.split(":") for x in args.models)]
  if args.form:
    work(args.form, *models[0])
    return
  rows = []
  for model, batch_size in models:
    for form, (ms, gib) in compare(model, batch_size, args.forms).items():
      rows.append((model, batch_size, form, ms, gib))
  # Last, as the memory that JAX takes here stays with this process.
  device, peak = measure_peak()
  print(f"{device}, {peak / 1e12:.0f} TFLOP/s in bfloat16")
  print("| encoder | batch | form | ms | patches/s | of the peak | GiB |")
  print("|---|--:|---|--:|--:|--:|--:|")
  for model, batch_size, form, ms, gib in rows:
    rate = batch_size / ms * 1e3
    share = rate * count_flops(model) / peak
    print(
      f"| {model} | {batch_size} | {form} | {ms:.1f} | {rate:,.0f} |"
      f" {share:.1%} | {gib:.1f} |"
    )


if __name__ == "__main__":
  main()
