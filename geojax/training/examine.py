"""A split examined: every decoder, and how honest the doubt is.

Evaluation during training asks for one place and its density. What is asked
here besides is paid for once, after training.
"""

import jax
import numpy as np

from geojax import calibration, encodings, metrics, mixture, sphere
from geojax.training import evaluate
from geojax.training import step as step_lib

# From four times as sure to four times as unsure, by steps of 8 %.
TEMPERATURES = np.exp(np.linspace(-np.log(4), np.log(4), 37))
MASSES = tuple(percent / 100 for percent in metrics.REGIONS_PERCENT)


def make_examine(config, dataset, mesh):
  """Makes the function that examines a split.

  Args:
    config: The config of a run.
    dataset: A `pipeline.Dataset`.
    mesh: As of `sharding.create_mesh`.

  Returns:
    A function of variables (`TrainState.evaluated`), the name of a split and a
    second temperature. It returns a dict of arrays with a row a record in the
    order of the split: those of `make_examine_step` and `metrics.per_example`,
    `label`, and of a mixture `fitted`, a dict of what differs under the second
    temperature: `nll_nats`, `credible_level` and `area_km2`.
  """
  step = make_examine_step(
    config, offset=dataset.offset, divisor=dataset.divisor
  )
  outputs = evaluate.make_outputs(step, config, dataset, mesh)

  def examine(variables, split, temperature):
    rows = list(outputs(variables, split, temperature))
    found = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
    compared = {name: found[name] for name in ("place", "climate_probs", "day")}
    log_prob = found.get("log_prob")
    found |= metrics.per_example(found["label"], **compared, log_prob=log_prob)
    if log_prob is not None:
      fitted = found["fitted"]
      fitted["nll_nats"] = metrics.relative_to_uniform(fitted.pop("log_prob"))
    return found

  return examine


def make_examine_step(config, *, offset, divisor):
  """Makes the function that examines a batch.

  Args:
    config: The config of a run.
    offset: Offset of each band's scale, shape `[bands]`.
    divisor: Divisor of each band's scale, shape `[bands]`.

  Returns:
    A pure function of variables, a batch and a second temperature. It returns
    what `step.make_predict_step` returns and, of a mixture, `places`, unit
    vectors `[batch, 3]` by decoder; `credible_level` `[batch]`; `area_km2` of
    the regions of `metrics.REGIONS_PERCENT`, `[batch, 3]`; and, in `fitted`,
    the log_prob, level and areas under the second temperature.
  """
  forward = step_lib.make_forward(config, offset=offset, divisor=divisor)
  decoders = step_lib.make_decoders(config)

  def examine_step(variables, batch, temperature):
    predictions = forward(variables, batch["image"])
    outputs = step_lib.decode_climate_and_day(predictions)
    components = variables["params"]["mixture"]
    if not components:
      place = encodings.coordinates_to_unit(predictions["coords"])
      return {**outputs, "place": place}
    true = encodings.coordinates_to_unit(batch["label"][:, encodings.COORDS])

    def doubt(logits):
      level, _, area_sr = mixture.credible_regions(
        true, logits, **components, masses=MASSES
      )
      return {
        "log_prob": mixture.log_prob(true, logits, **components),
        "credible_level": level,
        "area_km2": area_sr * sphere.EARTH_RADIUS_KM**2,
      }

    logits = predictions["coords"] / config.mixture.temperature
    places = {
      name: decode(logits, **components) for name, decode in decoders.items()
    }
    return {
      **outputs,
      **doubt(logits),
      "place": places[config.mixture.decoder],
      "places": places,
      "fitted": doubt(predictions["coords"] / temperature),
    }

  return examine_step


def fit_temperature(config, dataset, mesh, variables, split="validation"):
  """Finds the temperature of a mixture's least nll over a split's land.

  Args:
    config: The config of a run.
    dataset: A `pipeline.Dataset`.
    mesh: As of `sharding.create_mesh`.
    variables: As of `TrainState.evaluated`.
    split: Name of the split.

  Returns:
    The temperature, a float, and a dict of mean nll in nats, relative to
    uniform, by temperature tried. None and `{}` of a regression.
  """
  components = variables["params"]["mixture"]
  if not components:
    return None, {}
  forward = step_lib.make_forward(
    config, offset=dataset.offset, divisor=dataset.divisor
  )

  def log_probs(variables, batch):
    logits = forward(variables, batch["image"])["coords"]
    true = encodings.coordinates_to_unit(batch["label"][:, encodings.COORDS])
    components = variables["params"]["mixture"]

    def at(temperature):
      return mixture.log_prob(true, logits / temperature, **components)

    found = jax.lax.map(at, TEMPERATURES.astype(np.float32))
    return {"log_probs": found.T}

  totals = np.zeros(len(TEMPERATURES))
  count = 0
  outputs = evaluate.make_outputs(log_probs, config, dataset, mesh)
  for found in outputs(variables, split):
    land = ~encodings.is_sea_patch(found["label"][:, encodings.CLIMATE])
    totals += found["log_probs"][land].sum(axis=0, dtype=np.float64)
    count += land.sum()
  nll = metrics.relative_to_uniform(totals / count)
  by_temperature = dict(zip(TEMPERATURES.tolist(), nll.tolist(), strict=True))
  return calibration.best_temperature(TEMPERATURES, nll), by_temperature
