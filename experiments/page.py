"""The report of a run: which tables, pictures and patches its page shows."""

import pathlib

import numpy as np

from data_prep import climate_maps
from experiments import pictures
from geojax import encodings, files, tasks
from geojax.tasks import coords_metrics
from geojax.training import run as run_lib
from geojax.views import report

# Under 15 MB with patches of 128 x 128.
_NUM_PATCHES = 400
_CHUNK = 64
_CAPTIONS = {
  "overview": "Where, which climate and when: predicted against true",
  "errors": "Error of each patch, and the worst of them",
  "map_patch": "Where the patch of median error may have been taken",
  "map_tile": "The same for all patches around it together",
  "error_against": "Error against latitude and distance to training",
  "recall": "Truths within the densest areas, against the baselines",
  "reliability": "Calibration: accuracy by confidence, coverage by level",
  "confusion": "Climate zones and classes that are taken for each other",
  "days": "Error of the day around the year",
  "centers": "Centers of the mixture and their radii",
  "curves": "Losses and validation's metrics over the steps",
  "examples": "Twelve patches from the smallest to the largest error",
}
# Columns of the tables by group, where the run has them, with short headings.
_BY_GROUP = {
  "count": "patches",
  "median_km": "median km",
  "acc@750km": "within 750 km",
  "nll_nats": "nll, nats",
  "coverage@80%": "in the 80 % region",
  "climate_accuracy": "zones right",
  "date_mae_days": "date, days",
}
# Of each baseline by group; metrics.json has the others.
_OF_BASELINES = "median_km"
_KINDS = {
  "latitude": "By latitude",
  "climate": "By climate class",
  "train_km": "By distance to the nearest train place",
  "month": "By month",
  "certainty": "By the area of the mixture's own 80 % region",
}


def write(
  run: run_lib.Run,
  table: dict,
  figures: dict,
  baselines: dict,
  reader: pictures.PatchReader,
  split: str,
  path: pathlib.Path,
) -> None:
  """Writes a report as one page.

  Args:
    run: A trained run.
    table: A table of the split.
    figures: See `figures.compute`.
    baselines: Metrics by name, by name of the baseline.
    reader: Of the split.
    split: Name of the split.
    path: The file. The curves are in its folder, the split's other pictures in
      `eval/<split>` below it.
  """
  folder = path.parent / "eval" / split
  shown = [
    ((path.parent if name == "curves" else folder) / f"{name}.png", text)
    for name, text in _CAPTIONS.items()
  ]
  html = report.render(
    title=f"geojax: {files.absolute(path.parent).name}, {split} split",
    summary=(
      f"{table['is_land'].sum():,} land patches of {run.config.data.name} at"
      f" places that training never saw; {run.described_step}."
    ),
    headline=_headline(run, figures, baselines),
    tables=[
      *_decoders(figures),
      *_calibration(figures),
      *_groups(run, figures, baselines),
    ],
    pictures=[
      (text, picture.read_bytes())
      for picture, text in shown
      if picture.exists()
    ],
    config=run.config.to_dict(),
    patches=_describe_patches(table, reader),
    climate_map=climate_maps.load().zones,
  )
  files.write_text(path, html)


def _headline(run, figures, baselines):
  intervals = figures["intervals"]
  rows = []
  for metric in tasks.all_metrics(run.tasks):
    if metric.name in figures and metric.in_report:
      value = _number(figures[metric.name])
      others = (_number(b.get(metric.name)) for b in baselines.values())
      interval = _interval(intervals.get(metric.name))
      rows.append((metric.title, (value, interval, *others)))
  return report.Table(
    title="Over land patches; intervals hold 95 %, drawn by place",
    corner="metric",
    columns=("this run", "95 %", *baselines),
    rows=tuple(rows),
  )


def _decoders(figures):
  decoders = figures.get("decoders")
  if not decoders:
    return
  yield report.Table(
    title="By decoder of the mixture",
    corner="metric",
    columns=tuple(name.replace("_", " ") for name in decoders),
    rows=tuple(
      (
        metric.title,
        tuple(_number(decoder[metric.name]) for decoder in decoders.values()),
      )
      for metric in coords_metrics.METRICS
      if metric.name in next(iter(decoders.values()))
    ),
  )


def _calibration(figures):
  found = figures.get("calibration")
  if not found:
    return
  names = pictures.calibration_titles(found)
  titles = {
    metric.name: metric.title for metric in coords_metrics.DENSITY_METRICS
  }
  titles["coverage_error"] = "mean gap between coverage and level"
  yield report.Table(
    title="Credible levels, calibrated and the mixture's own",
    corner="metric",
    columns=tuple(names.values()),
    rows=tuple(
      (title, tuple(_number(found[kind][name]) for kind in names))
      for name, title in titles.items()
    ),
  )


def _groups(run, figures, baselines):
  headings = {
    name: heading for name, heading in _BY_GROUP.items() if name in figures
  } | {
    metric.name: metric.title
    for task in run.tasks
    if task.name not in encodings.LABELS
    for metric in task.metrics
    if metric.headline
  }
  for kind, groups in figures["groups"].items():
    yield report.Table(
      title=f"{_KINDS[kind]}; median km with the interval that holds 95 %",
      corner="group",
      columns=(
        *headings.values(),
        *(f"median km, {baseline}" for baseline in baselines),
      ),
      rows=tuple(
        (
          name,
          (
            *(_in_group(group, key) for key in headings),
            *(
              _number(baseline["groups"][kind][name].get(_OF_BASELINES))
              for baseline in baselines.values()
            ),
          ),
        )
        for name, group in groups.items()
      ),
    )


def _in_group(group, key):
  text = _number(group.get(key), whole=key == "count")
  if key == "median_km":
    text += f" [{_interval(group['intervals'][key])}]"
  return text


def _describe_patches(table, reader):
  """What the page shows of patches of land, evenly out of all."""
  if not pictures.shows_patches(table):
    return []
  counts = table["coords_counts"] & table["date_counts"]
  land = np.flatnonzero(counts & table["climate_counts"])
  spread = np.linspace(0, len(land) - 1, min(_NUM_PATCHES, len(land)))
  records = land[np.round(spread).astype(int)]
  described = []
  for start in range(0, len(records), _CHUNK):
    chunk = records[start : start + _CHUNK]
    images = reader.images(chunk)
    levels = None
    if reader.mixture:
      levels = reader.cell_levels(reader.logits(chunk), report.NUM_CELLS)
    for i, record in enumerate(chunk):
      regions = {}
      if levels is not None:
        regions = {
          "cell_levels": levels[i],
          "areas_km2": table["area_km2"][record],
          "true_level": float(table["credible_level"][record]),
        }
      described.append(
        report.describe_patch(
          record=int(record),
          image=images[i],
          prediction=pictures.describe(table, record),
          climate_probs=table["climate_probs"][record],
          **regions,
        )
      )
  return described


def _interval(pair):
  if pair is None or not np.all(np.isfinite(pair)):
    return ""
  return f"{_number(pair[0])} to {_number(pair[1])}"


def _number(value, *, whole=False):
  if value is None or not np.isfinite(value):
    return "-"
  if abs(value) >= 1e5 and not whole:
    value = float(f"{value:.3g}")
  return f"{value:,.0f}" if whole or abs(value) >= 100 else f"{value:.3f}"
