"""The state of a run: one tree that a step maps to the next."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from geojax import losses, models
from geojax.training import optimizers


@flax.struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: Steps taken, a scalar.
    params: `{"model": the module's, "mixture": {"mu", "log_kappa"},
      "log_variances": a scalar a task}`; a regression's mixture is empty.
    batch_stats: Running means and variances of the model's norms.
    opt_state: The optimizer's.
    ema: Moving average of `{"params", "batch_stats"}`, or None.
    rate_scale: Factor of all learning rates, a scalar; falls on a plateau.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema: Any
  rate_scale: jax.Array

  @property
  def evaluated(self):
    """What evaluation uses: `{"params", "batch_stats"}`."""
    if self.ema is not None:
      return self.ema
    return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(config, *, image_shape, mixture) -> TrainState:
  """Creates the state before the first step.

  Args:
    config: The config of a run.
    image_shape: `(height, width, bands)` of a patch.
    mixture: `{"mu": [k, 3], "log_kappa": [k]}`, or `{}` for a regression.

  Returns:
    The state, the same for the same config.
  """
  model = models.create_model(config.model, coords_dim=coords_dim(mixture))
  images = jnp.zeros((1, *image_shape), jnp.float32)
  key = jax.random.key(config.seed)
  # Under jit, a third of the time that op by op takes.
  variables = jax.jit(model.init)(key, images)
  params = {
    "model": variables["params"],
    "mixture": jax.tree.map(jnp.asarray, mixture),
    "log_variances": {task: jnp.zeros(()) for task in losses.TASKS},
  }
  batch_stats = variables.get("batch_stats", {})
  averaged = {"params": params, "batch_stats": batch_stats}
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizers.create_optimizer(config).init(params),
    # A copy, since a step may write the next state over this one.
    ema=jax.tree.map(jnp.copy, averaged)
    if config.optimizer.ema_decay
    else None,
    rate_scale=jnp.ones(()),
  )


def coords_dim(mixture) -> int:
  """Outputs of the location head: one a center, or 3 for a regression."""
  return len(mixture["mu"]) if mixture else 3


def placeholder_mixture(config) -> dict[str, np.ndarray]:
  """Arrays of a mixture's shapes, where a checkpoint holds the values.

  Args:
    config: The run's config.

  Returns:
    As `initial_mixture.lay_out`, with centers that are not on the sphere.
  """
  if config.loss.coords == "mse":
    return {}
  count = config.mixture.num_centers
  return {
    "mu": np.zeros((count, 3), np.float32),
    "log_kappa": np.full(count, config.mixture.log_kappa, np.float32),
  }
