import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P
from scipy import stats

from geojax import climate, encodings, losses

LAND, SEA = 8, 3  # zones


def make_labels(zones, seed=0):
  """Labels with one pure zone each, at random places and days."""
  rng = np.random.default_rng(seed)
  num = len(zones)
  return encodings.encode_label(
    np.eye(31)[zones],
    rng.uniform(-80, 80, num),
    rng.uniform(-180, 180, num),
    rng.integers(1, 366, num),
  ).astype(np.float32)


def make_predictions(num, seed=1):
  rng = np.random.default_rng(seed)
  return {
    "coords": rng.uniform(0, 1, (num, 3)).astype(np.float32),
    "climate": rng.normal(size=(num, 31)).astype(np.float32),
    "date": rng.uniform(0, 1, (num, 2)).astype(np.float32),
  }


def soft_targets(num, seed=2):
  rng = np.random.default_rng(seed)
  return rng.dirichlet(np.full(31, 0.1), num)


def climate_oracle(logits, target, w):
  """The definition, on probabilities in float64."""
  p = np.exp(logits - logits.max(axis=-1, keepdims=True))
  p /= p.sum(axis=-1, keepdims=True)
  loss = -w * np.sum(target * np.log(p), axis=-1)
  for number in range(6):
    zones = number == climate.ZONE_TO_CLASS
    class_p = p[..., zones].sum(axis=-1)
    loss -= (1 - w) * target[..., zones].sum(axis=-1) * np.log(class_p)
  return loss


@pytest.mark.parametrize("w", [0.0, 0.5, 0.7, 1.0])
def test_climate_loss_is_the_definition(w):
  logits = np.random.default_rng(0).normal(scale=5, size=(20, 31))
  target = soft_targets(20)
  found = jax.jit(losses.climate_loss, static_argnames="fine_weight")(
    jnp.asarray(logits), jnp.asarray(target), fine_weight=w
  )
  assert found.shape == (20,)
  np.testing.assert_allclose(
    found, climate_oracle(logits, target, w), rtol=3e-6
  )


