"""The report of a run: which tables, pictures and patches its page shows."""

import pathlib

import jax
import numpy as np

from data_prep import climate_maps
from experiments import pictures
from geojax import cell_regions, files, metrics, mixture, sphere
from geojax.training import loop
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
  "reliability": "Calibration: accuracy by confidence, coverage by level",
  "confusion": "Climate zones and classes that are taken for each other",
  "days": "Error of the day around the year",
  "centers": "Centers of the mixture and their radii",
  "curves": "Losses and validation's metrics over the steps",
  "examples": "Twelve patches from the smallest to the largest error",
}
_WHERE = (
  ("median_km", "median distance, km"),
  ("mean_km", "mean distance, km"),
  *((f"acc@{km}km", f"share within {km} km") for km in metrics.RADII_KM),
  ("geoscore", "GeoScore, 0 to 5000"),
)
_HEADLINE = (
  *_WHERE,
  ("nll_nats", "nll, nats; 0 is uniform"),
  *(
    (f"coverage@{p}%", f"truths in the {p} % region")
    for p in metrics.REGIONS_PERCENT
  ),
  *(
    (f"area@{p}%_km2", f"median area of the {p} % region, km²")
    for p in metrics.REGIONS_PERCENT
  ),
  ("climate_accuracy", "climate, 31 zones"),
  ("climate_top3", "climate, in the 3 likeliest zones"),
  ("climate_class_accuracy", "climate, 6 classes"),
  ("climate_macro_f1", "climate, macro F1"),
  ("climate_ece", "climate, calibration error"),
  ("date_mae_days", "day of year, mean error, days"),
  ("date_median_days", "day of year, median error, days"),
)
_BY_GROUP = (
  ("count", "patches"),
  ("median_km", "median km"),
  ("acc@750km", "within 750 km"),
  ("nll_nats", "nll, nats"),
  ("climate_accuracy", "zones right"),
  ("date_mae_days", "date, days"),
)
# Of each baseline by group; metrics.json has the others.
_BESIDE_BY_GROUP = "median_km"
_KINDS = {
  "latitude": "By latitude",
  "climate": "By climate class",
  "train_km": "By distance to the nearest train place",
  "month": "By month",
}


def write(
  run: loop.Run,
  variables: dict,
  examined: dict,
  found: dict,
  beside: dict,
  split: str,
  folder: pathlib.Path,
  path: pathlib.Path,
) -> None:
  """Writes report.html.

  Args:
    run: A trained run.
    variables: Its `state.evaluated`, on the host.
    examined: As of `examine.make_examine`.
    found: As of `figures.compute`.
    beside: Metrics by name, by name of the baseline.
    split: Name of the split.
    folder: Where the split's pictures are, but for the curves.
    path: The file, beside the curves.
  """
  shown = [
    ((path.parent if name == "curves" else folder) / f"{name}.png", text)
    for name, text in _CAPTIONS.items()
  ]
  html = report.render(
    title=f"geojax: {path.parent.resolve().name}, {split} split",
    summary=(
      f"{found['count']:,.0f} land patches of {run.config.data.name} at places"
      f" that training never saw, after {int(run.state.step):,} steps."
    ),
    headline=_headline(found, beside),
    tables=[*_decoders(found), *_doubt(found), *_groups(found, beside)],
    pictures=[
      (text, picture.read_bytes())
      for picture, text in shown
      if picture.exists()
    ],
    config=run.config.to_dict(),
    patches=_describe_patches(run, variables, examined, split),
    climate_map=climate_maps.load().zones,
  )
  files.write_text(path, html)


def _headline(found, beside):
  intervals = found["intervals"]
  rows = []
  for key, name in _HEADLINE:
    if key not in found:
      continue
    others = (_number(column.get(key)) for column in beside.values())
    interval = _interval(intervals.get(key))
    rows.append((name, (_number(found[key]), interval, *others)))
  return report.Table(
    title="Over land patches; intervals hold 95 %, drawn by place",
    corner="metric",
    columns=("this run", "95 %", *beside),
    rows=tuple(rows),
  )


def _decoders(found):
  decoders = found.get("decoders")
  if not decoders:
    return
  yield report.Table(
    title="By decoder of the mixture",
    corner="metric",
    columns=tuple(name.replace("_", " ") for name in decoders),
    rows=tuple(
      (name, tuple(_number(decoder[key]) for decoder in decoders.values()))
      for key, name in _WHERE
    ),
  )


def _doubt(found):
  doubt = found.get("doubt")
  if not doubt:
    return
  kinds = doubt["as_configured"], doubt["fitted"]
  names = [key for key in kinds[0] if key != "curve"]
  labels = dict(_HEADLINE) | {
    "coverage_error": "mean gap between coverage and level"
  }
  yield report.Table(
    title="Calibration by temperature, fitted on validation",
    corner="metric",
    columns=(
      f"configured, {doubt['temperature']:.2f}",
      f"fitted, {doubt['fitted_temperature']:.2f}",
    ),
    rows=tuple(
      (labels[key], tuple(_number(kind[key]) for kind in kinds))
      for key in names
    ),
  )


def _groups(found, beside):
  for kind, groups in found["groups"].items():
    yield report.Table(
      title=f"{_KINDS[kind]}; median km with the interval that holds 95 %",
      corner="group",
      columns=(
        *(name for _, name in _BY_GROUP),
        *(f"median km, {baseline}" for baseline in beside),
      ),
      rows=tuple(
        (
          name,
          (
            *(_in_group(group, key) for key, _ in _BY_GROUP),
            *(
              _number(baseline["groups"][kind][name][_BESIDE_BY_GROUP])
              for baseline in beside.values()
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


def _describe_patches(run, variables, examined, split):
  """What the page shows of patches of land, evenly out of all."""
  land = np.flatnonzero(examined["is_land"])
  spread = np.linspace(0, len(land) - 1, min(_NUM_PATCHES, len(land)))
  records = land[np.round(spread).astype(int)]
  flat = {k: v for k, v in examined.items() if isinstance(v, np.ndarray)}
  components = variables["params"]["mixture"]
  cells = sphere.equal_area_grid(report.NUM_CELLS).astype(np.float32)
  draw_map = jax.jit(mixture.probability_map)
  read_closer = pictures.make_read_closer(run, variables, split)
  described = []
  for start in range(0, len(records), _CHUNK):
    chunk = records[start : start + _CHUNK]
    closer = read_closer(chunk)
    cell_levels = None
    if components:
      probability = np.asarray(
        draw_map(closer["logits"], **components, cells=cells), np.float64
      )
      cell_levels = cell_regions.cell_levels(probability)
    for i, record in enumerate(chunk):
      regions = {}
      if components:
        regions = {
          "cell_levels": cell_levels[i],
          "areas_km2": flat["area_km2"][record],
          "true_level": float(flat["credible_level"][record]),
        }
      described.append(
        report.describe_patch(
          record=int(record),
          image=closer["image"][i],
          prediction=pictures.what_was_said(flat, record),
          climate_probs=flat["climate_probs"][record],
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
