"""What tasks make of outputs: answers, scores, temperature, parameters."""

import functools

import jax
import numpy as np
import pytest
from scipy import special, stats
from task_samples import LAND, SEA, create, make_labels, make_outputs

from geojax import encodings, losses, mixture, sphere, tasks
from geojax.tasks import climate as climate_task
from geojax.tasks import coords, regression
from geojax.tasks import task as task_lib


def test_regressions_and_zones_are_decoded():
  task_list = create(coords="mse")
  outputs = make_outputs(task_list, 5)
  answers = {}
  for task in task_list:
    answers |= jax.jit(task.decode)(outputs[task.name])
  lat, lon = encodings.decode_coordinates(outputs["coords"])
  np.testing.assert_allclose(
    answers["place"], sphere.latlon_to_unit(lat, lon), atol=1e-6
  )
  odds = np.exp(outputs["climate"])
  np.testing.assert_allclose(
    answers["climate_probs"], odds / odds.sum(axis=1, keepdims=True), rtol=1e-5
  )
  turn = np.arctan2(*(2 * np.float64(outputs["date"]) - 1).T)
  np.testing.assert_allclose(
    answers["day"], turn * 365 / (2 * np.pi) % 365, rtol=1e-4
  )
  np.testing.assert_allclose(answers["date_mean"], 2 * outputs["date"] - 1)


def test_a_mixture_is_decoded_at_its_temperature():
  outputs = make_outputs(create(["coords"]), 6)["coords"]
  mu, log_kappa = outputs["mu"], outputs["log_kappa"]
  places = {}
  for temperature, decoder in [
    (2.0, "largest"),
    (2.0, "mode"),
    (0.3, "least_expected_distance"),
  ]:
    (task,) = create(["coords"], decoder=decoder, temperature=temperature)
    answers = jax.jit(task.decode)(outputs)
    logits = outputs["logits"] / temperature
    np.testing.assert_allclose(answers["logits"], logits, rtol=1e-6)
    expected = {
      "largest": mu[logits.argmax(axis=1)],
      "mode": jax.jit(mixture.decode_mode)(logits, mu, log_kappa),
      "least_expected_distance": jax.jit(
        mixture.decode_least_expected_distance
      )(logits, mu),
    }
    np.testing.assert_array_equal(answers["place"], answers[f"place_{decoder}"])
    for name, place in expected.items():
      found = places[name, temperature] = answers[f"place_{name}"]
      np.testing.assert_allclose(found, place, atol=1e-5)
  for name in ("mode", "least_expected_distance"):
    assert np.abs(places[name, 2.0] - places[name, 0.3]).max() > 1e-3, name


def test_scores_of_a_mixture():
  (task,) = create(["coords"], temperature=2.0)
  outputs = make_outputs([task], 6)["coords"]
  target = make_labels([LAND] * 6)["coords"]
  x = encodings.coordinates_to_unit(target)
  score, log_prob = jax.jit(task.score), jax.jit(mixture.log_prob)
  regions = jax.jit(
    functools.partial(mixture.credible_regions, masses=(0.5, 0.8, 0.95))
  )
  found = score(outputs, target, None)
  fitted = score(outputs, target, {"temperature": np.float32(0.5)})
  for columns, prefix, temperature in [
    (found, "", 2.0),
    (fitted, "", 2.0),
    (fitted, "fitted_", 0.5),
  ]:
    scaled = outputs | {"logits": outputs["logits"] / temperature}
    nll = losses.relative_nll(log_prob(x, **scaled))
    level, _, area_sr, denser_sr = regions(x, **scaled)
    for name, expected in [
      ("nll_nats", nll),
      ("credible_level", level),
      *([] if prefix else [("raw_credible_level", level)]),
      ("area_km2", area_sr * 6371.0088**2),
      ("denser_km2", denser_sr * 6371.0088**2),
    ]:
      value = columns[prefix + name]
      np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)
  by_temperature = found["log_prob_by_temperature"]
  for i in (0, 18, 36):
    temperature = 4.0 ** ((i - 18) / 18)
    assert coords.TEMPERATURES[i] == pytest.approx(temperature)
    scaled = outputs | {"logits": outputs["logits"] / temperature}
    expected = log_prob(x, **scaled)
    np.testing.assert_allclose(by_temperature[:, i], expected, rtol=1e-4)
  assert set(task.on_request) == {
    *("logits", "log_prob_by_temperature"),
    *("place_largest", "place_mode", "place_least_expected_distance"),
  }
  knots = np.linspace(0, 1, 257) ** 0.5
  calibrated = score(outputs, target, {"level_knots": np.float32(knots)})
  np.testing.assert_allclose(
    calibrated["credible_level"], found["credible_level"] ** 2, atol=2e-3
  )
  np.testing.assert_array_equal(
    calibrated["raw_area_km2"], found["raw_area_km2"]
  )
  masses = tuple(np.sqrt([0.5, 0.8, 0.95]).tolist())
  _, _, area_sr, _ = mixture.credible_regions(
    x,
    outputs["logits"] / 2,
    outputs["mu"],
    outputs["log_kappa"],
    masses=masses,
  )
  np.testing.assert_allclose(
    calibrated["area_km2"], area_sr * 6371.0088**2, rtol=2e-3
  )