def test_climate_loss_at_extreme_logits():
  logits = np.zeros((3, 31), np.float32)
  logits[0, 5], logits[1, 5], logits[2] = 1e4, -1e4, 1e4
  target = np.eye(31)[[5, 5, 5]]
  found = jax.jit(losses.climate_loss)(logits, target)
  # Right and sure: 0. Sure of anything else: 1e4 + log 30 by zones, log(31/3)
  # by classes, as the other three arid zones remain. All alike: the priors.
  expected = [
    0.0,
    (1e4 + math.log(30) + math.log(30 / 3)) / 2,
    (math.log(31) + math.log(31 / 4)) / 2,
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  gradient = jax.jit(jax.grad(lambda x: losses.climate_loss(x, target).sum()))(
    logits
  )
  assert np.isfinite(gradient).all()


def test_climate_gradient_in_closed_form():
  logits = jnp.asarray(make_predictions(4)["climate"])
  target = soft_targets(4)
  found = jax.jit(jax.grad(lambda x: losses.climate_loss(x, target).sum()))(
    logits
  )
  # A class's gradient, its probability less its target, is shared out among
  # its zones by their probabilities.
  p = np.exp(np.asarray(logits, np.float64))
  p /= p.sum(axis=1, keepdims=True)
  class_p, class_target = map(climate.class_fractions, (p, target))
  share = (class_p - class_target) / class_p
  expected = (p - target + p * share[:, climate.ZONE_TO_CLASS]) / 2
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_class_logits_sum_probabilities():
  logits = np.random.default_rng(0).normal(scale=3, size=(2, 3, 31))
  p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  found = jax.nn.softmax(jax.jit(losses.class_logits)(jnp.asarray(logits)))
  np.testing.assert_allclose(found, climate.class_fractions(p), rtol=1e-5)


def test_bfloat16_is_widened():
  logits = jnp.asarray(make_predictions(4)["climate"], jnp.bfloat16)
  target = soft_targets(4)
  found = jax.jit(losses.climate_loss)(logits, target)
  assert found.dtype == jnp.float32
  expected = climate_oracle(np.asarray(logits, np.float64), target, 0.5)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  error = losses.squared_error(
    jnp.asarray([[0.5, 1.0]], jnp.bfloat16), [[0, 0]]
  )
  np.testing.assert_array_equal(error, [0.625])
  assert error.dtype == jnp.float32


def test_mixture_loss_is_relative_to_uniform():
  mu = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
  log_kappa = np.log(np.array([3.0, 50.0, 10.0], np.float32))
  logits = np.array([[0.0, 1, 2], [3, 0, 0]], np.float32)
  lat, lon = np.array([80.0, 5.0]), np.array([-20.0, 10.0])
  coords = encodings.encode_coordinates(lat, lon).astype(np.float32)
  found = jax.jit(losses.make_mixture_loss(mu, log_kappa))(logits, coords)
  x = encodings.coordinates_to_unit(coords)
  weight = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  density = sum(
    weight[:, i] * stats.vonmises_fisher(mu[i], np.exp(log_kappa[i])).pdf(x)
    for i in range(3)
  )
  np.testing.assert_allclose(found, -np.log(4 * np.pi * density), rtol=1e-5)
  flat = losses.make_mixture_loss(mu, np.full(3, -20, np.float32))
  np.testing.assert_allclose(jax.jit(flat)(logits, coords), [0, 0], atol=1e-6)


def test_masked_mean_and_its_gradient():
  values = jnp.asarray([1.0, jnp.nan, 3.0, jnp.inf, -jnp.inf, 8.0])
  where = jnp.asarray([True, False, True, False, False, True])
  value, gradient = jax.jit(jax.value_and_grad(losses.masked_mean))(
    values, where
  )
  assert float(value) == 4
  np.testing.assert_allclose(gradient, np.array([1, 0, 1, 0, 0, 1]) / 3)
  nothing = jnp.zeros(6, bool)
  value, gradient = jax.value_and_grad(losses.masked_mean)(values, nothing)
  assert float(value) == 0
  np.testing.assert_array_equal(gradient, np.zeros(6))
  assert float(losses.masked_mean(values[None, ::2], where[None, ::2])) == 2


# Eight devices with 3, 0, 1, 0, 0, 4, 2 and 0 of 4 examples that count.
SPREAD = np.arange(4) < np.array([3, 0, 1, 0, 0, 4, 2, 0])[:, None]


def test_masked_mean_on_eight_devices_is_that_of_one():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(8, 4)).astype(np.float32)
  x[~SPREAD] = np.nan

  def loss(w, x, where, axis_name=None):
    return losses.masked_mean(jnp.sin(w * x), where, axis_name)

  def step(w, x, where):
    value, gradient = jax.value_and_grad(loss)(w, x, where, "batch")
    return value, lax.pmean(gradient, "batch")

  counted = x[SPREAD]
  expected, slope = jax.value_and_grad(
    lambda w: jnp.mean(jnp.sin(w * counted))
  )(0.7)
  # sin(NaN)'s own derivative is NaN whatever its cotangent; where inputs and
  # not values are NaN, it is the caller who guards them.
  x = np.where(SPREAD, x, 5.0)
  value, gradient = jax.pmap(step, "batch", in_axes=(None, 0, 0))(
    0.7, x, SPREAD
  )
  np.testing.assert_allclose(value, np.full(8, expected), rtol=1e-6)
  np.testing.assert_allclose(gradient, np.full(8, slope), rtol=1e-6)


def test_gradient_through_pmap_is_that_of_one_device():
  values = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
  values[~SPREAD] = np.nan
  mean = jax.pmap(
    functools.partial(losses.masked_mean, axis_name="batch"), "batch"
  )
  gradient = jax.grad(lambda v: mean(v, SPREAD)[0])(values)
  np.testing.assert_allclose(gradient, SPREAD / SPREAD.sum(), rtol=1e-6)
  gradient = jax.grad(lambda v: mean(v, np.zeros((8, 4), bool))[0])(values)
  np.testing.assert_array_equal(gradient, np.zeros((8, 4)))


