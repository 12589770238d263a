"""The report at the end of a run: figures, baselines, rows, pictures."""

import pathlib
import time

import jax
import numpy as np

from experiments import figures, page, picture_files, pictures
from geojax import encodings, tasks
from geojax.evaluation import baselines, groups, metrics
from geojax.training import (
  calibrations,
  evaluate,
  logs,
  sharding,
  statistics,
)
from geojax.training import dataset as dataset_lib
from geojax.training import run as run_lib
from geojax.views import plots


def write_report(run: run_lib.Run, workdir: pathlib.Path, split: str) -> None:
  """Evaluates a run: writes figures, rows and pictures, prints the table.

  Of several processes all evaluate, and the first one writes.

  Args:
    run: A trained run.
    workdir: Its folder.
    split: Name of a split.
  """
  clock = _Clock()
  common = (run.config, run.tasks, run.dataset, run.mesh)
  variables = run.state.evaluated
  fitted = evaluate.fit_tasks(*common, variables)
  decoders = [
    name
    for task in run.tasks
    for name in task.on_request
    if name.startswith("place_")
  ]
  table = evaluate.make_table(*common, extra=decoders)(
    variables, split, fitted=fitted
  )
  variables = sharding.on_host(variables, run.mesh)
  if jax.process_index():
    return
  step = int(run.state.step)
  calibrations.save(workdir, step, fitted)
  if note := calibrations.describe_lack(
    calibrations.to_dict(fitted), run.tasks
  ):
    print(note)
  clock.lap("forward passes, decoders and regions")
  compared, train_km = compute_baselines(run.tasks, run.dataset, split, table)
  clock.lap("baselines")
  found = figures.compute(
    table,
    run.tasks,
    fitted,
    train_km,
    temperature=run.config.mixture.temperature,
  )
  clock.lap("figures")
  folder = workdir / "eval" / split
  folder.mkdir(parents=True, exist_ok=True)
  figures.write_json(
    {"step": step, **found, "baselines": compared}, folder / "metrics.json"
  )
  figures.write_predictions(table, train_km, folder / "predictions.parquet")
  reader = pictures.PatchReader(run, variables, split, fitted)
  pictures.draw(run, table, train_km, found, compared, reader, folder)
  # Runs that answer together have their own.
  if lines := logs.read_metrics(workdir):
    curves = plots.training_curves(lines, curve_panels(run.tasks))
    picture_files.write(curves, workdir / "curves.png")
  clock.lap("pictures")
  name = "report.html" if split == "test" else f"report_{split}.html"
  page.write(run, table, found, compared, reader, split, workdir / name)
  clock.lap("report")
  num_land = int(table["is_land"].sum())
  print(f"{split} split, {num_land:,} land patches; {run.described_step}")
  print(closing_table(run.tasks, {"this run": found, **compared}))
  print(clock.read())
  print(f"metrics, predictions and pictures: {folder}; all: {workdir / name}")


class _Clock:
  """Measures what the time goes to."""

  def __init__(self):
    self._start = time.perf_counter()
    self._laps = []

  def lap(self, name):
    now = time.perf_counter()
    self._laps.append(f"{name} {now - self._start:.1f} s")
    self._start = now

  def read(self):
    return "; ".join(self._laps)


def curve_panels(task_list):
  """Chooses the panels of `plots.training_curves`.

  Args:
    task_list: The tasks of a run.

  Returns:
    A tuple of split, names and title per panel: losses, and of each task the
    headline metrics in the unit of its first one.
  """
  names = ("loss", *(task.name for task in task_list))
  panels = [("train", names, "loss, train")]
  for task in task_list:
    shown = [metric for metric in task.metrics if metric.headline]
    if shown:
      unit = shown[0].unit
      names = tuple(m.name for m in shown if m.unit == unit)
      title = f"{task.name}, {unit}" if unit else task.name
      panels.append(("validation", names, f"{title}, validation"))
  return panels


def compute_baselines(
  task_list, dataset: dataset_lib.Dataset, split: str, table: dict
):
  """Computes the three baselines on a split.

  Args:
    task_list: The tasks of a run.
    dataset: A built data set.
    split: Name of a split.
    table: A table of it, for its labels.

  Returns:
    Metrics by name, and `groups` of them, by name of the baseline, none where
    no place is known; and the distance of each record of the split to the
    nearest place of the train sample.
  """
  count = len(table["is_land"])
  train, validation = (
    _with_unknown(statistics.sample(dataset, name))
    for name in ("train", "validation")
  )
  whole = statistics.sample(dataset, split, at_most=count)
  labels = _with_unknown({**table, "bands": whole["bands"]})
  known = encodings.known_rows(train)["coords"]
  if not (known.any() and encodings.known_rows(validation)["coords"].any()):
    return {}, np.full(count, np.nan)
  train_km = groups.distance_to_train_km(
    encodings.coordinates_to_unit(np.float64(labels["coords"])),
    encodings.coordinates_to_unit(np.float64(train["coords"][known])),
  )
  geographic = [task for task in task_list if task.name in encodings.LABELS]
  listed = tasks.all_metrics(geographic)

  def summarize(labels, answers):
    compared = tasks.compare(geographic, labels, answers)
    return lambda mask: metrics.summarize(compared, listed, mask)

  splits = train, validation, labels
  found = {
    "nearest patch": baselines.nearest_patch(*splits, summarize),
    "best constant": baselines.best_constant(*splits, summarize, listed),
    "uniform": baselines.uniform(labels),
  }
  masks = groups.masks(table, train_km)
  names = {"count", *(metric.name for metric in listed)}

  def everywhere(compute):
    def over(mask):
      return {k: v for k, v in compute(mask).items() if k in names}

    by_group = {
      kind: {
        name: over(mask)
        for name, mask in named.items()
        if np.any(mask & table["is_land"])
      }
      for kind, named in masks.items()
    }
    return {**over(None), "groups": by_group}

  return {name: everywhere(over) for name, over in found.items()}, train_km


def _with_unknown(columns):
  """Labels and `bands`; a label that the data set lacks is unknown."""
  count = len(columns["bands"])
  return {
    "bands": columns["bands"],
    **{
      name: columns.get(name, np.full((count, width), np.nan, np.float32))
      for name, width in encodings.LABELS.items()
    },
  }


def closing_table(task_list, columns: dict) -> str:
  """Formats the headline metrics of a run and of the baselines.

  Args:
    task_list: The tasks of the run.
    columns: Metrics by name, by heading of the column.

  Returns:
    Lines of text; a star marks the best of a row.
  """
  listed = [m for m in tasks.all_metrics(task_list) if m.headline]
  width = max((len(metric.title) + 2 for metric in listed), default=0)
  lines = [" " * width + "".join(f"{name:>16}" for name in columns)]
  for metric in listed:
    values = [found.get(metric.name, np.nan) for found in columns.values()]
    if np.all(np.isnan(values)):
      continue
    best = np.nanmax(values) if metric.higher_is_better else np.nanmin(values)
    cells = [
      f"{_number(value)}{'*' if value == best else ' '}" for value in values
    ]
    lines.append(
      f"{metric.title:<{width}}" + "".join(f"{cell:>16}" for cell in cells)
    )
  return "\n".join(lines)


def _number(value):
  if np.isnan(value):
    return "-"
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
