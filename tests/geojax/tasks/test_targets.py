"""Targets of a data set's own as tasks, each kind against a formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from geojax import losses, models, tasks
from geojax.evaluation import metrics
from geojax.training import config as config_lib

SIZE = 4
TARGETS = tasks.describe(
  {
    "targets": [
      {"name": "use", "kind": "class", "classes": ["a", "b", "c"]},
      {"name": "tags", "kind": "classes", "classes": ["x", "y"]},
      {"name": "yield", "kind": "number"},
      {"name": "cover", "kind": "class_map", "classes": ["u", "v", "w"]},
      {"name": "height", "kind": "value_map"},
    ]
  }
)


def make_batch(count=6, seed=0):
  """Labels of which the last record's are unknown."""
  rng = np.random.default_rng(seed)
  batch = {
    "image": rng.normal(size=(count, SIZE, SIZE, 2)).astype(np.float32),
    "use": rng.integers(0, 3, count).astype(np.int32),
    "tags": rng.integers(0, 2, (count, 2)).astype(np.uint8),
    "yield": rng.normal(5, 2, count).astype(np.float32),
    "cover": rng.integers(0, 3, (count, SIZE, SIZE)).astype(np.uint8),
    "height": rng.normal(9, 3, (count, SIZE, SIZE)).astype(np.float16),
  }
  # Some of a map is unknown, and all of the last one.
  batch["cover"][:, 0] = batch["cover"][-1] = 255
  batch["height"][:, 0] = batch["height"][-1] = np.nan
  batch["use"][-1], batch["tags"][-1], batch["yield"][-1] = -1, 255, np.nan
  return batch


def create(*names, **model):
  config = config_lib.default_config()
  config.tasks = names
  config.model.update(model)
  return tasks.create_tasks(config, targets=TARGETS)