def test_masked_mean_under_shard_map_and_sharded_jit():
  values = np.random.default_rng(0).normal(size=32).astype(np.float32)
  where = SPREAD.reshape(-1)
  expected = np.where(where, values, 0).sum() / where.sum()
  mesh = jax.make_mesh(
    (8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread = jax.NamedSharding(mesh, P("batch"))
  sharded = jax.device_put((values, where), spread)
  mapped = jax.shard_map(
    functools.partial(losses.masked_mean, axis_name="batch"),
    mesh=mesh,
    in_specs=P("batch"),
    out_specs=P(),
  )
  for mean in (jax.jit(mapped), jax.jit(losses.masked_mean)):
    value, gradient = jax.value_and_grad(mean)(*sharded)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, where / where.sum(), rtol=1e-6)


def test_geographic_loss_is_the_weighted_mean():
  zones = [LAND, 0, SEA, LAND, 0]
  labels, predictions = make_labels(zones), make_predictions(5)
  loss, terms = jax.jit(losses.geographic_loss)(predictions, labels)
  target = encodings.split_label(labels.astype(np.float64))
  land = np.array(zones) != 0
  coords = np.square(predictions["coords"] - target["coords"]).mean(axis=1)
  date = np.square(predictions["date"] - target["date"]).mean(axis=1)
  zone = climate_oracle(predictions["climate"], target["climate"], 0.5)
  expected = {
    "coords": coords[land].mean(),
    "climate": zone.mean(),
    "date": date[land].mean(),
  }
  assert terms.keys() == expected.keys()
  for task, value in expected.items():
    assert float(terms[task]) == pytest.approx(value, rel=1e-5)
  where, which, when = expected.values()
  assert float(loss) == pytest.approx(
    (where + 5 * which + 8 * when) / 14, rel=1e-5
  )
  weigh = jax.jit(
    lambda weights: losses.geographic_loss(predictions, labels, weights=weights)
  )
  for weights in [(2, 0, 1), {"date": 1, "climate": 0, "coords": 2}]:
    loss, _ = weigh(weights)
    assert float(loss) == pytest.approx((2 * where + when) / 3, rel=1e-5)


@pytest.mark.parametrize("kind", ["squared", "mixture"])
def test_no_land_gives_zero_and_nan_does_not_leak(kind):
  labels, predictions = make_labels([0, 0, 0]), make_predictions(3)
  coords_loss = losses.squared_error
  if kind == "mixture":
    mu = np.eye(3, dtype=np.float32)
    coords_loss = losses.make_mixture_loss(mu, np.full(3, 2, np.float32))
  predictions["coords"][1] = np.nan
  predictions["date"][:] = np.nan
  labels[2, encodings.COORDS] = np.nan
  labels[0, encodings.DATE] = np.inf

  def loss(predictions):
    return losses.geographic_loss(predictions, labels, coords_loss=coords_loss)

  (value, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    predictions
  )
  assert float(terms["coords"]) == 0
  assert float(terms["date"]) == 0
  assert float(value) == pytest.approx(float(terms["climate"]) * 5 / 14)
  np.testing.assert_array_equal(gradient["coords"], np.zeros((3, 3)))
  np.testing.assert_array_equal(gradient["date"], np.zeros((3, 2)))
  assert np.abs(gradient["climate"]).min() > 0


def test_rows_of_padding_have_no_effect():
  labels, predictions = make_labels([LAND, 0, SEA]), make_predictions(3)
  expected = jax.jit(losses.geographic_loss)(predictions, labels)
  padded = {
    task: np.concatenate([x, np.full((2, x.shape[1]), np.nan, x.dtype)])
    for task, x in predictions.items()
  }
  rows = np.concatenate([labels, np.full((2, 36), np.nan, np.float32)])
  where = np.arange(5) < 3

  def loss(predictions):
    return losses.geographic_loss(predictions, rows, where=where)

  (found, gradient) = jax.jit(jax.value_and_grad(loss, has_aux=True))(padded)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected
  )
  for x in gradient.values():
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x[3:], np.zeros_like(x[3:]))


def test_geographic_loss_on_eight_devices_is_that_of_one():
  zones = np.where(SPREAD, LAND, 0)
  labels = make_labels(zones.reshape(-1))
  mu = np.eye(3, dtype=np.float32)
  features = np.random.default_rng(3).normal(size=(32, 4)).astype(np.float32)
  params = {
    "coords": np.ones((4, 3), np.float32) / 7,
    "climate": np.random.default_rng(4).normal(size=(4, 31)).astype(np.float32),
    "date": np.ones((4, 2), np.float32) / 5,
    "log_kappa": np.ones(3, np.float32),
    "log_variances": dict.fromkeys(losses.TASKS, jnp.float32(0.3)),
  }

  def loss(params, features, labels, axis_name=None):
    predictions = {task: features @ params[task] for task in losses.TASKS}
    return losses.geographic_loss(
      predictions,
      labels,
      coords_loss=losses.make_mixture_loss(mu, params["log_kappa"]),
      axis_name=axis_name,
      log_variances=params["log_variances"],
    )[0]

  def step(params, features, labels):
    value, gradient = jax.value_and_grad(loss)(
      params, features, labels, "batch"
    )
    return value, lax.pmean(gradient, "batch")

  expected = jax.jit(jax.value_and_grad(loss))(params, features, labels)
  found = jax.pmap(step, "batch", in_axes=(None, 0, 0))(
    params, features.reshape(8, 4, 4), labels.reshape(8, 4, 36)
  )
  for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    copies = np.broadcast_to(y, x.shape)
    np.testing.assert_allclose(x, copies, rtol=2e-5, atol=1e-7)


