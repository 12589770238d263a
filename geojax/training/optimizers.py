"""Optimizers: AdamW for the model, own learning rates where a task has them."""

import jax
import optax

from geojax import models


def create_optimizer(config, tasks) -> optax.GradientTransformation:
  """Builds the optimizer of a config over the params of a `TrainState`.

  AdamW by `make_schedule` for the model: weight decay on kernels alone,
  gradients clipped by their global norm. Parameters in `Task.learning_rates`
  and the tasks' log variances follow Adam with the same schedule and their own
  peak rate; a rate of 0 keeps them as they are.

  Args:
    config: The config of a run.
    tasks: Its tasks.

  Returns:
    The gradient transformation.
  """
  optimizer = config.optimizer
  transforms = {
    "model": optax.chain(
      optax.clip_by_global_norm(optimizer.clip_norm),
      optax.adamw(
        make_schedule(config, optimizer.learning_rate),
        weight_decay=optimizer.weight_decay,
        mask=is_kernel,
      ),
      *_scale_encoder(config),
    ),
    "log_variances": _own_rate(config, config.loss.variances_learning_rate),
  }
  if config.init.freeze:
    transforms["frozen"] = optax.set_to_zero()
  for task in tasks:
    for name, rate in task.learning_rates.items():
      transforms[f"{task.name}/{name}"] = _own_rate(config, rate)

  def labels(params):
    # Of plain arrays: a label for each array, boxed or not.
    params = models.unbox(params)
    model = jax.tree.map(lambda _: "model", params["model"])
    if config.init.freeze:
      model["encoder"] = jax.tree.map(lambda _: "frozen", model["encoder"])
    for task in tasks:
      own = {name: f"{task.name}/{name}" for name in task.learning_rates}
      model = {**model, task.name: {**model[task.name], **own}}
    variances = dict.fromkeys(params["log_variances"], "log_variances")
    return {"model": model, "log_variances": variances}

  return optax.multi_transform(transforms, labels)


def _scale_encoder(config):
  """Scales the encoder's updates by `config.init`, layer by layer.

  Empty where it would change nothing, so that the state of the optimizer stays
  the one of earlier checkpoints.
  """
  factor, decay = config.init.learning_rate_factor, config.init.layer_decay
  if factor == decay == 1:
    return ()

  def scale(updates, _=None):
    encoder = updates["model"]["encoder"]
    above = (
      models.layers_above(config.model.name, encoder)
      if decay < 1
      else dict.fromkeys(encoder, 0)
    )
    scaled = {
      module: jax.tree.map(
        lambda x, by=factor * decay ** above[module]: x * by, update
      )
      for module, update in encoder.items()
    }
    return {**updates, "model": {**updates["model"], "encoder": scaled}}

  return (optax.stateless(scale),)


def make_schedule(config, peak: float) -> optax.Schedule:
  """Makes a rate as a function of the number of steps taken.

  By `config.optimizer.schedule`. A plateau's reductions are no function of the
  step: `TrainState.rate_scale` holds them.

  Args:
    config: The config of a run.
    peak: The rate after warm-up.

  Returns:
    The schedule.
  """
  optimizer = config.optimizer
  warmup = min(optimizer.warmup_steps, config.num_steps - 1)
  final = optimizer.final_fraction
  if optimizer.schedule == "cosine":
    cycles = [config.num_steps - warmup]
  elif optimizer.schedule == "restarts":
    cycles = [optimizer.restart_period]
    while warmup + sum(cycles) < config.num_steps:
      cycles.append(round(cycles[-1] * optimizer.restart_multiplier))
  else:
    cycles = []
  parts = [
    optax.linear_schedule(0.0, peak, warmup),
    *(optax.cosine_decay_schedule(peak, steps, final) for steps in cycles),
  ]
  ends = [warmup + sum(cycles[:i]) for i in range(len(cycles))]
  if not warmup:
    parts, ends = parts[1:], ends[1:]
  if not parts:
    return optax.constant_schedule(peak)
  return optax.join_schedules(parts, ends)


def is_kernel(params):
  """Marks the kernels, by name: `{..., "kernel": True, "bias": False}`."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == "kernel", models.unbox(params)
  )


def _own_rate(config, rate):
  if not rate:
    return optax.set_to_zero()
  return optax.adam(make_schedule(config, rate))
