"""What a run ends in: figures beside three baselines, rows, pictures."""

import pathlib
import time

import jax
import numpy as np

from experiments import figures, page, pictures
from geojax import baselines, encodings, groups
from geojax.training import examine, logs, loop, pipeline, sharding
from geojax.views import plots

# metrics.json has more radii than a terminal has lines.
_TABLE_KM = (1, 25, 200, 750, 2500)

# Name in metrics.json, what it is, and whether more is better.
_ROWS = (
  ("median_km", "median distance, km", False),
  ("mean_km", "mean distance, km", False),
  *((f"acc@{km}km", f"share within {km} km", True) for km in _TABLE_KM),
  ("geoscore", "GeoScore, 0 to 5000", True),
  ("nll_nats", "nll, nats; 0 is uniform", False),
  ("climate_accuracy", "climate, 31 zones", True),
  ("climate_class_accuracy", "climate, 6 classes", True),
  ("climate_macro_f1", "climate, macro F1", True),
  ("date_mae_days", "day of year, mean error", False),
)


def write_report(run: loop.Run, workdir: pathlib.Path, split: str) -> None:
  """Evaluates a run: writes figures, rows and pictures, prints the table.

  Of several processes all evaluate, and the first one writes.

  Args:
    run: A trained run.
    workdir: Its folder.
    split: Name of a split.
  """
  clock = _Clock()
  mesh = sharding.create_mesh(run.config.model_devices)
  variables = run.state.evaluated
  temperature, by_temperature = examine.fit_temperature(
    run.config, run.dataset, mesh, variables
  )
  examined = examine.make_examine(run.config, run.dataset, mesh)(
    variables, split, temperature
  )
  variables = sharding.on_host(variables, mesh)
  if jax.process_index():
    return
  clock.lap("forward passes, decoders and regions")
  beside, train_km = compute_baselines(run.dataset, split)
  clock.lap("baselines")
  found = figures.compute(examined, train_km)
  if temperature is not None:
    found["doubt"]["temperature"] = run.config.mixture.temperature
    found["doubt"]["fitted_temperature"] = temperature
    found["doubt"]["validation_nll_nats"] = by_temperature
  clock.lap("figures")
  folder = workdir / "eval" / split
  folder.mkdir(parents=True, exist_ok=True)
  step = int(run.state.step)
  figures.write_json(
    {"step": step, **found, "baselines": beside}, folder / "metrics.json"
  )
  figures.write_predictions(examined, train_km, folder / "predictions.parquet")
  pictures.draw(run, variables, examined, train_km, found, split, folder)
  plots.training_curves(logs.read_metrics(workdir)).savefig(
    workdir / "curves.png", dpi=110
  )
  clock.lap("pictures")
  name = "report.html" if split == "test" else f"report_{split}.html"
  path = workdir / name
  page.write(run, variables, examined, found, beside, split, folder, path)
  clock.lap("report")
  print(closing_table(found, beside, split, run.described_step))
  print(clock.read())
  print(f"metrics, predictions and pictures: {folder}; all of it: {path}")


class _Clock:
  """Says what the time went to."""

  def __init__(self):
    self._start = time.perf_counter()
    self._laps = []

  def lap(self, name):
    now = time.perf_counter()
    self._laps.append(f"{name} {now - self._start:.1f} s")
    self._start = now

  def read(self):
    return "; ".join(self._laps)


def compute_baselines(dataset: pipeline.Dataset, split: str):
  """Computes the three baselines on a split.

  Args:
    dataset: A built data set.
    split: Name of a split.

  Returns:
    Metrics by name, and `groups` of them, by name of the baseline; and the
    distance of each record of the split to the nearest train place on land.
  """
  train, validation, test = (
    _band_statistics(dataset, name) for name in ("train", "validation", split)
  )
  is_sea = encodings.is_sea_patch(train[1][:, encodings.CLIMATE])
  train_km = groups.distance_to_train_km(
    _places(test[1]), _places(train[1][~is_sea])
  )
  masks = groups.masks(test[1], train_km)
  return {
    "nearest patch": baselines.nearest_patch(train, validation, test, masks),
    "best constant": baselines.best_constant(
      train[1], validation[1], test[1], masks
    ),
    "uniform": baselines.uniform(test[1], masks),
  }, train_km


def _places(labels):
  return encodings.coordinates_to_unit(labels[:, encodings.COORDS])


def _band_statistics(dataset, split):
  """Means and deviations of the bands, and labels, of a split's patches."""
  features, labels = [], []
  for batch in pipeline.eval_batches(dataset.source(split), batch_size=1024):
    mask = batch["mask"]
    features.append(baselines.band_statistics(batch["image"])[mask])
    labels.append(batch["label"][mask])
  return np.concatenate(features), np.concatenate(labels)


def closing_table(found: dict, beside: dict, split: str, step: str) -> str:
  """Sets a run's metrics beside the baselines'.

  Args:
    found: Metrics by name.
    beside: Metrics by name, by name of the baseline.
    split: Name of the split.
    step: Which checkpoint it is, in words.

  Returns:
    Lines of text; a star marks the best of a row.
  """
  columns = {"this run": found, **beside}
  lines = [
    f"{split} split, {found['count']:,.0f} land patches; {step}",
    f"{'':<26}" + "".join(f"{name:>16}" for name in columns),
  ]
  for key, name, more_is_better in _ROWS:
    values = [column.get(key, np.nan) for column in columns.values()]
    if np.all(np.isnan(values)):
      continue
    best = np.nanmax(values) if more_is_better else np.nanmin(values)
    cells = [
      f"{_number(value)}{'*' if value == best else ' '}" for value in values
    ]
    lines.append(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))
  return "\n".join(lines)


def _number(value):
  if np.isnan(value):
    return "-"
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
