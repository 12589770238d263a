"""A trained run as a function: as training saw patches, or not at all."""

import json
import shutil

import jax
import numpy as np
import pytest
import small_runs
from prediction_samples import make_prediction

from geojax import cell_regions, encodings, losses, mixture, predict, sphere
from geojax.training import (
  calibrations,
  data_info,
  evaluate,
  loop,
  pipeline,
  sharding,
)
from geojax.training.errors import ConfigError, DatasetError


@pytest.fixture(scope="module", autouse=True)
def two_devices():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "create_mesh", small_runs.two_device_mesh)
    yield


def small_config(smoke, coords="mvmf"):
  config = small_runs.small_config(smoke)
  config.loss.coords = coords
  config.mixture.temperature = 1.7
  return config


@pytest.fixture(scope="module")
def trained(smoke, tmp_path_factory):
  """Workdirs of two runs, and their own tables of test."""
  runs = {}
  for coords in ("mvmf", "mse"):
    workdir = tmp_path_factory.mktemp(coords)
    run = loop.train(small_config(smoke, coords), workdir, progress=False)
    table = evaluate.make_table(
      run.config, run.tasks, run.dataset, run.mesh, extra=("logits",)
    )
    runs[coords] = workdir, run, table(run.state.evaluated, "test")
  return runs


@pytest.fixture(scope="module")
def predictor(trained):
  return predict.load(trained["mvmf"][0])


def patches_of(run, count=None):
  (batch,) = pipeline.eval_batches(run.dataset.source("test"), batch_size=4096)
  return batch["image"][batch["mask"]][:count]


@pytest.mark.parametrize("coords", ["mvmf", "mse"])
def test_it_says_what_evaluation_says(trained, coords):
  workdir, run, expected = trained[coords]
  found = predict.load(workdir).predict(patches_of(run))
  # The median is flat where it is least: rounding moves it by up to a km.
  np.testing.assert_allclose(found.place, expected["place"], atol=2e-4)
  np.testing.assert_allclose(
    found.climate_probs, expected["climate_probs"], atol=1e-6
  )
  np.testing.assert_allclose(found.day, expected["day"], atol=1e-3)
  if coords == "mse":
    with pytest.raises(ValueError, match="predicts no density"):
      found.log_prob(expected["place"])
    return
  true = encodings.coordinates_to_unit(expected["coords"])
  np.testing.assert_allclose(
    losses.relative_nll(found.log_prob(true)), expected["nll_nats"], atol=1e-5
  )
  np.testing.assert_array_equal(
    found.credible_level(true),
    mixture.credible_level(true, found.logits, found.mu, found.log_kappa),
  )


def test_it_serves_calibrated_levels(trained, tmp_path, capsys):
  workdir, run, _ = trained["mvmf"]
  moved = tmp_path / "moved"
  shutil.copytree(workdir, moved)
  common = run.config, run.tasks, run.dataset, run.mesh
  fitted = evaluate.fit_tasks(*common, run.state.evaluated)
  table = evaluate.make_table(*common)(
    run.state.evaluated, "test", fitted=fitted
  )
  # Those of another step are not for this one.
  calibrations.save(moved, int(run.state.step) + 1, fitted)
  raw = predict.load(moved).predict(patches_of(run))
  assert "was not evaluated; experiments/evaluate" in capsys.readouterr().err
  assert not raw.level_knots
  calibrations.save(moved, int(run.state.step), fitted)
  predictor = predict.load(moved)
  assert not capsys.readouterr().err
  found = predictor.predict(patches_of(run))
  known = table["coords_counts"]
  true = encodings.coordinates_to_unit(table["coords"])
  level = found.credible_level(true)
  np.testing.assert_allclose(
    level[known], table["credible_level"][known], atol=1e-3
  )
  assert np.abs(level - raw.credible_level(true))[known].max() > 0.02
  zone = table["climate"].argmax(axis=1)
  held = found.climate_sets(0.9)
  np.testing.assert_array_equal(held.sum(axis=1), table["climate_set_size"])
  rows = table["climate_counts"]
  np.testing.assert_array_equal(
    held[np.arange(len(zone)), zone][rows],
    (table["climate_level"] <= 0.9)[rows],
  )
  np.testing.assert_allclose(
    2 * found.day_spread((0.8,))[:, 0],
    table["date_arc_days"],
    rtol=1e-3,
    atol=1e-3,
  )
  areas = found.credible_area_km2((0.8,), num_cells=2**14)[:, 0]
  assert np.median(areas / table["area_km2"][:, 1]) == pytest.approx(1, abs=0.1)
  levels = cell_regions.cell_levels(found.probability_map(2**14))
  inside = found.calibrated_level("coords", levels) < 0.8
  assert np.abs(inside.mean(axis=1) * 510e6 / areas - 1).max() < 0.05
  # A tile's are calibrated as its patches', but for those of a product.
  sums = predict.sum_up(found)
  assert predictor.combine(sums).level_knots.keys() == fitted.keys()
  assert not predictor.combine(sums, how="product").level_knots


