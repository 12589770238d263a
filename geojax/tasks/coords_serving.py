"""The mixtures that the task of coords serves, and places read off them."""

import functools

import jax

from geojax import mixture, sphere


def mixture_params(params) -> dict:
  """Returns `mu` and `log_kappa` of a model's parameters; {} without a mixture.

  Args:
    params: The `params` of a `TrainState`.
  """
  head = params["model"].get("coords", {})
  return {name: head[name] for name in ("mu", "log_kappa") if name in head}


def served_components(params, options) -> dict:
  """Returns `mu` and `log_kappa` of the mixtures that `decode` returns.

  Args:
    params: The `params` of a `TrainState`.
    options: The `mixture` part of a config.

  Returns:
    Those of `mixture_params`, followed by those of the background if the config
    has one.
  """
  components = mixture_params(params)
  if not components or not options.background:
    return components
  return dict(
    zip(
      ("mu", "log_kappa"),
      mixture.background_components(**components),
      strict=True,
    )
  )


def read_places(logits, mu, log_kappa, *, options):
  """Reads places off mixtures at the config's temperature.

  Args:
    logits: Shape `[batch, centers]`, the background's last.
    mu, log_kappa: See `served_components`.
    options: The `mixture` part of a config.

  Returns:
    `place` by the config's decoder, `place_<decoder>` by each, `logits`, and of
    a config with a background its weight, `background_weight`.
  """
  # The background has no place, and adds the same to the density everywhere.
  centers = slice(None, -1 if options.background else None)
  places = {
    name: decode(logits[:, centers], mu[centers], log_kappa[centers])
    for name, decode in make_decoders(options).items()
  }
  columns = {
    "place": places[options.decoder],
    **{f"place_{name}": place for name, place in places.items()},
    "logits": logits,
  }
  if options.background:
    columns["background_weight"] = jax.nn.softmax(logits)[:, -1]
  return columns


def make_decoders(options):
  """Makes the decoders of a mixture, by their name in a config.

  Args:
    options: The `mixture` part of a config.

  Returns:
    Functions of `logits`, `mu` and `log_kappa` to unit vectors `[batch, 3]`.
  """
  blur_rad = options.mode_blur_km / sphere.EARTH_RADIUS_KM
  return {
    "largest": lambda logits, mu, log_kappa: mixture.decode_largest(logits, mu),
    "mode": functools.partial(mixture.decode_mode, blur_rad=blur_rad),
    "least_expected_distance": lambda logits, mu, log_kappa: (
      mixture.decode_least_expected_distance(logits, mu)
    ),
  }


def log_weights(outputs, options):
  """Logs of the weights of a background and of the mixture before it.

  Args:
    outputs: Those of `heads.Mixture` with a background.
    options: The `mixture` part of a config.

  Returns:
    See `mixture.background_log_weights`, each `[batch]`.
  """
  return mixture.background_log_weights(
    outputs["background"], floor=options.background
  )


def serve(outputs, temperature, options):
  """The mixtures at a temperature, with their background.

  The temperature is the mixture's alone: the background's weight stays.

  Args:
    outputs: Those of `heads.Mixture` in evaluation.
    temperature: Divides the logits.
    options: The `mixture` part of a config.

  Returns:
    `logits`, `mu` and `log_kappa`, see `mixture.log_prob`.
  """
  served = (
    outputs["logits"] / temperature,
    outputs["mu"],
    outputs["log_kappa"],
  )
  if not options.background:
    return served
  return mixture.add_background(*served, *log_weights(outputs, options))
