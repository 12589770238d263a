"""Tables of a split: the same whatever batches and devices."""

import jax
import numpy as np
import pytest

from geojax import encodings, tasks
from geojax.evaluation import conformal, metrics
from geojax.tasks import coords
from geojax.training import evaluate, loop, sharding


@pytest.fixture
def run(trained):
  return trained[0]


def _table(run, mesh=None, config=None, **options):
  return evaluate.make_table(
    config or run.config, run.tasks, run.dataset, mesh or run.mesh, **options
  )


def _fitted(temperature):
  return {"coords": {"temperature": np.float32(temperature)}}


def test_one_patch_at_a_time_gives_the_same_table(run):
  variables = run.state.evaluated
  many = _table(run)(variables, "test", fitted=_fitted(2.0))
  temperature = evaluate.fit_tasks(
    run.config, run.tasks, run.dataset, run.mesh, variables
  )["coords"]["temperature"]
  mesh = sharding.local_mesh()
  variables = jax.device_get(variables)
  config = run.config.copy_and_resolve_references()
  config.data.eval_batch_size = 1
  one = _table(run, mesh, config)(variables, "test", fitted=_fitted(2.0))
  count = len(run.dataset.source("test"))
  assert count % 64, "the last batch of many must need padding"
  assert many.keys() == one.keys()
  for name in many:
    assert len(many[name]) == len(one[name]) == count
  listed = tasks.all_metrics(run.tasks)
  expected = metrics.summarize(one, listed)
  for name, value in metrics.summarize(many, listed).items():
    # One point of equal mass more or less may lie inside of a region.
    assert value == pytest.approx(
      expected[name], rel=1e-2, abs=1e-4, nan_ok=True
    ), name
  for name in ("nll_nats", "fitted_nll_nats"):
    np.testing.assert_allclose(many[name], one[name], atol=1e-4)
  for name in ("credible_level", "fitted_credible_level"):
    np.testing.assert_allclose(many[name], one[name], atol=0.02)
  alone = evaluate.fit_tasks(config, run.tasks, run.dataset, mesh, variables)
  assert alone["coords"]["temperature"] == pytest.approx(temperature, rel=1e-3)


def test_some_records_in_their_order(run):
  variables = run.state.evaluated
  whole = _table(run)(variables, "test")
  some = _table(run)(variables, "test", records=[7, 2, 2])
  for name, values in some.items():
    np.testing.assert_allclose(
      np.float64(values), np.float64(whole[name][[7, 2, 2]]), atol=1e-4
    )


def test_training_computes_the_metrics_of_a_report(run):
  """But for those that take long."""
  variables = run.state.evaluated
  found = evaluate.make_evaluate(run.config, run.tasks, run.dataset, run.mesh)(
    variables, "test"
  )
  table = _table(run)(variables, "test")
  listed = tasks.all_metrics(run.tasks)
  expected = metrics.summarize(table, listed)
  assert found.keys() == {m.name for m in listed if not m.final}
  for name, value in found.items():
    assert value == pytest.approx(expected[name], rel=1e-5, nan_ok=True), name


def test_columns_are_those_that_are_asked_for(run):
  variables = run.state.evaluated
  usual = _table(run)(variables, "test", fitted=_fitted(1.5))
  assert not set(usual) & set(run.tasks[0].on_request)
  assert "image" not in usual
  more = _table(run, extra=["place_mode"])(variables, "test")
  assert "place_mode" in more
  alone = _table(run, columns=["logits"])(variables, "test")
  assert alone.keys() == {"logits"}
  # The second temperature is the first.
  for name in ("nll_nats", "credible_level", "area_km2"):
    np.testing.assert_allclose(usual[f"fitted_{name}"], usual[name], rtol=1e-4)


def test_an_evaluation_gives_up_when_asked_to(run):
  assert (
    _table(run)(run.state.evaluated, "test", should_end=lambda: True) is None
  )


def test_the_fitted_temperature_has_the_least_nll(run):
  variables = run.state.evaluated
  found = evaluate.fit_tasks(
    run.config, run.tasks, run.dataset, run.mesh, variables
  )["coords"]
  table_at = _table(run, columns=["fitted_nll_nats", "coords_counts"])

  def nll(temperature):
    table = table_at(variables, "validation", fitted=_fitted(temperature))
    return table["fitted_nll_nats"][table["coords_counts"]].mean()

  best = found["temperature"]
  at_best = nll(best)
  assert at_best <= nll(best / 1.2)
  assert at_best <= nll(best * 1.2) or best >= coords.TEMPERATURES[-1] * 0.99
  tried = int(np.argmin(np.abs(coords.TEMPERATURES - 1.5)))
  assert found["nll_nats"][tried] == pytest.approx(
    nll(coords.TEMPERATURES[tried]), abs=1e-4
  )


def test_levels_are_calibrated_by_blocks(run):
  """On the split that they are fitted to: what is promised is what is found."""
  common = run.config, run.tasks, run.dataset, run.mesh, run.state.evaluated
  fitted = evaluate.fit_tasks(*common)
  table = _table(run)(run.state.evaluated, "validation", fitted=fitted)
  lat_deg, lon_deg = encodings.decode_coordinates(table["coords"])
  block = np.floor(lat_deg / 5) * 100 + np.floor(lon_deg / 5)
  for name, counts in (
    ("credible_level", table["coords_counts"]),
    ("climate_level", table["climate_counts"] & table["is_land"]),
    ("date_level", table["date_counts"]),
  ):
    task = {"credible_level": "coords"}.get(name, name.removesuffix("_level"))
    _, size = np.unique(block[counts], return_counts=True)
    assert fitted[task]["num_blocks"] == len(size) > 1
    raw, level = table[f"raw_{name}"][counts], table[name][counts]
    order = np.argsort(raw)
    assert (np.diff(level[order]) >= 0).all()
    # Some of the weight is left for a block that is like none of these.
    assert level.max() < 1 - 0.5 / (len(size) + 1)
    assert np.abs(level - raw).max() > 0.05
  masses = conformal.model_level(
    np.array([0.5, 0.8, 0.95]), fitted["coords"]["level_knots"]
  )
  bounds = np.interp(masses, [0.5, 0.8, 0.95], [0, 1, 2])
  for i, bound in enumerate(bounds):
    if bound in (0.0, 2.0):
      continue
    low, high = int(np.floor(bound)), int(np.ceil(bound))
    area = table["area_km2"][:, i]
    assert (area >= table["raw_area_km2"][:, low] * 0.999).all()
    assert (area <= table["raw_area_km2"][:, high] * 1.001).all()


def test_a_regression_has_one_place_and_no_density(small_config, tmp_path):
  small_config.loss.coords = "mse"
  small_config.num_steps = small_config.eval_every = 4
  run = loop.train(small_config, tmp_path, progress=False)
  variables = run.state.evaluated
  fitted = evaluate.fit_tasks(
    run.config, run.tasks, run.dataset, run.mesh, variables
  )
  assert fitted.keys() == {"climate", "date"}
  table = _table(run)(variables, "test")
  assert "place" in table
  assert not table.keys() & {"fitted_nll_nats", "credible_level", "nll_nats"}