def test_it_needs_the_workdir_alone(predictor, trained, tmp_path):
  workdir, run, _ = trained["mvmf"]
  moved = tmp_path / "moved"
  shutil.copytree(workdir, moved)
  config = json.loads((moved / "config.json").read_text())
  config["data"]["dir"] = "/nowhere"
  (moved / "config.json").write_text(json.dumps(config))
  patches = patches_of(run, 3)
  np.testing.assert_array_equal(
    predict.load(moved).predict(patches).logits,
    predictor.predict(patches).logits,
  )


def test_batches_change_nothing(predictor, trained):
  workdir, run, _ = trained["mvmf"]
  patches = patches_of(run, 13)
  whole = predictor.predict(patches)
  # Rounded up to the two devices.
  small = predict.load(workdir, batch_size=3)
  assert small.batch_size == 4
  found = small.predict(patches)
  for name in ("place", "climate_probs", "date_mean", "logits"):
    np.testing.assert_allclose(
      found.columns[name], whole.columns[name], atol=1e-4
    )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda x: x[..., :4], "red green blue altitude turbidity"),
    (lambda x: x[:, :16], r"\[n, 32, 32, 5\]"),
    (lambda x: x[0], r"found \[32, 32, 5\]"),
    (lambda x: x.astype(np.float32), "raw int16.*float32"),
    (lambda x: x[:0], "no patch"),
  ],
)
def test_what_training_never_saw_is_refused(
  predictor, trained, change, message
):
  with pytest.raises(ValueError, match=message):
    predictor.predict(change(patches_of(trained["mvmf"][1], 3)))


def test_a_workdir_that_does_not_tell_the_scale_is_refused(trained, tmp_path):
  workdir, _, _ = trained["mvmf"]
  shutil.copytree(workdir, tmp_path / "old")
  (tmp_path / "old/data.json").unlink()
  with pytest.raises(ConfigError, match="command that trained the run"):
    predict.load(tmp_path / "old")
  with pytest.raises(ConfigError, match="no workdir"):
    predict.load(tmp_path)


def test_the_command_that_trained_writes_the_scale(smoke, trained, tmp_path):
  workdir, run, _ = trained["mvmf"]
  old = tmp_path / "old"
  shutil.copytree(workdir, old)
  (old / "data.json").unlink()
  loop.train(small_config(smoke), old, progress=False)
  info = data_info.load(old)
  assert info == data_info.load(workdir)
  assert info.bands == run.dataset.bands
  np.testing.assert_array_equal(info.offset, run.dataset.offset)
  np.testing.assert_array_equal(info.divisor, run.dataset.divisor)


