"""What counts for each task, in value and gradient, and what its loss is."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from task_samples import (
  LAND,
  NAMES,
  SEA,
  create,
  make_config,
  make_labels,
  make_outputs,
)

from geojax import encodings, losses, mixture, models, tasks


def total(task_list, outputs, batch):
  values, where = tasks.example_losses(task_list, outputs, batch)
  weights = {task.name: task.weight for task in task_list}
  return losses.weighted_loss(values, where, weights)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("coords", {"coords": "mse"}),
    ("coords", {}),
    ("coords", {"chunk_size": 5}),
    ("climate", {}),
    ("date", {}),
  ],
)
def test_an_unknown_label_makes_its_row_not_count(name, options):
  (task,) = create([name], **options)
  features = jax.random.normal(jax.random.key(0), (5, 6))
  params = models.unbox(task.head.init(jax.random.key(1), features))

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1))
  def evaluate(features, params, batch):
    outputs = {name: task.head.apply(params, features, train=True)}
    return total([task], outputs, batch)[0]

  labels = make_labels([LAND, SEA, LAND, 3, 20])
  for unknown in NAMES:
    batch = {key: x.copy() for key, x in labels.items()}
    batch[unknown][2, -1] = np.nan
    counts = np.array([True, name == "climate", unknown != name, True, True])
    value, (by_row, by_param) = evaluate(features, params, batch)
    expected = evaluate(
      features[counts], params, {k: x[counts] for k, x in labels.items()}
    )
    assert value == pytest.approx(float(expected[0]), rel=1e-5)
    np.testing.assert_array_equal(by_row[~counts], 0)
    np.testing.assert_allclose(
      by_row[counts], expected[1][0], rtol=1e-3, atol=1e-7
    )
    for x, y in zip(
      *map(jax.tree.leaves, (by_param, expected[1][1])), strict=True
    ):
      np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-7)
    assert np.abs(by_row[counts]).max(axis=1).min() > 1e-5
    nothing = {k: np.full_like(x, np.nan) for k, x in labels.items()}
    for x in jax.tree.leaves(evaluate(features, params, nothing)):
      np.testing.assert_array_equal(x, 0)


def test_the_three_are_the_geographic_loss():
  config = make_config(coords="mse")
  config.loss.climate_fine_weight = 0.2
  task_list = tasks.create_tasks(config)
  outputs = make_outputs(task_list, 5)
  batch = make_labels([LAND, SEA, LAND, 3, 20])
  batch["date"][0] = batch["climate"][3] = np.nan
  label = np.concatenate(
    [batch[name] for name in ("climate", "coords", "date")], axis=1
  )
  found = total(task_list, outputs, batch)
  expected = losses.geographic_loss(outputs, label, fine_weight=0.2)
  for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-6)


def test_a_mixture_s_loss_is_its_nll_dense_fused_or_spread_over_devices():
  coords = make_labels([LAND] * 8)["coords"]
  (task,) = create(["coords"])
  outputs = make_outputs([task], 8)["coords"]
  expected = losses.relative_nll(
    mixture.log_prob(encodings.coordinates_to_unit(coords), **outputs)
  )
  np.testing.assert_allclose(task.loss(outputs, coords), expected, rtol=1e-6)
  config = make_config(["coords"], chunk_size=2)
  auto = (jax.sharding.AxisType.Auto,) * 2
  for shape in (None, (8, 1), (2, 4)):
    mesh = shape and jax.make_mesh(shape, ("data", "model"), axis_types=auto)
    (task,) = tasks.create_tasks(config, mesh=mesh)
    outputs = make_outputs([task], 8, train=True)["coords"]
    assert "logits" not in outputs
    if mesh:
      by_center = dict.fromkeys(("bias", "mu", "log_kappa"), P("model"))
      specs = {"features": P("data"), "kernel": P(None, "model"), **by_center}
      spread = {k: jax.NamedSharding(mesh, spec) for k, spec in specs.items()}
      outputs = jax.device_put(outputs, spread)
    program = jax.jit(task.loss).lower(outputs, coords).compile()
    # No device is sent the centers of the others.
    assert "all-gather" not in program.as_text()
    found = jax.jit(task.loss)(outputs, coords)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
