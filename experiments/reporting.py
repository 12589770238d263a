"""The report of a run on a split: metrics beside three baselines, a picture."""

import json
import pathlib

import jax
import numpy as np

from data_prep import earth
from geojax import baselines, encodings, metrics
from geojax.training import logs, loop, pipeline
from geojax.views import plots

# Name in metrics.json, what it is, and whether more is better.
_ROWS = (
  ("median_km", "median distance, km", False),
  ("mean_km", "mean distance, km", False),
  *((f"acc@{km}km", f"share within {km} km", True) for km in metrics.RADII_KM),
  ("geoscore", "GeoScore, 0 to 5000", True),
  ("nll_nats", "nll, nats; 0 is uniform", False),
  ("climate_accuracy", "climate, 31 zones", True),
  ("climate_class_accuracy", "climate, 6 classes", True),
  ("climate_macro_f1", "climate, macro F1", True),
  ("date_mae_days", "day of year, mean error", False),
)


def write_report(run: loop.Run, workdir: pathlib.Path, split: str) -> None:
  """Evaluates a run: writes metrics and a picture, prints the closing table.

  Of several processes all evaluate, and the first one writes.

  Args:
    run: A trained run.
    workdir: Its folder.
    split: Name of a split.
  """
  found, predictions = run.evaluate(run.state.evaluated, split)
  if jax.process_index():
    return
  beside = compute_baselines(run.dataset, split)
  folder = workdir / "eval" / split
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / "metrics.partial"
  partial.write_text(json.dumps({**found, "baselines": beside}, indent=2))
  partial.replace(folder / "metrics.json")
  draw_overview(predictions).savefig(
    folder / "overview.png", dpi=110, bbox_inches="tight"
  )
  plots.training_curves(logs.read_metrics(workdir)).savefig(
    workdir / "curves.png", dpi=110
  )
  print(closing_table(found, beside, split))
  print(f"metrics and picture: {folder}")


def compute_baselines(dataset: pipeline.Dataset, split: str) -> dict:
  """Computes the three baselines on a split.

  Args:
    dataset: A built data set.
    split: Name of a split.

  Returns:
    Metrics by name, by name of the baseline.
  """
  train, validation, test = (
    _band_statistics(dataset, name) for name in ("train", "validation", split)
  )
  return {
    "nearest patch": baselines.nearest_patch(train, validation, test),
    "best constant": baselines.best_constant(train[1], validation[1], test[1]),
    "uniform": baselines.uniform(test[1]),
  }


def _band_statistics(dataset, split):
  """Means and deviations of the bands, and labels, of a split's patches."""
  features, labels = [], []
  for batch in pipeline.eval_batches(dataset.source(split), batch_size=1024):
    mask = batch["mask"]
    features.append(baselines.band_statistics(batch["image"])[mask])
    labels.append(batch["label"][mask])
  return np.concatenate(features), np.concatenate(labels)


def draw_overview(predictions: dict):
  """Draws predictions of `Run.evaluate`: land patches, as the metrics are."""
  land = {
    name: values[predictions["is_land"]] for name, values in predictions.items()
  }
  true = encodings.split_label(land["label"])
  return plots.prediction_overview(
    place_true=encodings.coordinates_to_unit(true["coords"]),
    place_predicted=land["place"],
    zone_true=land["zone_true"],
    zone_predicted=land["zone"],
    day_true=encodings.decode_day_of_year(true["date"]),
    day_predicted=land["day"],
    climate_map=earth.load_climate_map().zones,
  )


def closing_table(found: dict, beside: dict, split: str) -> str:
  """Sets a run's metrics beside the baselines'.

  Args:
    found: Metrics by name.
    beside: Metrics by name, by name of the baseline.
    split: Name of the split.

  Returns:
    Lines of text; a star marks the best of a row.
  """
  columns = {"this run": found, **beside}
  lines = [
    f"{split} split, {found['count']:,.0f} land patches",
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
