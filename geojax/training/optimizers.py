"""Optimizers: AdamW for the model, own learning rates for the mixture."""

import jax
import optax


def create_optimizer(config) -> optax.GradientTransformation:
  """Builds the optimizer of a config over the params of a `TrainState`.

  AdamW by `make_schedule` for the model: weight decay on kernels alone,
  gradients clipped by their global norm. `log_kappa` and `mu` of the mixture
  and the tasks' log variances follow Adam with the same schedule and their own
  peak rate; a rate of 0 keeps them as they are.

  Args:
    config: The config of a run.

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
    ),
    "log_kappa": _own_rate(config, config.mixture.log_kappa_learning_rate),
    "mu": _own_rate(config, config.mixture.centers_learning_rate),
    "log_variances": _own_rate(config, config.loss.variances_learning_rate),
  }
  return optax.multi_transform(transforms, _labels)


def make_schedule(config, peak: float) -> optax.Schedule:
  """Makes a rate as a function of the number of steps taken.

  What `config.optimizer.schedule` says; a plateau's reductions are no function
  of the step, and are left to `TrainState.rate_scale`.

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
    lambda path, _: path[-1].key == "kernel", params
  )


def _own_rate(config, rate):
  if not rate:
    return optax.set_to_zero()
  return optax.adam(make_schedule(config, rate))


def _labels(params):
  return {
    "model": jax.tree.map(lambda _: "model", params["model"]),
    "mixture": {name: name for name in params["mixture"]},
    "log_variances": {
      name: "log_variances" for name in params["log_variances"]
    },
  }