def test_without_a_known_place_no_temperature_is_fitted():
  (task,) = create(["coords"])
  found = task.fit(
    {
      "log_prob_by_temperature": np.zeros((3, 37)),
      "raw_credible_level": np.full(3, 0.5),
      "coords_counts": np.zeros(3, bool),
      "block": np.arange(3),
    }
  )
  assert found.keys() == {"level_knots", "num_blocks"}
  assert found["num_blocks"] == 0


def test_sets_of_zones_hold_what_they_promise():
  probs = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]])
  levels = climate_task.zone_levels(probs)
  np.testing.assert_allclose(levels[0], [1, 0, 0.9])
  np.testing.assert_allclose(sorted(levels[1]), [0, 0.75, 1])
  (task,) = create(["climate"])
  logits = np.log(np.full((2, 31), 1e-9))
  logits[:, 3:6] = np.log([0.6, 0.3, 0.1])
  target = np.eye(31)[[4, 5]]
  outputs = logits.astype(np.float32)
  found = jax.jit(task.score)(outputs, target, None)
  np.testing.assert_allclose(found["climate_level"], [0.9, 1], atol=1e-5)
  # 0.9 is promised as a float32; rounding decides about what is on its edge.
  assert set(np.asarray(found["climate_set_size"])) <= {1, 2}
  knots = np.interp(np.linspace(0, 1, 257), [0, 0.5, 1], [0, 0, 1])
  found = jax.jit(task.score)(
    outputs, target, {"level_knots": np.float32(knots)}
  )
  np.testing.assert_allclose(found["climate_level"], [0.95, 1], atol=1e-2)
  assert found["climate_set_size"].tolist() == [1, 1]
  assert found["raw_climate_level"][0] == pytest.approx(0.9, abs=1e-5)


def test_arcs_hold_what_they_promise():
  (task,) = create(["date"])
  kappa = 3.0
  length = special.i1e(kappa) / special.i0e(kappa)
  turn = 2 * np.pi / 365
  angle = np.float64([100, 120, 20]) * turn
  outputs = (1 + length * np.stack([np.sin(angle), np.cos(angle)], -1)) / 2
  target = encodings.encode_day_of_year(np.array([100.0, 150.0, 340.0]))
  found = jax.jit(task.score)(np.float32(outputs), np.float32(target), None)
  away = np.array([0, 30, 45]) * turn
  expected = 2 * stats.vonmises.cdf(away, kappa) - 1
  np.testing.assert_allclose(found["date_level"], expected, atol=1e-3)
  arc = 2 * stats.vonmises.ppf(0.9, kappa) / turn
  np.testing.assert_allclose(found["date_arc_days"], arc, rtol=1e-3)
  knots = np.linspace(0, 1, 257) ** 0.5
  found = jax.jit(task.score)(
    np.float32(outputs), np.float32(target), {"level_knots": np.float32(knots)}
  )
  np.testing.assert_allclose(found["date_level"], expected**2, atol=5e-3)
  arc = 2 * stats.vonmises.ppf(0.5 + np.sqrt(0.8) / 2, kappa) / turn
  np.testing.assert_allclose(found["date_arc_days"], arc, rtol=2e-3)


