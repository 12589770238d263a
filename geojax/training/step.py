"""The pure functions that run on the devices: the forward path and a step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from geojax import losses, models, tasks
from geojax.training import augment, optimizers
from geojax.training.state import TrainState


def scale_images(images, *, offset, divisor):
  """Raw records to what the model sees: `(raw - offset) / divisor` by band.

  Args:
    images: Raw values of any type, shape `[batch, height, width, bands]`.
    offset: Shape `[bands]`.
    divisor: Shape `[bands]`.

  Returns:
    float32 of the shape of `images`.
  """
  shape = (1, 1, 1, -1)
  images = images.astype(jnp.float32)
  return (images - offset.reshape(shape)) / divisor.reshape(shape)


def make_apply(config, task_list, *, axis_name=None):
  """Makes the forward path, which training, evaluation and predictions share.

  Args:
    config: The config of a run, or of an `ensemble`, which is not trained.
    task_list: Its tasks.
    axis_name: Under `pmap` the mapped axis, or None.

  Returns:
    A pure function of variables `{"params", "batch_stats"}`, scaled images
    `[batch, height, width, bands]`, `train` and the `key` of dropout. It
    returns the outputs of each task's head by name, and new batch statistics.
  """
  if "members" in config:
    return _make_mean_apply(config, task_list)
  heads = {task.name: task.head for task in task_list}
  model = models.create_model(
    config.model, heads, frozen=config.init.freeze, axis_name=axis_name
  )

  def apply(variables, images, *, train=False, key=None):
    outputs, updates = model.apply(
      {
        "params": variables["params"]["model"],
        "batch_stats": variables["batch_stats"],
      },
      images,
      train=train,
      rngs=None if key is None else {"dropout": key},
      mutable=["batch_stats"],
    )
    return outputs, updates.get("batch_stats", {})

  return apply


def _make_mean_apply(config, task_list):
  """The forward path of an ensemble: the mean answers of its members."""
  applies = {
    name: make_apply(
      member,
      [dataclasses.replace(task, head=task.head[i]) for task in task_list],
    )
    for i, (name, member) in enumerate(config.members.items())
  }

  def apply(variables, images):
    params, batch_stats = variables["params"]["model"], variables["batch_stats"]
    found = [
      apply_member(
        {
          "params": {"model": params["members"][name]},
          "batch_stats": batch_stats[name],
        },
        images,
      )[0]
      for name, apply_member in applies.items()
    ]
    return {
      task.name: task.combine([outputs[task.name] for outputs in found])
      for task in task_list
    }, {}

  return apply


def make_features(config, *, offset, divisor, stages=False):
  """Makes the function from raw images to an encoder's features.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.
    stages: Whether to return the encoder's maps too.

  Returns:
    A pure function of variables `{"params": {"encoder": ...}, "batch_stats"}`
    of the model and images `[batch, height, width, bands]`. It returns features
    `[batch, features]`; with `stages` these and a tuple of maps.
  """
  model = models.create_model(config.model, {})

  def features(variables, images):
    images = scale_images(images, offset=offset, divisor=divisor)
    return model.apply(variables, images, stages=stages, method="features")

  return features


def make_columns(config, task_list, *, offset, divisor, columns=None, extra=()):
  """Makes the function from a batch of records to columns of a table.

  Args:
    config: The config of a run.
    task_list: Its tasks.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.
    columns: Names of the columns to return; the compiler drops the work for the
      others. None for all but those that tasks return `on_request`.
    extra: For None, names of such columns to return too.

  Returns:
    A pure function of variables `{"params", "batch_stats"}`, a batch of `image`
    and labels, and what the tasks' `fit` returned, by task. It returns a dict
    of arrays `[batch, ...]`: with labels, those of `tasks.compare` and of the
    tasks' `score`; without, the answers alone.
  """
  apply = make_apply(config, task_list)
  left_out = {name for task in task_list for name in task.on_request}

  def wanted(name):
    if columns is not None:
      return name in columns
    return name not in left_out or name in extra

  def make(variables, batch, fitted=None):
    images = scale_images(batch["image"], offset=offset, divisor=divisor)
    outputs, _ = apply(variables, images)
    found = {}
    for task in task_list:
      found |= task.decode(outputs[task.name])
    if batch.keys() > {"image"}:
      found = tasks.compare(task_list, batch, found)
      for task in task_list:
        found |= task.score(
          outputs[task.name],
          task.target(batch),
          (fitted or {}).get(task.name),
        )
    return {name: value for name, value in found.items() if wanted(name)}

  return make


def make_train_step(config, task_list, *, offset, divisor, axis_name=None):
  """Makes the function of one step of training.

  Args:
    config: The config of a run.
    task_list: Its tasks.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.
    axis_name: Under `pmap` the name of the mapped axis; the step then takes a
      device's rows, and gives what it gives of the whole batch under `jit`.
      Dropout and cut-mix alone draw otherwise there.

  Returns:
    A pure function `(state, batch) -> (state, metrics)`. `metrics` are
    scalars: `loss`, its terms by task (0 for a batch in which nothing counts),
    `grad_norm` and `param_norm`. Where one of them is not finite and the config
    lets it skip such steps, the state is as it was but for the number of steps.
  """
  tx = optimizers.create_optimizer(config, task_list)
  apply = make_apply(config, task_list, axis_name=axis_name)
  weights = {task.name: task.weight for task in task_list}
  num_parts = config.optimizer.accumulate

  def loss_fn(params, batch_stats, part, key, share):
    outputs, batch_stats = apply(
      {"params": params, "batch_stats": batch_stats},
      part["image"],
      train=True,
      key=key,
    )

    def loss_of(records):
      return losses.weighted_loss(
        *tasks.example_losses(task_list, outputs, records),
        weights,
        axis_name=axis_name,
        log_variances=params["log_variances"],
        totals=part.get("totals"),
      )

    found = loss_of(part["records"])
    if share is not None:
      # A patch that holds a piece of another counts for both places.
      found = jax.tree.map(
        lambda own, pasted: (1 - share) * own + share * pasted,
        found,
        loss_of(part["pasted"]),
      )
    loss, terms = found
    return loss, (terms, batch_stats)

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

  def add_part(carried, part_and_key, params, share):
    batch_stats, total = carried
    part, key = part_and_key
    (loss, (terms, batch_stats)), grads = grad_fn(
      params, batch_stats, part, key, share
    )
    total = jax.tree.map(jnp.add, total, (loss, terms, grads))
    return (batch_stats, total), None

  def over_parts(state, whole, key, share):
    """Loss, terms and gradients of a batch, some of its rows at a time."""
    parts = jax.tree.map(lambda x: _split_rows(x, num_parts), whole)
    # Each part's loss is divided by what counts in the whole batch.
    parts["totals"] = {
      task.name: jnp.broadcast_to(
        losses.count_rows(task.counts(whole["records"]), axis_name),
        (num_parts,),
      )
      for task in task_list
    }
    zero = jnp.zeros(())
    nothing = (
      zero,
      dict.fromkeys(weights, zero),
      jax.tree.map(jnp.zeros_like, state.params),
    )
    (batch_stats, (loss, terms, grads)), _ = jax.lax.scan(
      functools.partial(add_part, params=state.params, share=share),
      (state.batch_stats, nothing),
      (parts, jax.random.split(key, num_parts)),
    )
    return (loss, (terms, batch_stats)), grads

  def train_step(state: TrainState, batch):
    # The key depends on seed and step alone, so a resumed run draws the same.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    augment_key, dropout_key, paste_key = jax.random.split(key, 3)
    rows = jnp.arange(len(batch["image"]))
    if axis_name is not None:
      rows += jax.lax.axis_index(axis_name) * len(rows)
      dropout_key = jax.random.fold_in(
        dropout_key, jax.lax.axis_index(axis_name)
      )
    images = scale_images(batch["image"], offset=offset, divisor=divisor)
    images = augment.augment(augment_key, images, rows, config.augment)
    # Maps of the pixels, the targets of some tasks, move with them.
    batch = {
      name: augment.move(augment_key, value[..., None], rows, config.augment)[
        ..., 0
      ]
      if name != "image" and value.ndim > 2
      else value
      for name, value in batch.items()
    }
    whole = {"image": images, "records": batch}
    share = None
    if config.augment.cut_mix:
      whole["image"], share = augment.cut_mix(
        paste_key, images, at_most=config.augment.cut_mix
      )
      whole["pasted"] = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), batch)
    if num_parts == 1:
      (loss, (terms, batch_stats)), grads = grad_fn(
        state.params, state.batch_stats, whole, dropout_key, share
      )
    else:
      (loss, (terms, batch_stats)), grads = over_parts(
        state, whole, dropout_key, share
      )
    if axis_name is not None:
      grads = jax.lax.pmean(grads, axis_name)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: update * state.rate_scale, updates)
    params = _constrained(task_list, optax.apply_updates(state.params, updates))
    metrics = {
      "loss": loss,
      **terms,
      "grad_norm": optax.tree.norm(grads),
      "param_norm": optax.tree.norm(params),
    }
    new = state.replace(
      params=params,
      batch_stats=batch_stats,
      opt_state=opt_state,
      ema=_averaged(config, state, params, batch_stats),
    )
    if config.skip_nonfinite_steps:
      finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
      new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    return new.replace(step=state.step + 1), metrics

  return train_step


def _constrained(task_list, params):
  """Replaces each head's parameters by the nearest valid ones."""
  model = params["model"]
  for task in task_list:
    model = {**model, task.name: task.constrain(model[task.name])}
  return {**params, "model": model}


def _averaged(config, state, params, batch_stats):
  """The moving average after a step, or None."""
  if state.ema is None:
    return None
  # Early on a shorter memory, or the average would drag along the values it was
  # initialised with.
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(config.optimizer.ema_decay, (1 + step) / (10 + step))
  newest = {"params": params, "batch_stats": batch_stats}
  return jax.tree.map(
    lambda old, new: old + (1 - decay) * (new - old), state.ema, newest
  )


def _split_rows(x, num_parts):
  """`[batch, ...]` to `[parts, batch / parts, ...]`, rows taken in turns.

  In turns, so that each device's rows give its rows of every part.
  """
  x = x.reshape(len(x) // num_parts, num_parts, *x.shape[1:])
  return jnp.swapaxes(x, 0, 1)