def apply_head(task, count, seed=1):
  """Outputs of a task's head on random features or maps."""
  rng = np.random.default_rng(seed)
  if models.reads_maps(task.head):
    maps = [
      rng.normal(size=(count, side, side, 5)).astype(np.float32)
      for side in (SIZE, SIZE // 2)
    ]
    given, keys = (maps,), {"size": (SIZE, SIZE)}
  else:
    given, keys = (rng.normal(size=(count, 5)).astype(np.float32),), {}
  params = task.head.init(jax.random.key(0), *given, **keys)
  return params, lambda p: task.head.apply(p, *given, **keys)


@pytest.mark.parametrize("name", ["use", "tags", "yield", "cover", "height"])
@pytest.mark.parametrize("suffix", ["", ":pixels"])
def test_only_known_labels_reach_loss_and_gradient(name, suffix):
  if suffix and not TARGETS[name].is_map:
    with pytest.raises(ValueError, match=rf"{name}' is one .* has no pixels"):
      create(name + suffix)
    return
  (task,) = create(name + suffix)
  batch = make_batch()
  params, outputs = apply_head(task, 6)

  def total(params):
    values, where = tasks.example_losses(
      [task], {task.name: outputs(params)}, batch
    )
    return jnp.sum(jnp.where(where[task.name], values[task.name], 0.0)), where

  (value, where), grads = jax.value_and_grad(total, has_aux=True)(params)
  np.testing.assert_array_equal(where[task.name], [True] * 5 + [False])
  assert np.isfinite(value)
  for leaf in jax.tree.leaves(grads):
    assert np.isfinite(leaf).all()
  without = {k: v[:5] for k, v in batch.items()}
  some = tasks.example_losses(
    [task],
    {
      task.name: jax.tree.map(lambda x: x[:5] if x.ndim else x, outputs(params))
    },
    without,
  )[0][task.name]
  assert float(jnp.sum(some)) == pytest.approx(float(value), rel=1e-5)


def test_losses_are_their_formulas():
  batch = make_batch()
  use, tags, number = create("use", "tags", "yield")
  logits = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  np.testing.assert_allclose(
    use.loss(logits, jnp.asarray(batch["use"] % 3)),
    -log_p[np.arange(6), batch["use"] % 3],
    rtol=1e-5,
  )
  p = 1 / (1 + np.exp(-logits[:, :2]))
  y = batch["tags"][:5]
  np.testing.assert_allclose(
    tags.loss(logits[:5, :2], jnp.asarray(y)),
    -np.mean(y * np.log(p[:5]) + (1 - y) * np.log(1 - p[:5]), -1),
    rtol=1e-5,
  )
  outputs = {"standardized": logits[:5, :1], "offset": 5.0, "scale": 2.0}
  np.testing.assert_allclose(
    number.loss(outputs, jnp.asarray(batch["yield"][:5])),
    (logits[:5, 0] - (batch["yield"][:5] - 5) / 2) ** 2,
    rtol=1e-5,
  )
  assert number.decode(outputs)["yield_value"] == pytest.approx(
    logits[:5, 0] * 2 + 5
  )


def test_loss_of_pixels_is_the_mean_over_known_ones():
  (task,) = create("cover:pixels")
  batch = make_batch()
  logits = np.random.default_rng(3).normal(size=(6, SIZE, SIZE, 3))
  logits = logits.astype(np.float32)
  found = task.loss(logits, jnp.asarray(batch["cover"]))
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  for i in range(5):
    known = batch["cover"][i] != 255
    chosen = np.take_along_axis(
      log_p[i], np.where(known, batch["cover"][i], 0)[..., None].astype(int), -1
    )[..., 0]
    assert found[i] == pytest.approx(-chosen[known].mean(), rel=1e-5)


def test_a_patch_has_the_class_of_most_pixels_and_the_mean_value():
  cover, height = create("cover", "height")
  batch = make_batch()
  batch["cover"][0] = [[255] * 4, [1, 1, 1, 2], [2, 2, 0, 1], [0, 0, 0, 2]]
  found = np.asarray(cover.target(batch))
  assert found[0] == 0
  assert found[-1] == -1
  means = np.asarray(height.target(batch))
  assert means[0] == pytest.approx(
    np.nanmean(batch["height"][0].astype(np.float64)), rel=1e-3
  )
  assert np.isnan(means[-1])


def test_metrics_read_answers_on_numpy_and_jax():
  names = ("use", "tags", "yield", "cover:pixels", "height:pixels")
  task_list = create(*names)
  batch = make_batch(count=40)
  for xp in (np, jnp):
    labels = {k: xp.asarray(v) for k, v in batch.items() if k != "image"}
    answers = {}
    for task in task_list:
      _, outputs = apply_head(task, 40)
      params, outputs = apply_head(task, 40)
      found = task.decode(outputs(params))
      answers |= {k: xp.asarray(v) for k, v in found.items()}
    table = tasks.compare(task_list, labels, answers)
    assert "cover" not in table, "maps stay out of tables"
    table = {k: np.asarray(v) for k, v in table.items()}
    found = metrics.summarize(table, tasks.all_metrics(task_list))
    known = batch["use"] >= 0
    expected = np.mean(table["use_class"][known] == batch["use"][known])
    assert found["use_accuracy"] == pytest.approx(expected)
    pixels = batch["cover"] != 255
    right = np.asarray(answers["cover_pixels_class"]) == batch["cover"]
    assert found["cover_pixels_accuracy"] == pytest.approx(right[pixels].mean())
    heights = batch["height"].astype(np.float64)
    error = np.abs(np.asarray(answers["height_pixels_value"]) - heights)
    assert found["height_pixels_mae"] == pytest.approx(
      np.nanmean(error), rel=1e-3
    )


@pytest.mark.parametrize("xp", [np, jnp])
def test_scores_of_what_lies_above_a_threshold_are_scikit_learns(xp):
  target = dataclasses.replace(TARGETS["height"], threshold=100.0)
  config = config_lib.default_config()
  config.tasks = ("height:pixels",)
  (task,) = tasks.create_tasks(config, targets={"height": target})
  rng = np.random.default_rng(5)
  truth = rng.normal(100, 30, (30, SIZE, SIZE)).astype(np.float32)
  truth[rng.random(truth.shape) < 0.2] = np.nan
  truth[:2] = np.nan
  answer = rng.normal(100, 30, truth.shape).astype(np.float32)
  table = tasks.compare(
    [task],
    {"height": xp.asarray(truth)},
    {"height_pixels_value": xp.asarray(answer)},
  )
  found = metrics.summarize(
    {k: np.asarray(v) for k, v in table.items()}, task.metrics
  )
  known = np.isfinite(truth)
  y, p = truth[known], answer[known]
  there, positive = y > 100, p > 100
  means = [
    abs(p_[k].mean() - t[k].mean())
    for t, p_, k in zip(truth[2:], answer[2:], known[2:], strict=True)
  ]
  expected = {
    "mae": sklearn.metrics.mean_absolute_error(y, p),
    "mse": sklearn.metrics.mean_squared_error(y, p),
    "r2": sklearn.metrics.r2_score(y, p),
    "mave": np.mean(means),
    "accuracy": sklearn.metrics.accuracy_score(there, positive),
    "precision": sklearn.metrics.precision_score(there, positive),
    "recall": sklearn.metrics.recall_score(there, positive),
    "f1": sklearn.metrics.f1_score(there, positive),
  }
  assert found == pytest.approx(
    {f"height_pixels_{k}": v for k, v in expected.items()}, rel=1e-4
  )


def test_regression_is_standardised_over_the_train_records():
  (task,) = create("height:pixels")
  found = task.initialize(lambda count: make_batch(min(count, 50)))
  values = make_batch(50)["height"].astype(np.float64)
  assert found["offset"] == pytest.approx(np.nanmean(values), rel=1e-3)
  assert found["scale"] == pytest.approx(np.nanstd(values), rel=1e-3)
  with pytest.raises(ValueError, match=r"'height' is unknown in all"):
    task.initialize(lambda count: {"height": np.full((3, 2, 2), np.nan)})


@pytest.mark.parametrize("name", ["use", "tags", "yield", "cover:pixels"])
def test_a_linear_model_that_is_right_scores_best(name):
  (task,) = create(name)
  batch = make_batch()
  truth = np.asarray(task.target(batch))[:5]
  numbers = task.linear.encode(truth)
  answers = task.decode(
    jax.tree.map(jnp.asarray, task.linear.outputs(np.float32(numbers)))
  )
  if name == "use":
    np.testing.assert_array_equal(answers["use_class"], truth)
  elif name == "yield":
    np.testing.assert_allclose(answers["yield_value"], truth, rtol=1e-5)
  elif name == "cover:pixels":
    known = truth != 255
    found = np.asarray(answers["cover_pixels_class"])
    np.testing.assert_array_equal(found[known], truth[known])
    assert not numbers[~known].any()
  else:
    assert ((np.asarray(answers["tags_probs"]) > 0.5) == truth).all()


def test_an_unknown_name_lists_the_targets():
  with pytest.raises(ValueError, match=r"'covr'; .*coords.*use, tags, yield"):
    create("covr")


def test_zero_rows_keeps_the_type_of_classes():
  found = losses.zero_rows(np.array([True, False]), np.array([3, 4], np.uint8))
  assert found.dtype == np.uint8
  assert found.tolist() == [3, 0]
