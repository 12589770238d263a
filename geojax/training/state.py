"""The state of a run: one tree that a step maps to the next."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from geojax import models
from geojax.training import optimizers


@flax.struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: Steps taken, a scalar.
    params: `{"model": the module's, "log_variances": a scalar a task}`.
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


def create_state(
  config, tasks, *, image_shape, read_labels, start=None
) -> TrainState:
  """Creates the state before the first step.

  Args:
    config: The config of a run.
    tasks: Its tasks.
    image_shape: `(height, width, bands)` of a patch.
    read_labels: Function of a number of train records and a task that returns
      what the task reads of them, see `tasks.label_names`.
    start: Function from initial variables of the model, `{"params",
      "batch_stats"}`, to those that training starts from, or None.

  Returns:
    The state, the same for the same config and labels.

  Raises:
    ValueError: A task cannot be initialized from the labels, or images and
      encoder do not fit.
  """
  # Under jit, a third of the time that op by op takes.
  variables = models.unbox(
    jax.jit(lambda: _initial_variables(config, tasks, image_shape))()
  )
  model = variables["params"]
  for task in tasks:
    if task.initialize is not None:
      read = functools.partial(read_labels, task=task)
      values = jax.tree.map(jnp.asarray, task.initialize(read))
      model = {**model, task.name: {**model[task.name], **values}}
  variables = {**variables, "params": model}
  return _state(config, tasks, start(variables) if start else variables)


def state_shapes(config, tasks, *, image_shape) -> TrainState:
  """Returns the shapes of a run's state, with the axes that heads name.

  Nothing is computed: to initialise what a checkpoint holds would be compiled,
  which takes seconds, and memory that is not given back.

  Args:
    config: The config of a run.
    tasks: Its tasks.
    image_shape: `(height, width, bands)` of a patch.

  Returns:
    A `TrainState` of `jax.ShapeDtypeStruct`, boxed by
    `flax.linen.with_partitioning` where a head names axes.
  """
  return jax.eval_shape(
    lambda: _state(
      config, tasks, _initial_variables(config, tasks, image_shape)
    )
  )


def _initial_variables(config, tasks, image_shape):
  heads = {task.name: task.head for task in tasks}
  model = models.create_model(config.model, heads)
  images = jnp.zeros((1, *image_shape), jnp.float32)
  return model.init(jax.random.key(config.seed), images)


def _state(config, tasks, variables):
  params = {
    "model": variables["params"],
    "log_variances": {task.name: jnp.zeros(()) for task in tasks},
  }
  batch_stats = variables.get("batch_stats", {})
  averaged = {"params": params, "batch_stats": batch_stats}
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizers.create_optimizer(config, tasks).init(params),
    # A copy, since a step may write the next state over this one.
    ema=jax.tree.map(jnp.copy, averaged)
    if config.optimizer.ema_decay
    else None,
    rate_scale=jnp.ones(()),
  )
