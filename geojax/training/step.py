"""The pure functions that run on the devices: a training step, a prediction."""

import jax
import jax.numpy as jnp
import optax

from geojax import encodings, losses, mixture, models, sphere
from geojax.training import optimizers
from geojax.training.augment import augment
from geojax.training.state import TrainState, coords_dim

# Functions of logits, mu, log_kappa and a blur in radians.
_DECODERS = {
  "largest": lambda logits, mu, *_: mixture.decode_largest(logits, mu),
  "mode": lambda *args: mixture.decode_mode(*args[:3], blur_rad=args[3]),
  "least_expected_distance": lambda logits, mu, *_: (
    mixture.decode_least_expected_distance(logits, mu)
  ),
}


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


def make_train_step(config, *, offset, divisor):
  """Makes the function of one step of training.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.

  Returns:
    A pure function `(state, batch) -> (state, metrics)`. `metrics` are
    scalars: `loss`, its terms `coords`, `climate` and `date` (0 for a batch
    with no land), and `grad_norm`.
  """
  tx = optimizers.create_optimizer(config)
  decay = config.optimizer.ema_decay
  weights = dict(config.loss.weights)
  chunk_size = config.mixture.chunk_size

  def loss_fn(params, batch_stats, images, labels, key):
    model = models.create_model(
      config.model,
      coords_dim=coords_dim(params["mixture"]),
      apply_coords=not (chunk_size and params["mixture"]),
    )
    predictions, updates = model.apply(
      {"params": params["model"], "batch_stats": batch_stats},
      images,
      train=True,
      rngs={"dropout": key},
      mutable=["batch_stats"],
    )
    loss, terms = losses.geographic_loss(
      predictions,
      labels,
      weights=weights,
      coords_loss=_coords_loss(params, chunk_size),
      fine_weight=config.loss.climate_fine_weight,
      log_variances=params["log_variances"],
    )
    return loss, (terms, updates["batch_stats"])

  def train_step(state: TrainState, batch):
    # The key depends on seed and step alone, so a resumed run draws the same.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    augment_key, dropout_key = jax.random.split(key)
    images = scale_images(batch["image"], offset=offset, divisor=divisor)
    images = augment(
      augment_key,
      images,
      flip_east_west=config.augment.flip_east_west,
      flip_north_south=config.augment.flip_north_south,
      rotate=config.augment.rotate,
    )
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (terms, batch_stats)), grads = grad_fn(
      state.params, state.batch_stats, images, batch["label"], dropout_key
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
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
      "grad_norm": optax.tree.norm(grads["model"]),
    }
    state = TrainState(
      step=state.step + 1,
      params=params,
      batch_stats=batch_stats,
      opt_state=opt_state,
      ema=ema,
    )
    return state, metrics

  return train_step


def make_forward(config, *, offset, divisor):
  """Makes the function from raw patches to what the model says of them.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.

  Returns:
    A pure function of variables `{"params", "batch_stats"}` and raw images
    `[batch, height, width, bands]`. It returns `climate_probs` `[batch, 31]`;
    `date`, encoded, `[batch, 2]`; and `coords`: a mixture's logits over its
    temperature `[batch, centers]`, or encoded coordinates `[batch, 3]`.
  """

  def forward(variables, images):
    params = variables["params"]
    model = models.create_model(
      config.model, coords_dim=coords_dim(params["mixture"])
    )
    predictions = model.apply(
      {"params": params["model"], "batch_stats": variables["batch_stats"]},
      scale_images(images, offset=offset, divisor=divisor),
    )
    coords = predictions["coords"]
    if params["mixture"]:
      coords = coords / config.mixture.temperature
    return {
      "coords": coords,
      "climate_probs": jax.nn.softmax(predictions["climate"], axis=-1),
      "date": predictions["date"],
    }

  return forward


def make_decode(config):
  """Makes the function that reads one place off each mixture.

  Args:
    config: The config of a run.

  Returns:
    A pure function of logits `[batch, centers]`, `mu` and `log_kappa` that
    returns unit vectors `[batch, 3]`, by the config's decoder.
  """
  decode = _DECODERS[config.mixture.decoder]
  blur_rad = config.mixture.mode_blur_km / sphere.EARTH_RADIUS_KM
  return lambda logits, mu, log_kappa: decode(logits, mu, log_kappa, blur_rad)


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
  decode = make_decode(config)

  def predict_step(variables, batch):
    predictions = forward(variables, batch["image"])
    coords = predictions["coords"]
    outputs = {
      "climate_probs": predictions["climate_probs"],
      "day": encodings.decode_day_of_year(predictions["date"]),
    }
    parameters = variables["params"]["mixture"]
    if not parameters:
      return {**outputs, "place": encodings.coordinates_to_unit(coords)}
    true = encodings.coordinates_to_unit(batch["label"][:, encodings.COORDS])
    return {
      **outputs,
      "place": decode(coords, **parameters),
      "log_prob": mixture.log_prob(true, coords, **parameters),
    }

  return predict_step


def _coords_loss(params, chunk_size):
  """The location loss: of coordinates, of logits, or of a head's features."""
  if not params["mixture"]:
    return losses.squared_error
  if not chunk_size:
    return losses.make_mixture_loss(**params["mixture"])
  return losses.make_fused_mixture_loss(
    **params["model"]["coords"], **params["mixture"], chunk_size=chunk_size
  )
