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
    A function of variables (`TrainState.evaluated`) and the name of a split.
    It returns the metrics, a dict of floats, and the predictions, a dict of
    arrays with a row a record in the order of the split: those of
    `make_predict_step` and `metrics.per_example`, and `label`.
  """
  predict_step = jax.jit(
    step_lib.make_predict_step(
      config, offset=dataset.offset, divisor=dataset.divisor
    )
  )

  def evaluate(variables, split):
    batches = pipeline.eval_batches(
      dataset.source(split), batch_size=config.data.eval_batch_size
    )
    rows = []
    for batch in batches:
      mask = batch.pop("mask")
      outputs = predict_step(variables, sharding.put_batch(batch, mesh))
      outputs = {**outputs, "label": batch["label"]}
      rows.append({k: np.asarray(v)[mask] for k, v in outputs.items()})
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
