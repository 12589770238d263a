"""Training on few labelled records: heads alone, or the encoder with them."""

import jax
import numpy as np

from geojax.training import compilation, evaluate, pipeline, sharding
from geojax.training import config as config_lib
from geojax.training import state as state_lib
from geojax.training import step as step_lib
from geojax.training.errors import ConfigError
from geojax.transfer import probed_heads

# From random weights, not from the encoder's.
SCRATCH = ("scratch", "core_unet")


def training_config(config, encoder_config, name: str, protocol: str):
  """Makes the training config of a protocol.

  Args:
    config: The config of a transfer.
    encoder_config: A training config with the encoder's `model` part.
    name: Name of the task in `config.tasks`.
    protocol: "finetune", "scratch", "pyramid" or "core_unet".

  Returns:
    The config.
  """
  run, options = config_lib.default_config(), config.train
  run.tasks, run.extensions = (name,), tuple(config.extensions)
  run.num_steps = options.num_steps
  run.data.name, run.data.dir = config.data.name, config.data.dir
  run.data.batch_size = options.batch_size
  run.data.eval_batch_size = config.data.batch_size
  run.model.update(encoder_config.model)
  run.model.dropout = options.dropout
  run.model.pixel_head = "pyramid"
  if protocol == "core_unet":
    run.model.name, run.model.patch_size = "core_unet", 1
    run.model.depths = run.model.widths = ()
    run.model.pixel_head = "linear"
  run.init.freeze = protocol == "pyramid"
  if protocol == "finetune":
    run.init.learning_rate_factor = options.learning_rate_factor
    run.init.layer_decay = options.layer_decay
  run.optimizer.learning_rate = options.learning_rate
  run.optimizer.weight_decay = options.weight_decay
  run.optimizer.warmup_steps = options.num_steps // 10
  run.augment.flip_east_west = run.augment.flip_north_south = options.flip
  return run


class Trainer:
  """Trains a task on draws of records; compiles once."""

  def __init__(self, run_config, task, dataset, start):
    """Prepares the training.

    Args:
      run_config: Result of `training_config`.
      task: The task.
      dataset: A `dataset.Dataset`.
      start: See `state.create_state`.

    Raises:
      ConfigError: The encoder does not take patches of this size.
    """
    try:
      state_lib.state_shapes(
        run_config, [task], image_shape=dataset.image_shape
      )
    except ValueError as error:
      raise ConfigError(f"{run_config.model.name}: {error}") from error
    self._config, self._task = run_config, task
    self._dataset, self._start = dataset, start
    self._mesh = sharding.create_mesh(1)
    scale = {"offset": dataset.offset, "divisor": dataset.divisor}
    self._step = jax.jit(
      step_lib.make_train_step(run_config, [task], **scale),
      donate_argnums=0,
      compiler_options=compilation.options(),
    )
    self._table = evaluate.make_table(run_config, [task], dataset, self._mesh)
    self._features = jax.jit(
      step_lib.make_features(run_config, **scale),
      compiler_options=compilation.options(),
    )

  def train(self, positions, labels, seed, encoded=None):
    """Trains on some records.

    Args:
      positions: Their positions in the train split, `[count]`.
      labels: Their labels by name, `[count, ...]`.
      seed: Of initial weights and order.
      encoded: What a linear head starts as a ridge regression of, see
        `probed_heads`; None leaves it as it is drawn.

    Returns:
      Variables, for `predict`.
    """
    config = self._config.copy_and_resolve_references()
    config.seed = seed
    state = state_lib.create_state(
      config,
      [self._task],
      image_shape=self._dataset.image_shape,
      read_labels=lambda count, task: {
        name: labels[name][:count] for name in task.labels
      },
      start=self._start,
    )
    if encoded is not None:
      state = self._probed(state, positions, encoded)
    state = jax.device_put(state, sharding.replicated(self._mesh))
    source = _Subset(
      self._dataset.source("train", sorted(labels)),
      np.asarray(positions),
      config.data.batch_size,
    )
    batches = pipeline.train_batches(
      source, batch_size=config.data.batch_size, seed=seed
    )
    for _ in range(config.num_steps):
      batch = sharding.put_batch(next(batches), self._mesh)
      state, _ = self._step(state, batch)
    return state.evaluated

  def _probed(self, state, positions, encoded):
    """The state with a head that is fitted to the encoder's features."""
    model, name = state.params["model"], self._task.name
    if not probed_heads.is_linear(model[name]):
      return state
    variables = {"params": model, "batch_stats": state.batch_stats}
    batches = pipeline.eval_batches(
      self._dataset.source("train", ()),
      batch_size=self._config.data.eval_batch_size,
      records=positions,
    )
    features = [
      np.asarray(self._features(variables, batch["image"]))[batch["mask"]]
      for batch in batches
    ]
    head = probed_heads.fit(model[name], np.concatenate(features), encoded)
    return state.replace(
      params={**state.params, "model": {**model, name: head}}
    )

  def predict(self, variables, split):
    """Returns a table of a split, see `evaluate.make_table`."""
    return self._table(variables, split)


class _Subset:
  """Some records of a source, repeated to fill a batch."""

  def __init__(self, source, positions, at_least):
    repeats = -(-at_least // len(positions))
    self._source = source
    self._positions = np.tile(positions, repeats)

  def __len__(self):
    return len(self._positions)

  def read(self, indices):
    return self._source.read(self._positions[np.asarray(indices)].tolist())
