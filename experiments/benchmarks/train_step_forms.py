"""The training step that the benchmarks compare, in geojax and in PyTorch.

Forward, backward and AdamW of the Core encoder with linear heads, float32, 10
bands and 36 outputs, from the same weights on the same batch.
"""

import functools

import numpy as np

FORMS = "geojax", "torch channels-last", "torch contiguous", "torch compile"
# Batch and side of the images.
BATCHES = {"atto": (8, 64), "nano": (4, 128)}
BANDS, OUTPUTS = 10, 36
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
# Rows and columns of the matrices whose product measures a processor's peak.
MATRIX = 2048


def make_batch(batch, side):
  """Images and targets from one seed."""
  rng = np.random.default_rng(0)
  images = rng.normal(size=(batch, side, side, BANDS))
  targets = rng.uniform(size=(batch, OUTPUTS))
  return np.float32(images), np.float32(targets)


def write_weights(size, path):
  """Writes weights by PyTorch's names, for all forms to begin with."""
  import torch

  torch.manual_seed(0)
  weights = _make_torch_model(size).state_dict()
  np.savez(path, **{key: value.numpy() for key, value in weights.items()})


def _make_torch_model(size):
  from experiments.benchmarks import torch_models

  return torch_models.CoreEncoder(
    bands=BANDS,
    num_outputs=OUTPUTS,
    excitation="gate",
    **torch_models.depths_and_widths(size),
  )


def _make_jax_model(size):
  from geojax.models import core, heads

  depths, widths = core.SIZES[size]
  return heads.MultiTaskModel(
    core.CoreEncoder(depths, widths),
    {
      "coords": heads.Linear(3, sigmoid=True),
      "climate": heads.Linear(31),
      "date": heads.Linear(2, sigmoid=True),
    },
  )


def compile_jax_step(size, options):
  """Compiles `(params, statistics, slots, images, targets) -> ..., loss`.

  Args:
    size: One of `BATCHES`.
    options: Those of the compiler.

  Returns:
    The program, the optimizer, and the shapes of the model's variables.
  """
  import jax
  import jax.numpy as jnp
  import optax

  model = _make_jax_model(size)
  images, targets = make_batch(*BATCHES[size])
  optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

  @functools.partial(
    jax.jit, donate_argnums=(0, 1, 2), compiler_options=options
  )
  def step(params, statistics, slots, images, targets):
    def loss_fn(params):
      outputs, updates = model.apply(
        {"params": params, "batch_stats": statistics},
        images,
        train=True,
        mutable=["batch_stats"],
      )
      outputs = [outputs[name] for name in ("climate", "coords", "date")]
      outputs = jnp.concatenate(outputs, axis=-1)
      loss = jnp.mean(jnp.square(outputs - targets))
      return loss, updates["batch_stats"]

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, statistics), grads = grad_fn(params)
    updates, slots = optimizer.update(grads, slots, params)
    return optax.apply_updates(params, updates), statistics, slots, loss

  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  params, statistics = variables["params"], variables["batch_stats"]
  slots = jax.eval_shape(optimizer.init, params)
  program = step.lower(params, statistics, slots, images, targets).compile()
  return program, optimizer, variables


def make_jax_run(size, weights):
  """A function that does one step and returns the loss."""
  import jax
  import jax.numpy as jnp

  from geojax.models import convert
  from geojax.training import compilation

  step, optimizer, variables = compile_jax_step(size, compilation.options())
  images, targets = map(jnp.asarray, make_batch(*BATCHES[size]))
  variables = convert.from_pytorch(weights, variables)
  params = variables["params"]
  state = [params, variables["batch_stats"], optimizer.init(params)]

  def run():
    *state[:], loss = step(*state, images, targets)
    jax.block_until_ready(state)
    return float(loss)

  return run


def make_torch_run(form, size, weights):
  """The same in PyTorch."""
  import torch

  model = _make_torch_model(size)
  weights = {key: torch.from_numpy(weights[key]) for key in weights}
  model.load_state_dict(weights)
  images, targets = map(torch.from_numpy, make_batch(*BATCHES[size]))
  layout = torch.channels_last
  if form == "torch contiguous":
    layout = torch.contiguous_format
  model = model.to(memory_format=layout)
  images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
  optimizer = torch.optim.AdamW(
    model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
  )
  apply = torch.compile(model) if form == "torch compile" else model

  def run():
    optimizer.zero_grad()
    outputs = apply(images)
    outputs = torch.cat([outputs[:, :31], outputs[:, 31:].sigmoid()], dim=1)
    loss = (outputs - targets).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())

  return run


def make_product(form):
  """A function that multiplies two large float32 matrices."""
  values = np.random.default_rng(0).normal(size=(2, MATRIX, MATRIX))
  values = np.float32(values)
  if form != "geojax":
    import torch

    left, right = torch.from_numpy(values)
    return lambda: left @ right
  import jax

  left, right = jax.numpy.asarray(values)
  product = jax.jit(jax.numpy.matmul)
  return lambda: product(left, right).block_until_ready()
