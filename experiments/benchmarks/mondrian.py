"""Whether levels calibrated by groups of certainty serve the groups better.

  python -m experiments.benchmarks.mondrian --folder=DIR

DIR is that of `experiments.benchmarks.splits`, whose runs this reads. A model
that is too sure where it is sure, and not elsewhere, would gain by levels that
are calibrated for each third by certainty (Mondrian conformal prediction; Vovk,
Gammerman & Shafer, 2005), here by the area of a patch's own 80 % region. So the
test blocks of each run are halved at random, many times: one half is what
levels are fitted to, as validation is in a run, and the other what they are
tried on. Printed, for the model's own levels, one map for all, and a map for
each third, in Markdown:

- the coverage of each third, and the mean gap between it and the level;
- the spread: the largest coverage of a third less the smallest.
"""

import argparse
import pathlib

import numpy as np

from experiments.benchmarks import split_tables
from geojax.evaluation import conformal
from geojax.tasks.coords_metrics import REGIONS
from geojax.training import data_info

_NUM_GROUPS = 3
_NUM_HALVES = 20
# Of `REGIONS`, the region whose area says how sure a model is.
_CERTAINTY = REGIONS.index(0.8)


def coverages(level, group, block, is_fitted) -> dict[str, np.ndarray]:
  """Coverage of each group by ways to calibrate.

  Args:
    level: The model's levels of the truths, `[count]`.
    group: Which group each is of, `[count]`.
    block: Which block each lies in, `[count]`.
    is_fitted: Whether levels are fitted to it, or tried on it, `[count]`.

  Returns:
    `[levels of REGIONS, groups]` by the name of a way.
  """
  whole = conformal.fit(level[is_fitted], block[is_fitted])["level_knots"]
  found = {
    name: np.full((len(REGIONS), _NUM_GROUPS), np.nan)
    for name in ("the model's own", "one map", "a map for each third")
  }
  for i in range(_NUM_GROUPS):
    mine = is_fitted & (group == i)
    own = conformal.fit(level[mine], block[mine])["level_knots"]
    tried = level[~is_fitted & (group == i)]
    if not len(tried):
      continue
    for name, knots in zip(found, (None, whole, own), strict=True):
      served = conformal.calibrate(tried, knots)
      found[name][:, i] = [np.mean(served <= level) for level in REGIONS]
  return found


def measure(tables, *, num_halves: int = _NUM_HALVES, seed: int = 0) -> dict:
  """Tries all ways on halves of the blocks of each table.

  Args:
    tables: Results of `split_tables.read_table`.
    num_halves: Random halves of the blocks of each.
    seed: Of the halves.

  Returns:
    Coverages `[tables * halves, levels, groups]` by the name of a way.
  """
  rng = np.random.default_rng(seed)
  found = {}
  for table in tables:
    rows = np.flatnonzero(table["coords_counts"])
    level, block = (
      table[name][rows] for name in ("raw_credible_level", "block")
    )
    area = table["raw_area_km2"][rows, _CERTAINTY]
    blocks = np.unique(block)
    for _ in range(num_halves):
      half = rng.permutation(blocks)[: len(blocks) // 2]
      is_fitted = np.isin(block, half)
      thirds = np.linspace(0, 1, _NUM_GROUPS + 1)[1:-1]
      group = np.digitize(area, np.quantile(area[is_fitted], thirds))
      for name, each in coverages(level, group, block, is_fitted).items():
        found.setdefault(name, []).append(each)
  return {name: np.array(each) for name, each in found.items()}


def describe(found: dict) -> str:
  """Returns a table of the result of `measure`, in Markdown."""
  lines = [
    "| | level | surest third | middle | least sure | mean gap | spread |",
    "|---|---|---|---|---|---|---|",
  ]
  for name, values in found.items():
    for i, level in enumerate(REGIONS):
      each = values[:, i]
      gap = np.nanmean(np.abs(each - level))
      spread = np.mean(np.nanmax(each, axis=1) - np.nanmin(each, axis=1))
      cells = (f"{x:.3f}" for x in (*np.nanmean(each, axis=0), gap, spread))
      lines.append(f"| {name} | {level:.0%} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main():
  """Prints a table for each variant."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--folder", required=True, help="folder of the splits")
  folder = pathlib.Path(parser.parse_args().folder)
  for variant in sorted((folder / "runs").iterdir()):
    workdirs = [
      path.parents[2]
      for path in sorted(variant.glob("*/eval/test/metrics.json"))
      # An ensemble has no data of its own.
      if (path.parents[2] / data_info.FILE).exists()
    ]
    if workdirs:
      tables = [
        split_tables.read_table(path, data_info.load(path).block_deg)
        for path in workdirs
      ]
      print(f"\n{variant.name}, {len(tables)} runs\n")
      print(describe(measure(tables)))


if __name__ == "__main__":
  main()
