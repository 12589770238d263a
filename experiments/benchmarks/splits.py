"""Figures that hold over splits: configs trained on several draws of blocks.

  python -m experiments.benchmarks.splits --folder=DIR \
    [--variant="mvmf: --config.loss.coords=mvmf" ...] \
    [--ensemble="both: base, mvmf" ...]

One draw of the blocks that are held out shows little: the sample's test split
has some 70 of them. This builds the sample data set with `--num_splits` draws,
trains the base config and each variant on every draw (and on `--num_seeds`
seeds), evaluates ensembles of them, and prints, in Markdown,

- of each config the mean over the splits, their standard deviation, and the
  interval of all test patches together, which holds 95 % by bootstrap over
  blocks;
- of each variant the differences from the base config, of the same patches,
  with their intervals and the number of runs in which it is better.

What is done already is not done again, and a run that was stopped goes on.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from experiments.benchmarks import split_tables
from geojax.training import data_info

_ROOT = pathlib.Path(__file__).parents[2]
BASE = "base"


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


def evaluate_together(
  folder: pathlib.Path, ensembles: dict[str, list[str]], runs
) -> None:
  """Evaluates runs of one draw and seed together, as far as that is missing.

  Args:
    folder: See `train`.
    ensembles: Names of trained variants, by the name of each ensemble.
    runs: Pairs of split and seed.
  """
  for name, variants in ensembles.items():
    for run in runs:
      output = run_folder(folder, name, *run)
      if not (output / "eval/test/metrics.json").exists():
        members = [str(run_folder(folder, each, *run)) for each in variants]
        _run(
          *("experiments/evaluate.py", f"--workdir={','.join(members)}"),
          f"--output={output}",
        )


def run_folder(folder, variant: str, split: int, seed: int) -> pathlib.Path:
  """The workdir of a run."""
  return folder / "runs" / variant / f"{split}_{seed}"


def parse_variants(texts) -> dict[str, list[str]]:
  """Flags of main.py by name, of texts `NAME: FLAGS`; the base config first.

  Raises:
    ValueError: A text has no name.
  """
  variants = {BASE: []}
  for text in texts:
    name, words = _parse_named(text, "--variant must be NAME: FLAGS")
    variants[name] = words.split()
  return variants


def parse_ensembles(texts, variants) -> dict[str, list[str]]:
  """Names of variants by name, of texts `NAME: VARIANT, VARIANT, ...`.

  Raises:
    ValueError: A text has no name, or a variant is not one of `variants`.
  """
  ensembles = {}
  for text in texts:
    name, words = _parse_named(text, "--ensemble must be NAME: VARIANT, ...")
    members = [word.strip() for word in words.split(",")]
    if unknown := [member for member in members if member not in variants]:
      raise ValueError(
        f"--ensemble={text!r}: no variant {', '.join(unknown)}; there are"
        f" {', '.join(variants)}"
      )
    if name in variants:
      raise ValueError(f"--ensemble={text!r}: {name} is a variant's name")
    ensembles[name] = members
  return ensembles


def _parse_named(text, form):
  name, found, words = text.partition(":")
  if not found or not name.strip() or name.startswith("-"):
    raise ValueError(f"{form}; got {text!r}")
  return name.strip(), words


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
  parser.add_argument(
    "--ensemble",
    action="append",
    default=[],
    help="NAME: VARIANT, VARIANT, ... that answer together",
  )
  args = parser.parse_args()
  if args.num_splits < 2:
    parser.error("--num_splits must be at least 2: it is a spread")
  try:
    variants = parse_variants(args.variant)
    ensembles = parse_ensembles(args.ensemble, variants)
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
  evaluate_together(folder, ensembles, runs)
  of_base = [run_folder(folder, BASE, *run) for run in runs]
  block_deg = data_info.load(of_base[0]).block_deg
  tables = {
    name: [
      split_tables.read_table(run_folder(folder, name, *run), block_deg)
      for run in runs
    ]
    for name in (*variants, *ensembles)
  }
  measured = [
    json.loads((workdir / "eval/test/metrics.json").read_text())["baselines"]
    for workdir in of_base
  ]
  baselines = {name: [each[name] for each in measured] for name in measured[0]}
  listed = split_tables.list_metrics(of_base[0])
  print(f"\n{split_tables.describe(tables, listed, baselines)}")
  if len(tables) > 1:
    print(f"\n{split_tables.compare(tables, listed)}")


if __name__ == "__main__":
  main()