def test_a_run_does_not_go_on_with_records_of_another_scale(
  smoke, trained, tmp_path
):
  workdir, _, _ = trained["mvmf"]
  other = tmp_path / "other"
  shutil.copytree(workdir, other)
  info = json.loads((other / "data.json").read_text())
  info["scale"][0] = [0, 255]
  (other / "data.json").write_text(json.dumps(info))
  with pytest.raises(DatasetError, match="scale differ"):
    loop.train(small_config(smoke), other, progress=False)


def test_the_mean_is_that_of_the_densities(predictor, trained):
  patches = predictor.predict(patches_of(trained["mvmf"][1], 7))
  tile = predictor.combine(predict.sum_up(patches))
  x = sphere.equal_area_grid(20).astype(np.float32)
  land = 1 - patches.climate_probs[:, 0]
  for point in x:
    density = np.exp(patches.log_prob(np.tile(point, (7, 1))))
    expected = np.sum(land * density) / np.sum(land)
    np.testing.assert_allclose(
      np.exp(tile.log_prob(point[None])), [expected], rtol=1e-4
    )
  np.testing.assert_allclose(
    tile.climate_probs[0], patches.climate_probs.mean(axis=0), atol=1e-6
  )


def test_the_product_is_that_of_the_weights(predictor):
  sums = predict.sum_up(make_prediction())
  weights = np.exp(jax.nn.log_softmax(make_prediction().logits))
  for worth in (1.0, 5.0):
    tile = predictor.combine(sums, how="product", num_independent=worth)
    expected = np.prod(weights, axis=0) ** (worth / 5)
    np.testing.assert_allclose(
      jax.nn.softmax(tile.logits[0]), expected / expected.sum(), rtol=1e-4
    )


@pytest.mark.parametrize("how", ["mean", "product"])
def test_a_tile_of_one_patch_is_that_patch(trained, how):
  for coords in ("mvmf", "mse"):
    workdir, run, _ = trained[coords]
    predictor = predict.load(workdir)
    patch = predictor.predict(patches_of(run, 1))
    tile = predictor.combine(predict.sum_up(patch), how=how)
    for name in ("place", "climate_probs", "date_mean"):
      np.testing.assert_allclose(
        tile.columns[name], patch.columns[name], atol=1e-5
      )


def test_open_sea_says_neither_where_nor_when(predictor):
  land, sea = (
    make_prediction(5),
    make_prediction(5, sea=1.0, seed=1),
  )
  alone = predictor.combine(predict.sum_up(land))
  both = predictor.combine(predict.sum_up(land) + predict.sum_up(sea))
  np.testing.assert_allclose(both.place, alone.place, atol=1e-3)
  np.testing.assert_allclose(both.day, alone.day, atol=1e-3)
  np.testing.assert_allclose(both.climate_probs[0, 0], 0.5)
  # Sea alone still has an answer.
  assert np.isfinite(predictor.combine(predict.sum_up(sea)).place).all()


def test_combine_refuses_what_it_does_not_know(predictor):
  sums = predict.sum_up(make_prediction())
  with pytest.raises(ValueError, match="mean or product"):
    predictor.combine(sums, how="median")
  with pytest.raises(ValueError, match="num_independent"):
    predictor.combine(sums, how="product", num_independent=0)


def test_a_run_of_one_task_predicts_it_alone(smoke, tmp_path):
  config = small_config(smoke)
  config.tasks = ("date",)
  run = loop.train(config, tmp_path, progress=False)
  found = predict.load(tmp_path).predict(patches_of(run, 3))
  assert found.day.shape == (3,)
  np.testing.assert_array_equal(found.land, 1)
  with pytest.raises(ValueError, match="no task 'climate'"):
    found.climate_probs  # noqa: B018
  tile = predict.load(tmp_path).combine(predict.sum_up(found))
  np.testing.assert_allclose(
    tile.columns["date_mean"][0], found.columns["date_mean"].mean(axis=0)
  )
