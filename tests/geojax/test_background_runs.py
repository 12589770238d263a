"""Runs with a background: `config.mixture.background` from training on."""

import numpy as np
import pytest
import small_runs

from geojax import encodings, losses, predict
from geojax.training import evaluate, loop, pipeline

FLOOR = 0.01


def run_config(smoke, **changes):
  config = small_runs.small_config(smoke)
  # Narrow enough for places that no component reaches.
  config.mixture.log_kappa = 8.0
  config.mixture.temperature = 1.7
  config.mixture.background = FLOOR
  # The mean of all steps would still be near the new model.
  config.optimizer.ema_decay = 0.0
  config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope="module")
def run(smoke, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("background")
  return workdir, loop.train(run_config(smoke), workdir, progress=False)


def table_of(run):
  table = evaluate.make_table(
    run.config, run.tasks, run.dataset, run.mesh, extra=("logits",)
  )
  return table(run.state.evaluated, "test")


def test_no_place_costs_more_than_the_floor(run):
  _, trained = run
  table = table_of(trained)
  known = table["coords_counts"]
  weight = table["background_weight"]
  assert table["nll_nats"][known].max() <= -np.log(FLOOR) + 1e-5
  assert weight.min() >= FLOOR
  # Learned: not the same for all patches, and more than in a new model.
  new = FLOOR + (1 - FLOOR) / (1 + np.exp(6))
  assert weight.max() > weight.min() > 1.01 * new


def test_a_run_without_a_background_has_none(run, smoke, tmp_path):
  config = run_config(smoke, **{"mixture.background": 0.0})
  plain = loop.train(config, tmp_path, progress=False)
  table = table_of(plain)
  assert "background_weight" not in table
  assert table["logits"].shape[1] == config.mixture.num_centers
  assert table["nll_nats"][table["coords_counts"]].max() > -np.log(FLOOR)


def test_predictions_have_the_background(run):
  workdir, trained = run
  table = table_of(trained)
  predictor = predict.load(workdir)
  (batch,) = pipeline.eval_batches(
    trained.dataset.source("test"), batch_size=4096
  )
  found = predictor.predict(batch["image"][batch["mask"]])
  assert found.logits.shape[1] == len(found.mu) == len(found.log_kappa) == 17
  true = encodings.coordinates_to_unit(table["coords"])
  known = table["coords_counts"]
  np.testing.assert_allclose(
    losses.relative_nll(found.log_prob(true))[known],
    table["nll_nats"][known],
    atol=1e-4,
  )
  weight = found.columns["background_weight"]
  np.testing.assert_allclose(weight, table["background_weight"], rtol=1e-4)
  maps = found.probability_map(1000)
  assert maps.min() >= 0.99 * weight.min() / 1000
  # Of a tile, it is the mean of its patches' by their land.
  combined = predictor.combine(predict.sum_up(found))
  np.testing.assert_allclose(
    combined.columns["background_weight"],
    np.average(weight, weights=found.land),
    rtol=1e-4,
  )
  assert combined.place.shape == (1, 3)


@pytest.mark.parametrize(
  "changes",
  [
    {"mixture.chunk_size": 5},
    {"parallel": "pmap"},
    {"mixture.chunk_size": 5, "model_devices": 2},
  ],
)
def test_all_ways_to_train_agree(run, smoke, tmp_path, changes):
  _, trained = run
  other = loop.train(run_config(smoke, **changes), tmp_path, progress=False)
  found, expected = table_of(other), table_of(trained)
  for name in ("background_weight", "nll_nats"):
    np.testing.assert_allclose(
      found[name], expected[name], rtol=2e-3, err_msg=name
    )


def test_it_also_bounds_the_smoothed_loss(smoke, tmp_path):
  config = run_config(smoke, **{"loss.coords": "smoothed"})
  table = table_of(loop.train(config, tmp_path, progress=False))
  known = table["coords_counts"]
  assert table["nll_nats"][known].max() <= -np.log(FLOOR) + 1e-5
