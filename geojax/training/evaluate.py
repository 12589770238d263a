"""Evaluation: a split predicted batch by batch, then summed up once."""

import functools

import jax
import numpy as np

from geojax import metrics
from geojax.training import compilation, pipeline, sharding
from geojax.training import step as step_lib


def make_outputs(step, config, dataset, mesh):
  """Makes the generator of a step's outputs over a split, batch by batch.

  Args:
    step: A pure function of variables, a batch and more, if need be. It returns
      a tree of arrays with a row an example.
    config: The config of a run.
    dataset: A `pipeline.Dataset`.
    mesh: As of `sharding.create_mesh`.

  Returns:
    A generator function of variables (`TrainState.evaluated`), the name of a
    split and the step's further arguments. It yields what the step returns and
    `label`, as NumPy arrays without the rows that fill up a batch, the same in
    every process.
  """

  def labelled(variables, batch, *args):
    labels = {name: batch[name] for name in ("label", "mask")}
    return {**step(variables, batch, *args), **labels}

  # Whole on each device: every process sums up what all of them predicted.
  labelled = jax.jit(
    labelled,
    out_shardings=sharding.replicated(mesh),
    compiler_options=compilation.options(),
  )
  batch_size = config.data.eval_batch_size
  # Opened once: each reader of a split has threads of its own.
  source = functools.cache(dataset.source)

  def to_host(found):
    found = jax.tree.map(np.asarray, found)
    mask = found.pop("mask")
    return jax.tree.map(lambda value: value[mask], found)

  def outputs(variables, split, *args):
    batches = pipeline.eval_batches(
      source(split),
      batch_size=batch_size,
      rows=sharding.local_rows(batch_size, mesh),
    )
    # While the devices predict one batch, the next one is read.
    running = None
    for batch in batches:
      begun = labelled(variables, sharding.put_batch(batch, mesh), *args)
      if running is not None:
        yield to_host(running)
      running = begun
    yield to_host(running)

  return outputs


def make_evaluate(config, dataset, mesh):
  """Makes the function that evaluates a split.

  Args:
    config: The config of a run.
    dataset: A `pipeline.Dataset`.
    mesh: As of `sharding.create_mesh`.

  Returns:
    A function of variables (`TrainState.evaluated`), the name of a split and,
    if it should end early, a function that tells so, asked after each batch:
    it then returns None. It returns the metrics, a dict of floats, and the
    predictions, a dict of arrays with a row a record in the order of the split:
    those of `make_predict_step` and `metrics.per_example`, and `label`.
  """
  predict_step = step_lib.make_predict_step(
    config, offset=dataset.offset, divisor=dataset.divisor
  )
  outputs = make_outputs(predict_step, config, dataset, mesh)

  def evaluate(variables, split, should_end=lambda: False):
    rows = []
    for found in outputs(variables, split):
      if should_end():
        return None
      rows.append(found)
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
