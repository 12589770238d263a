"""What geographic awareness is worth for land use, on EuroSAT.

  python -m experiments.benchmarks.eurosat --images=DIR --folder=DIR

`--images` holds your copy of EuroSAT's RGB images, a folder or a zip of them,
and `places.csv`: file, class, latitude and longitude of each. For each way to
split and each pretext it builds records, trains an encoder on the places of the
train split alone, runs the transfer and prints a table, in Markdown. What is
done already is not done again. On two cores a pretext takes more than an hour.

Splits: `blocks` of 1 degree, with a distance between train and test;
`longitude`, 60 % in the west to 20 % in the east; `random`.
Pretexts: `geo`, where (a mixture) and climate; `mse`, where by regression, and
climate; `where`, without climate.
"""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
from absl import app, flags

_ROOT = pathlib.Path(__file__).parents[2]
_SOURCE = flags.DEFINE_string("images", None, "Folder with EuroSAT's images.")
_OUTPUT = flags.DEFINE_string("folder", None, "Folder to write to.")
_SPLITS = flags.DEFINE_list(
  "split_by", ["blocks"], "blocks, longitude, random."
)
_PRETEXTS = flags.DEFINE_list("pretexts", ["geo"], "geo, mse, where.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 5000, "Steps of a pretext.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Draws of labels.")
_NUM_TRAINED = flags.DEFINE_integer(
  "num_trained_seeds", 2, "Draws that encoders are fine-tuned on; 0: none."
)

_OF_SPLIT = {
  "blocks": ["--validation=0.2", "--test=0.23"],
  "longitude": ["--split=longitude:60,20,20"],
  "random": [],
}
# The west has places for fewer centers.
_CENTERS_OF_SPLIT = {"longitude": ["--config.mixture.num_centers=200"]}
_OF_PRETEXT = {
  "geo": [],
  "mse": [
    "--config.loss.coords=mse",
    "--config.mixture.mode_blur_km=0.0",
    "--config.mixture.decoder=least_expected_distance",
  ],
  "where": ["--config.tasks=('coords',)"],
}


def _run(*words):
  print(*words, flush=True)
  subprocess.run([sys.executable, *words], cwd=_ROOT, check=True)


def _table(source, output, split):
  """The table of the images; of the random split, with its column."""
  if split != "random":
    return source / "places.csv"
  path = output / "places_random.csv"
  rng = np.random.default_rng(0)
  with (source / "places.csv").open() as file, path.open("w") as made:
    reader = csv.DictReader(file)
    writer = csv.DictWriter(made, [*reader.fieldnames, "split"])
    writer.writeheader()
    for row in reader:
      drawn = rng.choice(["train", "validation", "test"], p=[0.6, 0.2, 0.2])
      writer.writerow({**row, "split": str(drawn)})
  return path


def run(source, output, split, pretext) -> pathlib.Path:
  """Builds, trains and transfers; returns the workdir of the transfer."""
  name, data = f"eurosat_{split}", output / "data"
  output.mkdir(parents=True, exist_ok=True)
  _run(
    *("-m", "data_prep.build", "--config=images", f"--source={source}"),
    *(f"--table={_table(source, output, split)}", "--target=class"),
    *(f"--name={name}", f"--output={data}", *_OF_SPLIT[split]),
  )
  records = f"--config.data.dir={data}", f"--config.data.name=geo_tiles/{name}"
  workdir = output / "runs" / f"{split}_{pretext}"
  centers = _CENTERS_OF_SPLIT.get(split, []) if pretext != "mse" else []
  _run(
    *("experiments/main.py", "--config=experiments/configs/eurosat.py"),
    *(*records, f"--config.num_steps={_NUM_STEPS.value}"),
    *(f"--workdir={workdir}", *_OF_PRETEXT[pretext], *centers),
  )
  found = output / "transfer" / f"{split}_{pretext}"
  for protocols, num_seeds in (
    (("knn", "ridge", "logistic"), _NUM_SEEDS.value),
    (("finetune", "scratch"), _NUM_TRAINED.value),
  ):
    if num_seeds:
      _run(
        *(
          "experiments/transfer.py",
          "--config=experiments/configs/land_use.py",
        ),
        *(*records, f"--config.encoder={workdir}", f"--workdir={found}"),
        f"--config.protocols={protocols!r}",
        f"--config.num_seeds={num_seeds}",
      )
  return found


def describe(workdir) -> str:
  """Returns a transfer's accuracies as a table: means over the draws."""
  rows = [
    row
    for row in pq.read_table(workdir / "results.parquet").to_pylist()
    if row["metric"] == "accuracy"
  ]
  shots = sorted({r["shots"] for r in rows}, key=lambda n: n or np.inf)
  names = list(dict.fromkeys((r["encoder"], r["protocol"]) for r in rows))
  lines = [
    f"| {workdir.name} | " + " | ".join(str(n or "all") for n in shots) + " |",
    "|---" * (len(shots) + 1) + "|",
  ]
  for encoder, protocol in names:
    cells = []
    for number in shots:
      values = [
        r["value"]
        for r in rows
        if (r["encoder"], r["protocol"], r["shots"])
        == (encoder, protocol, number)
      ]
      cells.append(f"{np.mean(values):.3f}" if values else "")
    title = f"{pathlib.Path(encoder).name}, {protocol}"
    lines.append(f"| {title} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main(_):
  """Runs all, and prints a table each."""
  source, output = map(pathlib.Path, (_SOURCE.value, _OUTPUT.value))
  found = [
    run(source.resolve(), output.resolve(), split, pretext)
    for split in _SPLITS.value
    for pretext in _PRETEXTS.value
  ]
  for workdir in found:
    print(f"\n{describe(workdir)}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["images", "folder"])
  app.run(main)
