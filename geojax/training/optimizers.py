"""Optimizers: AdamW for the model, own learning rates for the mixture."""

import jax
import optax


def create_optimizer(config) -> optax.GradientTransformation:
  """Builds the optimizer of a config over the params of a `TrainState`.

  AdamW with linear warm-up and a cosine for the model: weight decay on kernels
  alone, gradients clipped by their global norm. `log_kappa` and `mu` of the
  mixture and the tasks' log variances follow Adam with the same schedule and
  their own peak rate; a rate of 0 keeps them as they are.

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
  """Linear warm-up to `peak`, then a cosine to its `final_fraction`."""
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=peak,
    warmup_steps=min(config.optimizer.warmup_steps, config.num_steps - 1),
    decay_steps=config.num_steps,
    end_value=peak * config.optimizer.final_fraction,
  )


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
