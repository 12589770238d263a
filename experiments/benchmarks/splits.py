"""Figures that hold over splits: configs trained on several draws of blocks.

  python -m experiments.benchmarks.splits --folder=DIR \
    [--variant="smoothed: --config.loss.coords=smoothed" ...]

One draw of the blocks that are held out says little: of some 70 test blocks the
share of patches within 750 km is 0.21 to 0.37 between three draws. This builds
the sample data set with `--num_splits` draws, trains the base config and each
variant on every draw (and on `--num_seeds` seeds), and prints, in Markdown,

- of each config the mean over the splits, their standard deviation, and the
  interval of all test patches together, which holds 95 % by bootstrap over
  blocks;
- of each variant the differences from the base config, of the same patches,
  with their intervals and the number of runs in which it is better.

What is done already is not done again, and a run that was stopped goes on.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq

from geojax import blocks
from geojax.evaluation import intervals, reductions

_ROOT = pathlib.Path(__file__).parents[2]
BASE = "base"
# Blocks of the bootstrap: those of the sample's splits.
_BLOCK_DEG = 5.0
_NUM_RESAMPLES = 1000
_ON_LAND, _OF_CLIMATE, _OF_DATE = (
  ("coords_counts",),
  ("climate_counts", "is_land"),
  ("date_counts",),
)


_MEAN, _MEDIAN = reductions.Mean(), reductions.Median()


@dataclasses.dataclass(frozen=True)
class Figure:
  """A row of the tables.

  Attributes:
    title: What it is.
    column: The column of a run's test patches that it reads.
    where: Boolean columns; a patch counts where all of them hold.
    limit: Where given, the share of values of at most that is meant.
    reduction: From the values to a figure.
    is_higher_better: None if neither is.
    baseline: Its name in the baselines of metrics.json, "" if they have none.
  """

  title: str
  column: str
  where: tuple[str, ...] = _ON_LAND
  limit: float | None = None
  reduction: Callable = _MEAN
  is_higher_better: bool | None = False
  baseline: str = ""

  def read(self, tables):
    """Returns values and blocks of the patches that count, of all tables."""
    parts = []
    for table in tables:
      counts = np.logical_and.reduce([table[name] for name in self.where])
      values = table[self.column][counts]
      if self.limit is not None:
        values = values <= self.limit
      parts.append((values, table["block"][counts]))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]

  def of_each(self, tables):
    """Returns the figure of each table, `[tables]`."""
    return np.array([self.reduction(self.read([t])[0]) for t in tables])


FIGURES = (
  Figure("median km", "distance_km", reduction=_MEDIAN, baseline="median_km"),
  Figure(
    *("within 750 km", "distance_km"),
    limit=750,
    is_higher_better=True,
    baseline="acc@750km",
  ),
  Figure("nll, nats", "nll_nats", baseline="nll_nats"),
  Figure(
    *("within the densest 10^6 km²", "denser_km2"),
    limit=1e6,
    is_higher_better=True,
    baseline="recall@10^6_km2",
  ),
  *(
    Figure(
      f"truths in the {percent} % region{suffix}",
      f"{prefix}credible_level",
      limit=percent / 100,
      is_higher_better=None,
    )
    for prefix, suffix in (("", ""), ("raw_", ", not calibrated"))
    for percent in (50, 80, 95)
  ),
  *(
    Figure(
      f"median area of the {percent} % region, km²",
      f"area_{percent}_km2",
      reduction=_MEDIAN,
    )
    for percent in (50, 80, 95)
  ),
  Figure(
    *("climate, zones right", "zone_is_right", _OF_CLIMATE),
    is_higher_better=True,
    baseline="climate_accuracy",
  ),
  Figure(
    *("true zone in the 90 % set", "climate_level", _OF_CLIMATE),
    limit=0.9,
    is_higher_better=None,
  ),
  Figure("zones in the 90 % set", "climate_set_size", _OF_CLIMATE),
  Figure(
    *("day, mean error", "date_error_days", _OF_DATE),
    baseline="date_mae_days",
  ),
  Figure(
    *("true day in the 80 % arc", "date_level", _OF_DATE),
    limit=0.8,
    is_higher_better=None,
  ),
  Figure("days of the 80 % arc", "date_arc_days", _OF_DATE),
)


def _run(*words):
  print(*words, flush=True)
  subprocess.run([sys.executable, *words], cwd=_ROOT, check=True)


def train(
  folder: pathlib.Path,
  variants: dict[str, list[str]],
  *,
  num_splits: int = 5,
  num_seeds: int = 1,
  config: str = "experiments/configs/base.py",
  data: str = "earth",
) -> None:
  """Builds the data sets and trains all variants, as far as they are missing.

  Args:
    folder: Folder of data and runs.
    variants: Flags of main.py by name.
    num_splits: Draws of the blocks.
    num_seeds: Seeds of each training.
    config: The config.
    data: What `data_prep.build` builds.
  """
  for split in range(num_splits):
    name = f"{data}_{split}"
    if not list((folder / "data/geo_tiles").glob(f"{name}/*/metadata.json")):
      _run(
        *("-m", "data_prep.build", f"--config={data}"),
        *(f"--name={name}", f"--split_seed={split}"),
        f"--output={folder / 'data'}",
      )
    for variant, words in variants.items():
      for seed in range(num_seeds):
        workdir = run_folder(folder, variant, split, seed)
        if not (workdir / "eval/test/metrics.json").exists():
          _run(
            *("experiments/main.py", f"--config={config}", *words),
            *(f"--config.seed={seed}", f"--workdir={workdir}"),
            f"--config.data.dir={folder / 'data'}",
            f"--config.data.name=geo_tiles/{name}",
          )


def run_folder(folder, variant: str, split: int, seed: int) -> pathlib.Path:
  """The workdir of a run."""
  return folder / "runs" / variant / f"{split}_{seed}"


def read_table(workdir: pathlib.Path) -> dict:
  """Columns of the test patches of a run, each `[count]`."""
  found = pq.read_table(workdir / "eval/test/predictions.parquet")
  table = {
    name: found[name].to_numpy()
    for name in found.column_names
    if name != "zone_probabilities"
  }
  table["zone_is_right"] = table["zone_true"] == table["zone_predicted"]
  rows, cols = blocks.of_places(
    np.nan_to_num(table["lat_true"]),
    np.nan_to_num(table["lon_true"]),
    _BLOCK_DEG,
  )
  table["block"] = rows * 1000 + cols
  return table


def describe(variants: dict[str, list], baselines: dict) -> str:
  """Returns a table of the figures of each variant, in Markdown.

  Args:
    variants: By name a table of `read_table` for each split and seed.
    baselines: By name `metrics.json`'s of each split.
  """
  lines = ["| | " + " | ".join([*variants, *baselines]) + " |"]
  lines.append("|---" * (1 + len(variants) + len(baselines)) + "|")
  for figure in FIGURES:
    cells = []
    for tables in variants.values():
      each = figure.of_each(tables)
      values, block = figure.read(tables)
      draws = intervals.draw_groups(block, num_resamples=_NUM_RESAMPLES)
      resamples = figure.reduction.resampled(values, draws)
      cells.append(
        f"{_number(each.mean())} ± {_number(each.std(ddof=1))}"
        f" {_interval(resamples)}"
      )
    for found in baselines.values():
      values = [each[figure.baseline] for each in found if figure.baseline]
      cells.append(_number(np.mean(values)) if values else "")
    lines.append(f"| {figure.title} | {' | '.join(cells)} |")
  return "\n".join(lines)


def compare(variants: dict[str, list]) -> str:
  """Returns the differences of the others from the first, in Markdown.

  Args:
    variants: See `describe`; the same patches in each.
  """
  base, *others = variants
  lines = [
    f"| less {base} | " + " | ".join(others) + " |",
    "|---" * (1 + len(others)) + "|",
  ]
  for figure in FIGURES:
    cells = []
    for other in others:
      sides = variants[other], variants[base]
      each = np.subtract(*map(figure.of_each, sides))
      (ours, block), (theirs, same) = map(figure.read, sides)
      if not np.array_equal(block, same):
        raise ValueError(f"{other} and {base} are not of the same patches")
      draws = intervals.draw_groups(block, num_resamples=_NUM_RESAMPLES)
      resamples = np.subtract(
        *(figure.reduction.resampled(v, draws) for v in (ours, theirs))
      )
      text = f"{_number(each.mean())} {_interval(resamples)}"
      if figure.is_higher_better is not None:
        wins = each > 0 if figure.is_higher_better else each < 0
        text += f", better in {wins.sum()} of {len(each)}"
      cells.append(text)
    lines.append(f"| {figure.title} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _interval(resamples):
  low, high = intervals.percentiles(resamples, 0.95)
  return f"[{_number(low)}, {_number(high)}]"


def _number(value):
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def parse_variants(texts) -> dict[str, list[str]]:
  """Flags of main.py by name, of texts `NAME: FLAGS`; the base config first.

  Raises:
    ValueError: A text has no name.
  """
  variants = {BASE: []}
  for text in texts:
    name, found, words = text.partition(":")
    if not found or not name.strip() or name.startswith("-"):
      raise ValueError(f"--variant must be NAME: FLAGS; got {text!r}")
    variants[name.strip()] = words.split()
  return variants


def main():
  """Trains, and prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--folder", required=True, help="folder to write to")
  parser.add_argument("--num_splits", type=int, default=5)
  parser.add_argument("--num_seeds", type=int, default=1)
  parser.add_argument("--config", default="experiments/configs/base.py")
  parser.add_argument("--data", default="earth", help="what is built")
  parser.add_argument(
    "--variant", action="append", default=[], help="NAME: FLAGS of main.py"
  )
  args = parser.parse_args()
  if args.num_splits < 2:
    parser.error("--num_splits must be at least 2: it is a spread")
  try:
    variants = parse_variants(args.variant)
  except ValueError as error:
    parser.error(str(error))
  folder = pathlib.Path(args.folder).resolve()
  options = {
    name: getattr(args, name)
    for name in ("num_splits", "num_seeds", "config", "data")
  }
  train(folder, variants, **options)
  runs = [
    (split, seed)
    for split in range(args.num_splits)
    for seed in range(args.num_seeds)
  ]
  tables = {
    name: [read_table(run_folder(folder, name, *run)) for run in runs]
    for name in variants
  }
  of_base = [
    json.loads(
      (run_folder(folder, BASE, *run) / "eval/test/metrics.json").read_text()
    )["baselines"]
    for run in runs
  ]
  baselines = {name: [each[name] for each in of_base] for name in of_base[0]}
  print(f"\n{describe(tables, baselines)}")
  if len(tables) > 1:
    print(f"\n{compare(tables)}")


if __name__ == "__main__":
  main()
