"""Evaluation: a split predicted batch by batch, then summed up once."""

import jax
import numpy as np

from geojax import metrics
from geojax.training import pipeline, sharding
from geojax.training import step as step_lib


def make_evaluate(config, dataset, mesh):
  """Makes the function that evaluates a split.

  Args:
    config: The config of a run.
    dataset: A `pipeline.Dataset`.
    mesh: As of `sharding.create_mesh`.

  Returns:
    A function of variables (`TrainState.evaluated`), the name of a split and,
    if it should end early, a function that tells so, asked before each batch:
    it then returns None. It returns the metrics, a dict of floats, and the
    predictions, a dict of arrays with a row a record in the order of the split:
    those of `make_predict_step` and `metrics.per_example`, and `label`.
  """
  predict_step = step_lib.make_predict_step(
    config, offset=dataset.offset, divisor=dataset.divisor
  )

  def predict(variables, batch):
    labels = {name: batch[name] for name in ("label", "mask")}
    return {**predict_step(variables, batch), **labels}

  # Whole on each device: every process sums up what all of them predicted.
  predict = jax.jit(predict, out_shardings=sharding.replicated(mesh))

  def evaluate(variables, split, should_end=lambda: False):
    batch_size = config.data.eval_batch_size
    batches = pipeline.eval_batches(
      dataset.source(split),
      batch_size=batch_size,
      rows=sharding.local_rows(batch_size, mesh),
    )
    rows = []
    for batch in batches:
      if should_end():
        return None
      outputs = predict(variables, sharding.put_batch(batch, mesh))
      outputs = {name: np.asarray(value) for name, value in outputs.items()}
      mask = outputs.pop("mask")
      rows.append({name: value[mask] for name, value in outputs.items()})
    predictions = {
      name: np.concatenate([row[name] for row in rows]) for name in rows[0]
    }
    examples = metrics.per_example(
      predictions["label"],
      place=predictions["place"],
      climate_probs=predictions["climate_probs"],
      day=predictions["day"],
      log_prob=predictions.get("log_prob"),
    )
    return metrics.summarize(examples), {**predictions, **examples}

  return evaluate
