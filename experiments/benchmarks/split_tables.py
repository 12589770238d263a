"""Tables of runs over splits, and the paired comparison of configs.

`experiments.benchmarks.splits` trains the runs and prints these.
"""

import pathlib

import numpy as np

from experiments import figures
from geojax import blocks, tasks
from geojax.evaluation import intervals
from geojax.training import config as config_lib
from geojax.training import data_info
from geojax.training import workdir as workdir_lib

_NUM_RESAMPLES = 1000


def read_table(workdir: pathlib.Path, block_deg: float) -> dict:
  """Columns of the test patches of a run, and the `block` of each, `[count]`.

  Args:
    workdir: Folder of the run, or of an ensemble.
    block_deg: Side of the blocks in degrees.
  """
  table = figures.read_predictions(workdir / "eval/test/predictions.parquet")
  place = (table.get(name) for name in ("lat_true", "lon_true"))
  unknown = np.full(len(table["record"]), np.nan)
  lat_deg, lon_deg = (unknown if x is None else x for x in place)
  return table | {"block": blocks.numbers(lat_deg, lon_deg, block_deg)}


def list_metrics(workdir: pathlib.Path) -> list:
  """The metrics of a run's report, and whether each is of raw levels.

  Args:
    workdir: Folder of the run.

  Returns:
    Tuples of a metric and the prefix of its columns: "", or "raw_" of levels
    and areas that are not calibrated.
  """
  config = config_lib.load_config(workdir / workdir_lib.CONFIG_FILE)
  targets = data_info.load(workdir).targets
  found = []
  for metric in tasks.all_metrics(tasks.create_tasks(config, targets=targets)):
    if metric.in_report:
      found.append((metric, ""))
      if "@" in metric.name and metric.final:
        found.append((metric, "raw_"))
  return found


def _read(tables, metric, prefix):
  """Values and blocks of the patches that count; None if a table has none."""
  found = []
  for table in tables:
    columns = {name: table.get(prefix + name) for name in metric.columns}
    if any(column is None for column in columns.values()):
      return None
    read = metric.read({**table, **columns})
    if read is None or not len(read[0]):
      return None
    values, rows = read
    found.append((values, table["block"][rows]))
  return found


def _together(found):
  """Values and blocks of all tables, and the bootstrap's draws."""
  values, block = (np.concatenate(part) for part in zip(*found, strict=True))
  draws = intervals.draw_groups(block, num_resamples=_NUM_RESAMPLES)
  return values, block, draws


def _title(metric, prefix):
  return metric.title + (", not calibrated" if prefix else "")


def describe(variants: dict[str, list], listed, baselines: dict) -> str:
  """Returns a table of the figures of each variant, in Markdown.

  Args:
    variants: By name a table of `read_table` for each split and seed.
    listed: See `list_metrics`.
    baselines: By name `metrics.json`'s of each split.
  """
  lines = ["| | " + " | ".join([*variants, *baselines]) + " |"]
  lines.append("|---" * (1 + len(variants) + len(baselines)) + "|")
  for metric, prefix in listed:
    cells = []
    for tables in variants.values():
      found = _read(tables, metric, prefix)
      if found is None:
        cells.append("")
        continue
      each = np.array([metric.reduction(values) for values, _ in found])
      text = f"{_number(each.mean())} ± {_number(each.std(ddof=1))}"
      if metric.reduction.resampled is not None:
        values, _, draws = _together(found)
        text += f" {_interval(metric.reduction.resampled(values, draws))}"
      cells.append(text)
    for found in baselines.values():
      values = [each.get(metric.name) for each in found]
      known = not prefix and None not in values
      cells.append(_number(np.mean(values)) if known else "")
    if any(cells):
      lines.append(f"| {_title(metric, prefix)} | {' | '.join(cells)} |")
  return "\n".join(lines)


def compare(variants: dict[str, list], listed) -> str:
  """Returns the differences of the others from the first, in Markdown.

  Args:
    variants: See `describe`; the same patches in each.
    listed: See `list_metrics`.

  Raises:
    ValueError: The patches are not the same.
  """
  base, *others = variants
  lines = [
    f"| less {base} | " + " | ".join(others) + " |",
    "|---" * (1 + len(others)) + "|",
  ]
  for metric, prefix in listed:
    theirs = _read(variants[base], metric, prefix)
    cells = []
    for other in others:
      ours = _read(variants[other], metric, prefix)
      if ours is None or theirs is None:
        cells.append("")
      else:
        cells.append(_difference(metric, ours, theirs, f"{other} and {base}"))
    if any(cells):
      lines.append(f"| {_title(metric, prefix)} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _difference(metric, ours, theirs, names):
  sides = ours, theirs
  each = np.subtract(
    *(np.array([metric.reduction(values) for values, _ in x]) for x in sides)
  )
  text = _number(each.mean())
  (values, block, draws), (others, same, _) = map(_together, sides)
  if not np.array_equal(block, same):
    raise ValueError(f"{names} are not of the same patches")
  if metric.reduction.resampled is not None:
    resamples = (metric.reduction.resampled(v, draws) for v in (values, others))
    text += f" {_interval(np.subtract(*resamples))}"
  if metric.higher_is_better is not None:
    wins = each > 0 if metric.higher_is_better else each < 0
    text += f", better in {wins.sum()} of {len(each)}"
  return text


def _interval(resamples):
  low, high = intervals.percentiles(resamples, 0.95)
  return f"[{_number(low)}, {_number(high)}]"


def _number(value):
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