def test_learned_weights():
  zero = dict.fromkeys(losses.TASKS, 0.0)
  labels, predictions = make_labels([LAND, 0]), make_predictions(2)
  weigh = jax.jit(
    lambda v: losses.geographic_loss(predictions, labels, log_variances=v)
  )
  plain, terms = jax.jit(losses.geographic_loss)(predictions, labels)
  neutral, _ = weigh(zero)
  assert float(neutral) == pytest.approx(float(plain), rel=1e-6)

  learned = {"coords": 0.4, "climate": -1.0, "date": 2.0}
  found, _ = weigh(learned)
  expected = 0
  for task, weight in losses.DEFAULT_WEIGHTS.items():
    s = 5 * math.tanh(learned[task] / 5)
    expected += weight * (math.exp(-s) * float(terms[task]) + s / 2) / 14
  assert float(found) == pytest.approx(expected, rel=1e-5)

  def term(v):
    return losses.uncertainty_weighted(3.0, v, True)

  at_minimum = 5 * math.atanh(math.log(2 * 3.0) / 5)
  assert float(jax.grad(term)(at_minimum)) == pytest.approx(0, abs=1e-6)
  # A negative loss is bounded below all the same.
  steep = losses.uncertainty_weighted(-3.0, -1e6, True)
  assert float(steep) == pytest.approx(-3 * math.exp(5) - 2.5, rel=1e-6)


def test_a_task_without_examples_has_no_say():
  labels, predictions = make_labels([0, 0]), make_predictions(2)

  def loss(log_variances, predictions):
    return losses.geographic_loss(
      predictions, labels, log_variances=log_variances
    )

  learned = dict.fromkeys(losses.TASKS, 1.5)
  gradient, _ = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
    learned, predictions
  )
  for task, has_say in [("coords", False), ("climate", True), ("date", False)]:
    for x in (gradient[0][task], gradient[1][task]):
      assert np.any(np.asarray(x) != 0) == has_say
  padding = np.zeros(2, bool)
  value, _ = jax.jit(losses.geographic_loss)(
    predictions, labels, log_variances=learned, where=padding
  )
  assert float(value) == 0


def test_coords_may_be_a_tree():
  labels, predictions = make_labels([LAND, 0, LAND]), make_predictions(3)
  head = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
  expected, _ = jax.jit(losses.geographic_loss)(
    predictions | {"coords": predictions["coords"] @ head}, labels
  )
  loss = functools.partial(
    losses.geographic_loss,
    coords_loss=lambda p, y: losses.squared_error(p["features"] @ head, y),
  )
  found, _ = jax.jit(loss)(
    predictions | {"coords": {"features": predictions["coords"]}}, labels
  )
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_bad_input():
  labels, predictions = make_labels([LAND, 0]), make_predictions(2)
  with pytest.raises(ValueError, match=r"logits must have shape .*31.*30"):
    losses.climate_loss(np.ones((2, 30)), np.ones((2, 30)))
  with pytest.raises(ValueError, match=r"target must have the shape of logits"):
    losses.climate_loss(np.ones((2, 31)), np.ones((1, 31)))
  with pytest.raises(ValueError, match=r"where must have the shape of values"):
    losses.masked_mean(np.ones((3, 1)), np.ones(3, bool))
  with pytest.raises(ValueError, match=r"where must have shape \(2,\)"):
    losses.geographic_loss(predictions, labels, where=np.ones(3, bool))
  with pytest.raises(ValueError, match=r"label must have shape"):
    losses.geographic_loss(predictions, labels[:, :35])
  with pytest.raises(ValueError, match=r"weights must have the entries"):
    losses.geographic_loss(predictions, labels, weights=(1, 2))
  with pytest.raises(ValueError, match=r"predictions must have the entries"):
    losses.geographic_loss({"coords": predictions["coords"]}, labels)
  for task, wrong in itertools.product(losses.TASKS, [1, 3]):
    bad = predictions | {task: np.ones((wrong, predictions[task].shape[1]))}
    with pytest.raises(ValueError, match="must have"):
      jax.eval_shape(losses.geographic_loss, bad, labels)
