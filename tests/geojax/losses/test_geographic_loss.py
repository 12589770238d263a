import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from geojax import encodings, losses

LAND, SEA = 8, 0  # zones


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


def test_it_is_the_weighted_mean():
  zones = [LAND, SEA, 3, LAND, SEA]
  labels, predictions = make_labels(zones), make_predictions(5)
  target = encodings.split_label(labels)
  land = np.array(zones) != SEA
  coords = np.square(predictions["coords"] - target["coords"]).mean(axis=1)
  date = np.square(predictions["date"] - target["date"]).mean(axis=1)

  def of(**options):
    loss = functools.partial(losses.geographic_loss, **options)
    return jax.jit(loss)(predictions, labels)

  for fine in (0.5, 0.2):
    zone = losses.climate_loss(
      predictions["climate"], target["climate"], fine_weight=fine
    )
    terms = coords[land].mean(), zone.mean(), date[land].mean()
    where, which, when = map(float, terms)
    loss, terms = of(fine_weight=fine)
    expected = {"coords": where, "climate": which, "date": when}
    assert jax.tree.map(float, terms) == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx((where + 5 * which + 8 * when) / 14, rel=1e-5)
  for weights in [(2, 0, 1), {"date": 1, "climate": 0, "coords": 2}]:
    loss, _ = of(weights=weights)
    assert loss == pytest.approx((2 * where + when) / 3, rel=1e-5)


@pytest.mark.parametrize("kind", ["squared", "mixture", "tree"])
def test_what_does_not_count_reaches_neither_value_nor_gradient(kind):
  labels = make_labels([LAND, SEA, LAND, LAND, LAND, LAND, 3])
  labels[2, encodings.COORDS.start] = np.nan
  labels[3, encodings.DATE] = np.inf
  labels[4, encodings.CLIMATE.start + 5] = np.nan
  where = np.arange(7) != 5
  labels[5] = np.nan
  counting = {
    "coords": [0, 3, 4, 6],
    "climate": [0, 1, 2, 3, 6],
    "date": [0, 2, 4, 6],
  }
  predictions = make_predictions(7)
  for task, rows in counting.items():
    predictions[task][np.setdiff1d(np.arange(7), rows)] = np.nan
  coords_loss = losses.squared_error
  if kind == "mixture":
    mu = np.eye(3, dtype=np.float32)
    coords_loss = losses.make_mixture_loss(mu, np.full(3, 2, np.float32))
  if kind == "tree":
    predictions["coords"] = {"codes": predictions["coords"]}
    coords_loss = lambda p, y: losses.squared_error(p["codes"], y)  # noqa: E731

  def loss(predictions, labels, where=None):
    return losses.geographic_loss(
      predictions, labels, coords_loss=coords_loss, where=where
    )

  evaluate = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (_, terms), gradient = evaluate(predictions, labels, where)
  for task, rows in counting.items():
    alone = jax.tree.map(lambda x: x[rows], predictions)  # noqa: B023
    (_, of_rows), slope = evaluate(alone, np.nan_to_num(labels[rows], posinf=0))
    assert terms[task] == pytest.approx(float(of_rows[task]), rel=1e-6)
    found, slope = (
      jax.tree.leaves(tree[task])[0] for tree in (gradient, slope)
    )
    expected = np.zeros_like(found)
    expected[rows] = slope
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_on_eight_devices_it_is_that_of_one():
  # 3, 0, 1, 0, 0, 4, 2 and 0 of 4 examples of a device are land.
  land = np.arange(4) < np.array([3, 0, 1, 0, 0, 4, 2, 0])[:, None]
  labels = make_labels(np.where(land, LAND, SEA).reshape(-1))
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
  labels, predictions = make_labels([LAND, SEA]), make_predictions(2)
  weigh = jax.jit(
    lambda v: losses.geographic_loss(predictions, labels, log_variances=v)
  )
  plain, terms = jax.jit(losses.geographic_loss)(predictions, labels)
  neutral, _ = weigh(dict.fromkeys(losses.TASKS, 0.0))
  assert neutral == pytest.approx(float(plain), rel=1e-6)

  learned = {"coords": 0.4, "climate": -1.0, "date": 2.0}
  found, _ = weigh(learned)
  expected = 0
  for task, weight in losses.DEFAULT_WEIGHTS.items():
    s = 5 * math.tanh(learned[task] / 5)
    expected += weight * (math.exp(-s) * float(terms[task]) + s / 2) / 14
  assert found == pytest.approx(expected, rel=1e-5)


def test_a_task_without_examples_has_no_gradient():
  labels, predictions = make_labels([SEA, SEA]), make_predictions(2)

  def loss(log_variances, predictions):
    return losses.geographic_loss(
      predictions, labels, log_variances=log_variances
    )

  learned = dict.fromkeys(losses.TASKS, 1.5)
  gradient, terms = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
    learned, predictions
  )
  for task, counts in [("coords", False), ("climate", True), ("date", False)]:
    for x in (gradient[0][task], gradient[1][task], terms[task]):
      assert np.any(np.asarray(x) != 0) == counts
  padding = np.zeros(2, bool)
  value, _ = jax.jit(losses.geographic_loss)(
    predictions, labels, log_variances=learned, where=padding
  )
  assert float(value) == 0


def test_bad_input():
  labels, predictions = make_labels([LAND, SEA]), make_predictions(2)
  for change, message in [
    ({"where": np.ones(3, bool)}, r"where must have shape \(2,\)"),
    ({"labels": labels[:, :35]}, "label must have shape"),
    ({"weights": (1, 2)}, "weights must have the entries"),
    ({"log_variances": {"date": 1}}, "log_variances must have the entries"),
    ({"predictions": {"coords": 1}}, "predictions must have the entries"),
  ]:
    arguments = {"predictions": predictions, "labels": labels} | change
    with pytest.raises(ValueError, match=message):
      losses.geographic_loss(**arguments)
  for task, wrong in itertools.product(losses.TASKS, [1, 3]):
    bad = predictions | {task: np.ones((wrong, predictions[task].shape[1]))}
    with pytest.raises(ValueError, match="must have"):
      jax.eval_shape(losses.geographic_loss, bad, labels)
