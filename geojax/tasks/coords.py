"""Where: a mixture of von Mises-Fisher distributions, or a regression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from geojax import centers, encodings, losses, mixture, sphere
from geojax.evaluation import calibration, conformal
from geojax.models import heads
from geojax.tasks import coords_metrics
from geojax.tasks import coords_serving as serving
from geojax.tasks.registry import register
from geojax.tasks.task import Task, mean_log_odds

# From four times as sure to four times as unsure, by steps of 8 %.
TEMPERATURES = np.exp(np.linspace(-np.log(4), np.log(4), 37))

# Enough to lay out centers by; reading every record would take longer than
# the first steps.
_PLACES_PER_CENTER = 40


@register("coords")
def create(config, *, mesh=None) -> Task:
  """Creates the task of a run's config.

  Land patches of known place count. `config.loss.coords` chooses a mixture or a
  regression of the encoded coordinates.
  """
  common = {
    "name": "coords",
    "labels": ("coords",),
    "target": lambda batch: batch["coords"],
    "counts": lambda batch: encodings.known_rows(batch)["coords"],
    "compare": _compare,
    "weight": losses.DEFAULT_WEIGHTS["coords"],
  }
  if config.loss.coords == "mse":
    return Task(
      head=heads.Linear(3, sigmoid=True),
      loss=losses.squared_error,
      decode=lambda outputs: {"place": encodings.coordinates_to_unit(outputs)},
      metrics=coords_metrics.METRICS,
      best_metric="median_km",
      **common,
    )
  options = config.mixture
  return Task(
    head=heads.Mixture(
      options.num_centers,
      log_kappa=options.log_kappa,
      chunk_size=options.chunk_size,
      background=options.background > 0,
    ),
    loss=functools.partial(
      _loss,
      options=options,
      mesh=mesh,
      blur_rad=(
        config.loss.smoothing_km / sphere.EARTH_RADIUS_KM
        if config.loss.coords == "smoothed"
        else 0.0
      ),
    ),
    decode=functools.partial(_decode, options=options),
    combine=functools.partial(
      _combine,
      options=options,
      temperatures=[
        member.mixture.temperature
        for member in config.get("members", {}).values()
      ],
    ),
    score=functools.partial(_score, options=options),
    metrics=coords_metrics.METRICS + coords_metrics.DENSITY_METRICS,
    # A proper score, which few patches judge with less noise than a median.
    best_metric="nll_nats",
    on_request=(
      *("logits", "log_prob_by_temperature"),
      *(f"place_{name}" for name in serving.make_decoders(options)),
    ),
    fit_columns=(
      *("log_prob_by_temperature", "raw_credible_level", "coords_counts"),
    ),
    fit=_fit,
    initialize=functools.partial(lay_out_centers, config),
    learning_rates={
      "mu": options.centers_learning_rate,
      "log_kappa": options.log_kappa_learning_rate,
    },
    constrain=_on_sphere if options.centers_learning_rate else lambda x: x,
    **common,
  )


def _fit(table):
  """Finds the temperature of a mixture's least nll, and calibrated levels.

  `temperature`, a scalar, and `nll_nats`, the mean at each of `TEMPERATURES`,
  if any place is known; and the result of `conformal.fit`, at the config's
  temperature.
  """
  counts = table["coords_counts"]
  found = conformal.fit_table(
    table, level="raw_credible_level", where=("coords_counts",)
  )
  if not counts.any():
    return found
  log_prob = table["log_prob_by_temperature"][counts]
  nll = losses.relative_nll(log_prob.mean(axis=0, dtype=np.float64))
  temperature = calibration.best_temperature(TEMPERATURES, nll)
  return found | {"temperature": np.float32(temperature), "nll_nats": nll}


def lay_out_centers(config, read_labels):
  """Lays out the centers of a new run's mixture.

  Args:
    config: The run's config.
    read_labels: Function of a number of train records that returns their
      labels, evenly out of the split.

  Returns:
    `mu`, unit vectors `[centers, 3]`, and `log_kappa`, `[centers]`.

  Raises:
    ValueError: The places of the train split are too few for the config.
  """
  options = config.mixture
  labels = read_labels(_PLACES_PER_CENTER * options.num_centers)
  land = labels["coords"][encodings.known_rows(labels)["coords"]]
  try:
    mu, by_spacing = centers.initialize(
      options.centers,
      encodings.coordinates_to_unit(land),
      options.num_centers,
      seed=config.seed,
      min_distance_km=options.min_distance_km,
      mass=options.spacing_mass or 0.5,
    )
  except ValueError as error:
    keys = ["config.mixture.num_centers"]
    if options.centers == "train_subset":
      keys.append("config.mixture.min_distance_km")
    raise ValueError(
      f"{' or '.join(keys)} does not fit {config.data.name}: {error}"
    ) from error
  if options.spacing_mass:
    return {"mu": mu, "log_kappa": by_spacing}
  return {"mu": mu}


def _loss(outputs, target, *, options, mesh, blur_rad):
  """Nll relative to uniform, of logits or of the features of a fused head."""
  nll_nats = _mixture_loss(
    outputs,
    target,
    chunk_size=options.chunk_size,
    mesh=mesh,
    blur_rad=blur_rad,
  )
  if not options.background:
    return nll_nats
  log_weights = serving.log_weights(outputs, options)
  return mixture.nll_with_background(nll_nats, *log_weights)


def _mixture_loss(outputs, target, *, chunk_size, mesh, blur_rad):
  mu, log_kappa = outputs["mu"], outputs["log_kappa"]
  if not chunk_size:
    loss = losses.make_mixture_loss(mu, log_kappa, blur_rad=blur_rad)
    return loss(outputs["logits"], target)
  by_center = (outputs["kernel"], outputs["bias"], mu, log_kappa)

  def fused(features, target, *by_center, axis_name=None):
    loss = losses.make_fused_mixture_loss(
      *by_center,
      chunk_size=chunk_size,
      axis_name=axis_name,
      blur_rad=blur_rad,
    )
    return loss(features, target)

  if mesh is not None and mesh.shape["model"] > 1:
    # Chunks are slices of what a device holds: the compiler, left alone, would
    # gather all centers on every device first.
    spec = jax.sharding.PartitionSpec
    rows = spec("data")
    fused = jax.shard_map(
      functools.partial(fused, axis_name="model"),
      mesh=mesh,
      in_specs=(rows, rows, spec(None, "model"), *[spec("model")] * 3),
      out_specs=rows,
    )
  return fused(outputs["features"], target, *by_center)


def _decode(outputs, *, options):
  """See `serving.read_places`."""
  served = serving.serve(outputs, options.temperature, options)
  return serving.read_places(*served, options=options)


def _combine(outputs, *, options, temperatures):
  """The mixture of several models' mixtures, each at its own temperature.

  It is the mean of their densities, and has the components of all.
  """
  log_weights = []
  for found, temperature in zip(outputs, temperatures, strict=True):
    log_weight = jax.nn.log_softmax(found["logits"] / temperature)
    if options.background:
      _, log_rest = serving.log_weights(found, options)
      log_weight += log_rest[:, None]
    log_weights.append(log_weight)
  combined = {
    "logits": jnp.concatenate(log_weights, axis=-1),
    "mu": jnp.concatenate([found["mu"] for found in outputs]),
    "log_kappa": jnp.concatenate([found["log_kappa"] for found in outputs]),
  }
  if options.background:
    # Its weight is linear in the probability of this logit.
    combined["background"] = mean_log_odds(
      [found["background"] for found in outputs]
    )
  return combined


def _score(outputs, target, fitted, *, options):
  """Densities and credible levels of the true places, and regions' areas.

  At the config's temperature `nll_nats` and `denser_km2`, each `[batch]`, and
  `credible_level` `[batch]` and `area_km2` `[batch, regions]` by calibrated
  levels; `raw_...` by the mixture's own, which they are before there is a fit;
  `fitted_...` by these at the temperature that was fitted.
  `log_prob_by_temperature`.
  """
  x = encodings.coordinates_to_unit(target)
  fitted = fitted or {}
  knots = fitted.get("level_knots")

  def at(temperature):
    return mixture.log_prob(x, *serving.serve(outputs, temperature, options))

  def regions(temperature, masses):
    level, _, area_sr, denser_sr = mixture.credible_regions(
      x, *serving.serve(outputs, temperature, options), masses=masses
    )
    area_km2, denser_km2 = (
      area * sphere.EARTH_RADIUS_KM**2 for area in (area_sr, denser_sr)
    )
    return level, area_km2, denser_km2

  raw = np.array(coords_metrics.REGIONS, np.float32)
  masses = jnp.concatenate([raw, conformal.model_level(raw, knots)])
  level, area_km2, denser_km2 = regions(options.temperature, masses)
  found = {
    "nll_nats": losses.relative_nll(at(options.temperature)),
    "credible_level": conformal.calibrate(level, knots),
    "raw_credible_level": level,
    "area_km2": area_km2[:, len(raw) :],
    "raw_area_km2": area_km2[:, : len(raw)],
    "denser_km2": denser_km2,
    "log_prob_by_temperature": jax.lax.map(
      at, TEMPERATURES.astype(np.float32)
    ).T,
  }
  if "temperature" in fitted:
    level, area_km2, denser_km2 = regions(fitted["temperature"], raw)
    found |= {
      "fitted_nll_nats": losses.relative_nll(at(fitted["temperature"])),
      "fitted_credible_level": level,
      "fitted_area_km2": area_km2,
      "fitted_denser_km2": denser_km2,
    }
  return found


def _compare(answers, target):
  """`place_true`, `distance_km`; of densities, if given, as of `_score`."""
  place_true = encodings.coordinates_to_unit(target)
  found = {
    "place_true": place_true,
    "distance_km": sphere.great_circle_km(answers["place"], place_true),
  }
  if "log_prob" in answers:
    found["nll_nats"] = losses.relative_nll(answers["log_prob"])
  if "denser_km2" in answers:
    found["denser_km2"] = answers["denser_km2"]
  return found


def _on_sphere(params):
  return {**params, "mu": mixture.normalize_centers(params["mu"])}
