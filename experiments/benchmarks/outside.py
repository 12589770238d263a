"""Measures that mark patches from outside of what training saw.

  python -m experiments.benchmarks.outside --images=DIR --folder=DIR

Trains configs/eurosat.py on blocks of the western 60 % of EuroSAT's places, and
compares blocks of the same region that it never saw with the eastern 20 %. For
each measure it prints the area under the ROC curve: how often an eastern patch
has a higher value than a western one, 0.5 for a measure that knows nothing. How
much the features tell at all is shown by logistic regression that learns both
sides from half of the blocks, and is tried on the others. Then come coverage
and nll of both sides. `--images` is as for `benchmarks.eurosat`. What is done
already is not done again.
"""

import argparse
import csv
import pathlib
import subprocess
import sys

import jax
import numpy as np
from scipy import stats

from geojax import encodings, losses, predict, sphere
from geojax.evaluation import probes
from geojax.training import dataset as dataset_lib

_ROOT = pathlib.Path(__file__).parents[2]
_NAME = "eurosat_west"
# Of longitudes: where the west ends and the east begins.
_WEST, _EAST = 0.6, 0.8
_SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
# Images so near the edge of a block of one degree are left out, so that two
# blocks are twice as far from each other.
_EDGE_DEG = 0.05
_NUM_TRAIN = 8192
_NUM_NEIGHBOURS = 10
# Of the logistic regression.
_C = 0.01
_AREA = "area of the 80 % region"
_LEVELS = (0.5, 0.8, 0.95)


def write_table(source: pathlib.Path, path: pathlib.Path) -> float:
  """Writes the images that are used, with their splits.

  Args:
    source: Folder with `places.csv`.
    path: The table.

  Returns:
    The longitude at which the east begins.
  """
  with (source / "places.csv").open() as file:
    rows = list(csv.DictReader(file))
  lat, lon = (np.array([float(r[key]) for r in rows]) for key in ("lat", "lon"))
  west, east = np.quantile(lon, [_WEST, _EAST])
  corners = np.floor(np.stack([lat, lon], axis=1))
  blocks, block = np.unique(corners, axis=0, return_inverse=True)
  drawn = np.random.default_rng(0).choice(
    list(_SHARES), size=len(blocks), p=list(_SHARES.values())
  )[block]
  to_edge = np.minimum(*(np.abs(x - np.round(x)) for x in (lat, lon)))
  split = np.where((lon < west) & (to_edge >= _EDGE_DEG), drawn, "")
  split = np.where(lon >= east, "test", split)
  with path.open("w") as file:
    writer = csv.DictWriter(file, [*rows[0], "split"])
    writer.writeheader()
    for row, name in zip(rows, split, strict=True):
      if name:
        writer.writerow({**row, "split": name})
  return east


def _run(*words):
  print(*words, flush=True)
  subprocess.run([sys.executable, *words], cwd=_ROOT, check=True)


def train(source: pathlib.Path, folder: pathlib.Path, num_steps: int):
  """Builds the records and trains on them; returns workdir and longitude."""
  folder.mkdir(parents=True, exist_ok=True)
  table, workdir = folder / "places.csv", folder / "run"
  east_deg = write_table(source, table)
  _run(
    *("-m", "data_prep.build", "--config=images", f"--source={source}"),
    *(f"--table={table}", "--target=class", f"--name={_NAME}"),
    f"--output={folder / 'data'}",
  )
  _run(
    *("experiments/main.py", "--config=experiments/configs/eurosat.py"),
    *(f"--workdir={workdir}", f"--config.data.dir={folder / 'data'}"),
    *(f"--config.data.name=geo_tiles/{_NAME}", "--config.tasks=('coords',)"),
    *("--config.mixture.num_centers=128", "--config.mixture.background=0.001"),
    f"--config.num_steps={num_steps}",
  )
  return workdir, east_deg


def mahalanobis(features, train_features):
  """Squared Mahalanobis distances to the mean of some features.

  Args:
    features: Shape `[count, features]`.
    train_features: Shape `[n, features]`.

  Returns:
    Shape `[count]`.
  """
  mean = train_features.mean(axis=0)
  squares, axes = np.linalg.eigh(np.cov(train_features, rowvar=False))
  # Directions along which nothing varies count as those that hardly do.
  squares = np.maximum(squares, 1e-4 * squares.max())
  return np.square((features - mean) @ (axes / np.sqrt(squares))).sum(axis=-1)


def nearest(features, train_features):
  """Cosine distances to the k-th nearest of some features.

  Args:
    features: Shape `[count, features]`.
    train_features: Shape `[n, features]`.

  Returns:
    Shape `[count]`.
  """
  units, others = (
    x / np.linalg.norm(x, axis=-1, keepdims=True)
    for x in (features, train_features)
  )
  similar = units @ others.T
  return 1 - np.partition(similar, -_NUM_NEIGHBOURS)[:, -_NUM_NEIGHBOURS]


