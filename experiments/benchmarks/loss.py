"""Time and memory of the mixture loss: dense, fused, and in plain PyTorch.

  python -m experiments.benchmarks.loss [--centers 1024 32768] [--rounds 7]

Forward and backward of the head and the loss, by all parameters and the
features. PyTorch (extra `[bench]`) comes in two forms, both with log-softmax
weights, logsumexp over the components and autograd: `torch` takes mu.x by a
matrix product, as is usual; `torch chord` takes |x - mu|^2 from differences, as
accurate at large kappa as geojax.

Each form lives in a process of its own. They take turns, one run each, so that
whatever else the machine does falls on all of them alike. Peak memory is the
growth of the process's peak resident size since before the arrays were made:
parameters and gradients included; on a GPU it is of no use. Both sides use the
GPU where there is one.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from experiments.benchmarks import memory

FORMS = "dense", "fused", "torch", "torch chord"
# Batch, features and centers whose working memory is told.
WORKING_MEMORY = (256, 256, 2**15), (4096, 256, 2**15), (256, 64, 2**20)


def make_arrays(batch, features, centers):
  """Points, features, head and mixture, as float32 and from one seed."""
  rng = np.random.default_rng(0)
  mu = rng.normal(size=(centers, 3))
  mu /= np.linalg.norm(mu, axis=1, keepdims=True)
  x = mu[rng.integers(centers, size=batch)] + rng.normal(size=(batch, 3)) / 50
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  values = (
    x,
    rng.normal(size=(batch, features)),
    rng.normal(size=(features, centers)) / features**0.5,
    np.zeros(centers),
    mu,
    np.full(centers, 9.0),
  )
  return [np.asarray(value, np.float32) for value in values]


def make_jax_step(form):
  """Returns the jitted loss and its gradients."""
  import jax
  import jax.numpy as jnp

  from geojax import mixture

  def loss(features, kernel, bias, mu, log_kappa, x):
    if form == "fused":
      log_prob = mixture.fused_log_prob(
        x, features, kernel, bias, mu, log_kappa
      )
    else:
      logits = features @ kernel + bias[None, :]
      log_prob = mixture.log_prob(x, logits, mu, log_kappa)
    return -jnp.mean(log_prob)

  return jax.jit(jax.value_and_grad(loss, range(5)))


def working_mib(form, batch, features, centers):
  """What the compiled step needs beside its inputs and gradients, in MiB."""
  import jax

  shapes = [
    jax.ShapeDtypeStruct(shape, np.float32)
    for shape in (
      (batch, features),
      (features, centers),
      (centers,),
      (centers, 3),
      (centers,),
      (batch, 3),
    )
  ]
  compiled = make_jax_step(form).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes / 2**20


def make_jax_run(form, arrays):
  """Returns a function that does one forward and backward, and its loss."""
  import jax
  import jax.numpy as jnp

  x, *parameters = [jnp.asarray(value) for value in arrays]
  arrays.clear()
  step = make_jax_step(form)

  def run():
    value, grads = jax.block_until_ready(step(*parameters, x))
    del grads
    return float(value)

  return run


def make_torch_run(form, arrays):
  """The same in PyTorch."""
  import torch

  device = "cuda" if torch.cuda.is_available() else "cpu"
  x, *parameters = [torch.from_numpy(value).to(device) for value in arrays]
  arrays.clear()
  for value in parameters:
    value.requires_grad_()
  features, kernel, bias, mu, log_kappa = parameters

  def run():
    for value in parameters:
      value.grad = None
    log_weight = torch.log_softmax(features @ kernel + bias, dim=1)
    kappa = log_kappa.exp()
    log_peak = log_kappa - math.log(2 * math.pi)
    log_peak = log_peak - torch.log(-torch.expm1(-2 * kappa))
    if form == "torch chord":
      depth = (x[:, None] - mu).square().sum(-1) / 2
    else:
      depth = 1 - x @ mu.T
    log_joint = log_weight + log_peak - kappa * depth
    loss = -torch.logsumexp(log_joint, dim=1).mean()
    loss.backward()
    return float(loss.detach())

  return run


def work(args):
  """Runs one form once for each line read, and answers with its seconds."""
  make_run = make_torch_run if "torch" in args.form else make_jax_run
  # A small run first: the peak before is then that of imports and compilers.
  make_run(args.form, make_arrays(8, 8, 64))()
  before = memory.peak_mib()
  arrays = make_arrays(args.batch, args.features, args.centers[0])
  run = make_run(args.form, arrays)
  run()
  print(run(), flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    print(seconds, memory.peak_mib() - before, flush=True)


def compare(centers, args):
  """Lets all forms take turns; returns seconds and peak MiB of each."""
  workers = {}
  losses = {}
  for form in args.forms:
    command = [sys.executable, "-m", "experiments.benchmarks.loss"]
    command += ["--form", form]
    for name in ("batch", "features"):
      command += [f"--{name}", str(getattr(args, name))]
    command += ["--centers", str(centers)]
    workers[form] = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    losses[form] = float(workers[form].stdout.readline())
  if max(losses.values()) - min(losses.values()) > 1e-3:
    raise SystemExit(f"the forms disagree: {losses}")
  seconds = {form: [] for form in workers}
  peaks = {}
  for _ in range(args.rounds):
    for form, worker in workers.items():
      worker.stdin.write("run\n")
      worker.stdin.flush()
      answer = worker.stdout.readline().split()
      seconds[form].append(float(answer[0]))
      peaks[form] = float(answer[1])
  for worker in workers.values():
    worker.stdin.close()
    worker.wait()
  return seconds, peaks


def main():
  """Prints a table: a line for each number of centers and form."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--centers", type=int, nargs="+", default=[2**n for n in range(10, 19)]
  )
  parser.add_argument("--batch", type=int, default=256)
  parser.add_argument("--features", type=int, default=256)
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
  parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.form:
    work(args)
    return
  print("working memory in MiB, as compiled, without inputs and gradients")
  print(
    f"{'batch':>8} {'features':>8} {'centers':>8} {'dense':>9} {'fused':>9}"
  )
  for sizes in WORKING_MEMORY:
    dense, fused = (working_mib(form, *sizes) for form in ("dense", "fused"))
    print("{:>8} {:>8} {:>8}".format(*sizes), f"{dense:>9.0f} {fused:>9.1f}")
  print(
    f"batch {args.batch}, {args.features} features, {os.cpu_count()} CPUs, "
    f"{args.rounds} rounds; time: median (least) of forward and backward"
  )
  print(
    f"{'centers':>8} {'form':<12} {'ms':>9} {'least':>9} "
    f"{'torch/this':>10} {'chord/this':>10} {'peak MiB':>9}"
  )
  for centers in args.centers:
    seconds, peaks = compare(centers, args)
    medians = {form: statistics.median(seconds[form]) for form in seconds}
    for form, median in medians.items():
      ratios = " ".join(
        f"{medians[other] / median:>10.2f}" if other in medians else " " * 10
        for other in ("torch", "torch chord")
      )
      print(
        f"{centers:>8} {form:<12} {1e3 * median:>9.1f} "
        f"{1e3 * min(seconds[form]):>9.1f} {ratios} {peaks[form]:>9.0f}",
        flush=True,
      )


if __name__ == "__main__":
  main()
