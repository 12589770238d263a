"""Runs that answer together: the mean of their answers, at their steps."""

import json
import shutil

import numpy as np
import pytest
import small_runs
from scipy import special

from geojax import encodings, losses, predict
from geojax.training import ensemble, evaluate, loop
from geojax.training import run as run_lib
from geojax.training.errors import CheckpointError, ConfigError

FLOOR = 0.01
# Runs of other seeds, sizes, temperatures and losses.
CHANGES = (
  {"seed": 0, "mixture.temperature": 1.7},
  {"seed": 1, "mixture.num_centers": 20, "loss.coords": "smoothed"},
  {"seed": 2, "mixture.log_kappa": 6.0, "mixture.chunk_size": 5},
)


def make_run(smoke, workdir, changes):
  config = small_runs.small_config(smoke)
  config.optimizer.ema_decay = 0.0
  config.mixture.background = FLOOR
  config.update_from_flattened_dict(changes)
  loop.train(config, workdir, progress=False)
  return workdir


@pytest.fixture(scope="module")
def workdirs(smoke, tmp_path_factory):
  folder = tmp_path_factory.mktemp("ensemble")
  return [
    make_run(smoke, folder / str(i), changes)
    for i, changes in enumerate(CHANGES)
  ]


def table_of(run):
  table = evaluate.make_table(
    run.config, run.tasks, run.dataset, run.mesh, extra=("logits",)
  )
  return table(run.state.evaluated, "test")


def test_its_answers_are_the_means_of_its_runs(workdirs):
  found = table_of(run_lib.of_ensemble(ensemble.restore_all(workdirs)))
  tables = [table_of(run_lib.load(path)) for path in workdirs]
  known = found["coords_counts"]
  log_prob = -np.stack([table["nll_nats"][known] for table in tables])
  np.testing.assert_allclose(
    -found["nll_nats"][known],
    special.logsumexp(log_prob, axis=0) - np.log(3),
    atol=1e-4,
  )
  for name in ("background_weight", "climate_probs", "date_mean"):
    np.testing.assert_allclose(
      found[name], np.mean([t[name] for t in tables], axis=0), atol=1e-5
    )
  assert found["logits"].shape[1] == 16 + 20 + 16 + 1
  assert run_lib.load(workdirs[0]).config.mixture.temperature == 1.7


def test_it_predicts_as_it_is_evaluated(workdirs, tmp_path):
  found = ensemble.restore_all(workdirs[:2])
  ensemble.save(found, tmp_path)
  run = run_lib.load(tmp_path)
  assert run.described_step == "mean of 2 runs"
  table = table_of(run)
  predictor = predict.load(str(tmp_path))
  images = np.stack([record["image"] for record in run.dataset.source("test")])
  prediction = predictor.predict(images)
  true = encodings.coordinates_to_unit(table["coords"])
  known = table["coords_counts"]
  np.testing.assert_allclose(
    losses.relative_nll(prediction.log_prob(true))[known],
    table["nll_nats"][known],
    atol=1e-4,
  )
  np.testing.assert_allclose(prediction.place, table["place"], atol=1e-5)
  for how in ("mean", "product"):
    combined = predictor.combine(predict.sum_up(prediction), how=how)
    assert combined.place.shape == (1, 3)
  with pytest.raises(ConfigError, match="several runs have no features"):
    predictor.features(images)


def test_runs_that_cannot_answer_together_are_named(workdirs, smoke, tmp_path):
  first = workdirs[0]
  with pytest.raises(ConfigError, match="two or more, each of them once"):
    ensemble.restore_all([first, first])
  with pytest.raises(ConfigError, match="none is no workdir of a run"):
    ensemble.restore_all([first, tmp_path / "none"])
  other = make_run(smoke, tmp_path / "other", {"mixture.background": 0.0})
  with pytest.raises(
    ConfigError, match=r"other .*differ in config\.mixture\.background$"
  ):
    ensemble.restore_all([first, other])
  copy = shutil.copytree(first, tmp_path / "copy")
  data = json.loads((copy / "data.json").read_text())
  data["splits_sha256"] = "another draw"
  (copy / "data.json").write_text(json.dumps(data))
  with pytest.raises(ConfigError, match=r"differ in splits_sha256 of data\.js"):
    ensemble.restore_all([first, copy])


def test_its_folder_is_for_these_runs_at_these_steps(workdirs, smoke, tmp_path):
  two = ensemble.restore_all(workdirs[:2])
  with pytest.raises(ConfigError, match="is the workdir of a run"):
    ensemble.save(two, workdirs[2])
  folder = tmp_path / "folder"
  ensemble.save(two, folder)
  ensemble.save(two, folder)
  with pytest.raises(ConfigError, match="other runs answer together"):
    ensemble.save(ensemble.restore_all(workdirs[1:]), folder)
  for load in (run_lib.load, predict.load):
    with pytest.raises(ConfigError, match="give --last with the workdirs"):
      load(folder, last=True)
  saved = json.loads((folder / "ensemble.json").read_text())
  assert [member["step"] for member in saved["members"]] == [6, 6]
  saved["members"][0]["step"] = 5
  (folder / "ensemble.json").write_text(json.dumps(saved))
  with pytest.raises(CheckpointError, match="step 5 is gone from"):
    run_lib.load(folder)
  (folder / "ensemble.json").write_text("{}")
  with pytest.raises(ConfigError, match=r"ensemble\.json is damaged"):
    run_lib.load(folder)