def read(dataset, split: str, at_most: int | None = None):
  """Images and places of a split, or of some records spread evenly over it."""
  positions = dataset.positions(split, at_most)
  records = dataset.source(split, ("coords",)).read(positions)
  return records["image"], encodings.coordinates_to_unit(
    np.float64(records["coords"])
  )


def measure(found, features, train_features) -> dict[str, np.ndarray]:
  """Measures of patches, higher for those that look unlike train patches.

  Args:
    found: Their `geojax.prediction.Prediction`.
    features: Their features, `[count, features]`.
    train_features: Those of train patches.

  Returns:
    Arrays `[count]` by name.
  """
  log_weight = np.asarray(jax.nn.log_softmax(found.logits), np.float64)
  return {
    _AREA: found.credible_area_km2((0.8,))[:, 0],
    "entropy of the weights": -(np.exp(log_weight) * log_weight).sum(axis=-1),
    "weight of the background": found.columns["background_weight"],
    "Mahalanobis distance of the features": mahalanobis(
      features, train_features
    ),
    f"cosine distance to neighbour {_NUM_NEIGHBOURS}": nearest(
      features, train_features
    ),
  }


def learned(features, is_east, x) -> np.ndarray:
  """Log odds of the east by logistic regression, of blocks it did not see.

  Args:
    features: Shape `[count, features]`.
    is_east: Booleans `[count]`.
    x: Places, unit vectors, `[count, 3]`.

  Returns:
    Shape `[count]`: each half of the blocks by what the other half teaches.
  """
  corners = np.floor(np.stack(sphere.unit_to_latlon(x), axis=1))
  _, block = np.unique(corners, axis=0, return_inverse=True)
  half = np.random.default_rng(0).permutation(block.max() + 1)[block] % 2
  targets = np.eye(2)[is_east.astype(int)]
  odds = np.empty(len(features))
  for held_out in (half == 0, half == 1):
    fit = probes.logistic(
      features[~held_out], targets[~held_out], c_values=(_C,)
    )
    logits = fit(features[held_out])
    odds[held_out] = logits[:, 1] - logits[:, 0]
  return odds


def auroc(inside, outside) -> float:
  """Area under the ROC curve of a measure that is higher outside."""
  rank_sum = stats.rankdata(np.concatenate([outside, inside]))[: len(outside)]
  above = rank_sum.sum() - len(outside) * (len(outside) + 1) / 2
  return above / (len(inside) * len(outside))


def describe(workdir: pathlib.Path, east_deg: float) -> str:
  """Measures a run's test split.

  Args:
    workdir: Of the run.
    east_deg: Longitude at which the east begins.

  Returns:
    Two tables in Markdown.
  """
  predictor = predict.load(workdir)
  config = predictor.config
  dataset = dataset_lib.open_dataset(config.data.dir, config.data.name)
  train_images, _ = read(dataset, "train", _NUM_TRAIN)
  train_features = predictor.features(train_images)
  images, x = read(dataset, "test")
  is_east = sphere.unit_to_latlon(x)[1] >= east_deg
  found, features = predictor.predict(images), predictor.features(images)
  measures = measure(found, features, train_features)
  area_km2 = measures[_AREA]
  odds = learned(features, is_east, x)
  measures["logistic regression that learned both sides"] = odds
  lines = ["| measure | area under the ROC curve |", "|---|---|"]
  for name, values in measures.items():
    area = auroc(values[~is_east], values[is_east])
    lines.append(f"| {name} | {area:.3f} |")
  lines += [
    "",
    "| | images | nll, nats | "
    + " | ".join(f"in the {level:.0%} region" for level in _LEVELS)
    + f" | median {_AREA}, 10^6 km² |",
    "|---" * (4 + len(_LEVELS)) + "|",
  ]
  nll = losses.relative_nll(found.log_prob(np.float32(x)))
  level = found.credible_level(np.float32(x))
  for name, rows in (("west", ~is_east), ("east", is_east)):
    shares = " | ".join(
      f"{np.mean(level[rows] <= asked):.3f}" for asked in _LEVELS
    )
    lines.append(
      f"| {name} | {rows.sum():,} | {nll[rows].mean():.3f} | {shares}"
      f" | {np.median(area_km2[rows]) / 1e6:.2f} |"
    )
  return "\n".join(lines)


def main():
  """Trains, and prints two tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=pathlib.Path, required=True)
  parser.add_argument("--folder", type=pathlib.Path, required=True)
  parser.add_argument("--num_steps", type=int, default=1000)
  args = parser.parse_args()
  found = train(args.images.resolve(), args.folder.resolve(), args.num_steps)
  print(describe(*found))


if __name__ == "__main__":
  main()
