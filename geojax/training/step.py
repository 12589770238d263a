"""The pure functions that run on the devices: a training step, a prediction."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from geojax import encodings, losses, mixture, models, sphere
from geojax.training import augment, optimizers
from geojax.training.state import TrainState, coords_dim


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


def make_train_step(config, *, offset, divisor, axis_name=None, mesh=None):
  """Makes the function of one step of training.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.
    axis_name: Under `pmap` the name of the mapped axis; the step then takes a
      device's rows, and gives what it gives of the whole batch under `jit`.
      Dropout and cut-mix alone draw otherwise there.
    mesh: Under `jit` the mesh, where centers are spread over its axis "model".

  Returns:
    A pure function `(state, batch) -> (state, metrics)`. `metrics` are
    scalars: `loss`, its terms `coords`, `climate` and `date` (0 for a batch
    with no land), `grad_norm` and `param_norm`. Where one of them is not
    finite and the config lets it leave such steps out, the state is as it was
    but for the number of steps.
  """
  tx = optimizers.create_optimizer(config)
  decay = config.optimizer.ema_decay
  weights = dict(config.loss.weights)
  chunk_size = config.mixture.chunk_size
  num_parts = config.optimizer.accumulate

  def loss_fn(params, batch_stats, part, key, share):
    model = models.create_model(
      config.model,
      coords_dim=coords_dim(params["mixture"]),
      apply_coords=not (chunk_size and params["mixture"]),
      axis_name=axis_name,
    )
    predictions, updates = model.apply(
      {"params": params["model"], "batch_stats": batch_stats},
      part["image"],
      train=True,
      rngs={"dropout": key},
      mutable=["batch_stats"],
    )

    def loss_of(labels, counts):
      return losses.geographic_loss(
        predictions,
        labels,
        weights=weights,
        coords_loss=_coords_loss(params, chunk_size, mesh),
        fine_weight=config.loss.climate_fine_weight,
        log_variances=params["log_variances"],
        axis_name=axis_name,
        counts=counts,
      )

    found = loss_of(part["label"], part["counts"])
    if share is not None:
      # A patch that holds a piece of another counts for both places.
      other = loss_of(part["pasted_label"], part["counts"])
      found = jax.tree.map(
        lambda own, pasted: (1 - share) * own + share * pasted, found, other
      )
    loss, terms = found
    return loss, (terms, updates.get("batch_stats", {}))

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

  def add_part(carried, part_and_key, params, share):
    batch_stats, total = carried
    part, key = part_and_key
    (loss, (terms, batch_stats)), grads = grad_fn(
      params, batch_stats, part, key, share
    )
    found = (loss, terms, grads)
    return (batch_stats, jax.tree.map(jnp.add, total, found)), None

  def train_step(state: TrainState, batch):
    # The key depends on seed and step alone, so a resumed run draws the same.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    augment_key, dropout_key, paste_key = jax.random.split(key, 3)
    labels = batch["label"]
    rows = jnp.arange(len(labels))
    if axis_name is not None:
      rows += jax.lax.axis_index(axis_name) * len(labels)
      dropout_key = jax.random.fold_in(
        dropout_key, jax.lax.axis_index(axis_name)
      )
    images = scale_images(batch["image"], offset=offset, divisor=divisor)
    images = augment.augment(augment_key, images, rows, config.augment)
    whole = {"image": images, "label": labels, "counts": None}
    share = None
    if config.augment.cut_mix:
      images, share = augment.cut_mix(
        paste_key, images, at_most=config.augment.cut_mix
      )
      whole |= {"image": images, "pasted_label": jnp.roll(labels, 1, axis=0)}
    if num_parts == 1:
      (loss, (terms, batch_stats)), grads = grad_fn(
        state.params, state.batch_stats, whole, dropout_key, share
      )
    else:
      # Each part's loss is divided by what counts in the whole batch.
      del whole["counts"]
      parts = jax.tree.map(lambda x: _split_rows(x, num_parts), whole)
      counts = losses.task_counts(labels, axis_name=axis_name)
      parts["counts"] = jax.tree.map(
        lambda count: jnp.broadcast_to(count, (num_parts,)), counts
      )
      zero = jnp.zeros(())
      (batch_stats, (loss, terms, grads)), _ = jax.lax.scan(
        functools.partial(add_part, params=state.params, share=share),
        (
          state.batch_stats,
          (
            zero,
            dict.fromkeys(losses.TASKS, zero),
            jax.tree.map(jnp.zeros_like, state.params),
          ),
        ),
        (parts, jax.random.split(dropout_key, num_parts)),
      )
    if axis_name is not None:
      grads = jax.lax.pmean(grads, axis_name)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: update * state.rate_scale, updates)
    params = optax.apply_updates(state.params, updates)
    if config.mixture.centers_learning_rate:
      mu = mixture.normalize_centers(params["mixture"]["mu"])
      params["mixture"] = {**params["mixture"], "mu": mu}
    ema = state.ema
    if ema is not None:
      # Early on a shorter memory, or the average would drag along the values
      # it was initialised with.
      step = state.step.astype(jnp.float32)
      rate = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
      newest = {"params": params, "batch_stats": batch_stats}
      ema = jax.tree.map(lambda old, new: old + rate * (new - old), ema, newest)
    metrics = {
      "loss": loss,
      **terms,
      "grad_norm": optax.tree.norm(grads),
      "param_norm": optax.tree.norm(params),
    }
    new = state.replace(
      params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    if config.skip_nonfinite_steps:
      finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
      new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    return new.replace(step=state.step + 1), metrics

  return train_step


def make_forward(config, *, offset, divisor):
  """Makes the function from raw patches to what the heads say.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.

  Returns:
    A pure function of variables `{"params", "batch_stats"}` and raw images
    `[batch, height, width, bands]`. It returns `coords`, mixture logits of
    temperature 1 `[batch, centers]` or encoded coordinates `[batch, 3]`;
    `climate`, logits `[batch, 31]`; and `date`, encoded `[batch, 2]`.
  """

  def forward(variables, images):
    params = variables["params"]
    model = models.create_model(
      config.model, coords_dim=coords_dim(params["mixture"])
    )
    return model.apply(
      {"params": params["model"], "batch_stats": variables["batch_stats"]},
      scale_images(images, offset=offset, divisor=divisor),
    )

  return forward


def make_predict_step(config, *, offset, divisor):
  """Makes the function that predicts a batch.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.

  Returns:
    A pure function of variables `{"params", "batch_stats"}` and a batch with
    `image` and `label`. It returns `place`, unit vectors `[batch, 3]`;
    `climate_probs` `[batch, 31]`; `day` `[batch]`; and, of a mixture,
    `log_prob` of the label's place `[batch]`, in nats per steradian.
  """
  forward = make_forward(config, offset=offset, divisor=divisor)
  decode = make_decoders(config)[config.mixture.decoder]

  def predict_step(variables, batch):
    predictions = forward(variables, batch["image"])
    outputs = decode_climate_and_day(predictions)
    components = variables["params"]["mixture"]
    if not components:
      place = encodings.coordinates_to_unit(predictions["coords"])
      return {**outputs, "place": place}
    logits = predictions["coords"] / config.mixture.temperature
    true = encodings.coordinates_to_unit(batch["label"][:, encodings.COORDS])
    return {
      **outputs,
      "place": decode(logits, **components),
      "log_prob": mixture.log_prob(true, logits, **components),
    }

  return predict_step


def make_decoders(config):
  """Makes the decoders of a mixture, by their name in the config.

  Args:
    config: The config of a run.

  Returns:
    Functions of `logits`, `mu` and `log_kappa` to unit vectors `[batch, 3]`.
  """
  blur_rad = config.mixture.mode_blur_km / sphere.EARTH_RADIUS_KM
  return {
    "largest": lambda logits, mu, log_kappa: mixture.decode_largest(logits, mu),
    "mode": functools.partial(mixture.decode_mode, blur_rad=blur_rad),
    "least_expected_distance": lambda logits, mu, log_kappa: (
      mixture.decode_least_expected_distance(logits, mu)
    ),
  }


def decode_climate_and_day(predictions):
  """What the heads say of climate and date.

  Args:
    predictions: As of `make_forward`.

  Returns:
    A dict of `climate_probs` `[batch, 31]` and `day` `[batch]`.
  """
  return {
    "climate_probs": jax.nn.softmax(predictions["climate"], axis=-1),
    "day": encodings.decode_day_of_year(predictions["date"]),
  }


def _split_rows(x, num_parts):
  """`[batch, ...]` to `[parts, batch / parts, ...]`, rows taken in turns.

  In turns, so that each device's rows give its rows of every part.
  """
  x = x.reshape(len(x) // num_parts, num_parts, *x.shape[1:])
  return jnp.swapaxes(x, 0, 1)


def _coords_loss(params, chunk_size, mesh):
  """The location loss: of coordinates, of logits, or of a head's features."""
  if not params["mixture"]:
    return losses.squared_error
  if not chunk_size:
    return losses.make_mixture_loss(**params["mixture"])
  head, centers = params["model"]["coords"], params["mixture"]
  by_center = (
    head["kernel"],
    head["bias"],
    centers["mu"],
    centers["log_kappa"],
  )
  if mesh is None or mesh.shape["model"] == 1:
    return losses.make_fused_mixture_loss(*by_center, chunk_size=chunk_size)

  def of_device(features, coords, *by_center):
    loss = losses.make_fused_mixture_loss(
      *by_center, chunk_size=chunk_size, axis_name="model"
    )
    return loss(features, coords)

  # Chunks are slices of what a device holds: the compiler, left alone, would
  # gather all centers on every device first.
  rows, last, first = (
    PartitionSpec("data"),
    PartitionSpec(None, "model"),
    PartitionSpec("model"),
  )
  spread = jax.shard_map(
    of_device,
    mesh=mesh,
    in_specs=(rows, rows, last, first, first, first),
    out_specs=rows,
  )
  return lambda features, coords: spread(features, coords, *by_center)