def test_fit_recovers_the_temperature_of_land_at_known_places():
  rng = np.random.default_rng(0)
  num, true = 3000, 1.7
  (task,) = create(["coords"])
  outputs = make_outputs([task], 1)["coords"]
  logits = rng.normal(scale=3, size=(num, 12)).astype(np.float32)
  odds = np.exp(logits / true)
  share = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
  drawn = np.sum(rng.random((num, 1)) > share[:, :-1], axis=1)
  # Concentrated enough for a place to be its center.
  target = encodings.encode_coordinates(
    *sphere.unit_to_latlon(np.float64(outputs["mu"])[drawn])
  )
  target[::3] = np.nan
  outputs = {**outputs, "logits": logits}
  table = jax.jit(task.score)(outputs, target, None)
  table = {
    "log_prob_by_temperature": np.asarray(table["log_prob_by_temperature"]),
    "raw_credible_level": np.asarray(table["raw_credible_level"]),
    "coords_counts": np.arange(num) % 3 > 0,
    "block": np.arange(num),
  }
  found = task.fit(table)
  assert found["temperature"] == pytest.approx(true, rel=0.1)
  assert found["nll_nats"].shape == coords.TEMPERATURES.shape
  rows = table["log_prob_by_temperature"][table["coords_counts"]]
  np.testing.assert_allclose(
    found["nll_nats"], -np.log(4 * np.pi) - rows.mean(axis=0), rtol=1e-5
  )


@pytest.mark.parametrize("spacing_mass", [0.0, 0.5])
def test_centers_are_laid_out_by_land_at_known_places(spacing_mass):
  (task,) = create(
    ["coords"], num_centers=4, min_distance_km=1, spacing_mass=spacing_mass
  )
  labels = make_labels([LAND] * 8 + [SEA] * 30)
  labels["coords"][:2] = np.nan
  asked = []

  def read_labels(num_records):
    asked.append(num_records)
    return labels

  found = task.initialize(read_labels)
  assert asked == [160]
  assert set(found) == {"mu", "log_kappa"} if spacing_mass else {"mu"}
  land = encodings.coordinates_to_unit(labels["coords"][2:8])
  nearest = sphere.great_circle_km(found["mu"][:, None], land).argmin(axis=1)
  assert len(set(nearest.tolist())) == 4
  np.testing.assert_allclose(found["mu"], land[nearest], atol=1e-6)
  labels["coords"][:6] = np.nan
  both = "config.mixture.num_centers or config.mixture.min_distance_km"
  with pytest.raises(ValueError, match=f"{both} does not fit geo_tiles/earth"):
    task.initialize(read_labels)


def test_centers_stay_on_the_sphere_and_have_their_own_rates():
  (task,) = create(
    ["coords"], centers_learning_rate=0.1, log_kappa_learning_rate=0.2
  )
  assert task.learning_rates == {"mu": 0.1, "log_kappa": 0.2}
  outputs = make_outputs([task], 1)["coords"]
  params = {"mu": 1.3 * outputs["mu"], "log_kappa": outputs["log_kappa"] + 3}
  found = jax.jit(task.constrain)(params)
  np.testing.assert_allclose(found["mu"], outputs["mu"], atol=1e-6)
  np.testing.assert_array_equal(found["log_kappa"], params["log_kappa"])
  (fixed,) = create(["coords"])
  assert fixed.learning_rates == {"mu": 0, "log_kappa": 0}
  assert fixed.constrain(params) is params


def test_probabilities_of_several_models_are_averaged():
  rng = np.random.default_rng(0)
  logits = list(rng.normal(0, 20, (3, 5, 4)).astype(np.float32))
  expected = special.softmax(np.float64(logits), axis=-1).mean(axis=0)
  np.testing.assert_allclose(
    np.exp(task_lib.mean_logits(logits)), expected, rtol=1e-4, atol=1e-30
  )
  expected = special.expit(np.float64(logits)).mean(axis=0)
  np.testing.assert_allclose(
    task_lib.mean_log_odds(logits), special.logit(expected), rtol=1e-4
  )


def test_numbers_of_several_models_are_averaged_in_their_units():
  target = tasks.Target("height", "number")
  task = regression.create(target, lambda batch: batch["height"])
  outputs = [
    {
      "standardized": np.array([[1.0], [2.0]], np.float32),
      "offset": np.float32(offset),
      "scale": np.float32(scale),
    }
    for offset, scale in ((10, 2), (20, 4))
  ]
  combined = task.decode(task.combine(outputs))["height_value"]
  np.testing.assert_allclose(combined, [(12 + 24) / 2, (14 + 28) / 2])
