"""The table of the EuroSAT benchmark, and the split that it draws."""

import csv

from experiments.benchmarks import eurosat
from geojax.transfer import results


def test_a_table_has_the_means_over_the_draws(tmp_path):
  found = results.Results(tmp_path)
  for seed, value in enumerate((0.5, 0.7)):
    for shots in (0, 5):
      key = ("class", "runs/a", "ridge", shots, seed, "test")
      found.add(key, {"accuracy": (value, 0, 1), "macro_f1": (0, 0, 1)}, "", 0)
  key = ("class", "random", "scratch", 5, 0, "test")
  found.add(key, {"accuracy": (0.25, 0, 1)}, "", 0)
  assert eurosat.describe(tmp_path).splitlines() == [
    f"| {tmp_path.name} | 5 | all |",
    "|---|---|---|",
    "| a, ridge | 0.600 | 0.600 |",
    "| random, scratch | 0.250 |  |",
  ]


def test_a_random_split_is_the_same_each_time(tmp_path):
  rows = [["file", "class", "lat", "lon"]]
  rows += [[f"{i}.jpg", "a", "1.0", "2.0"] for i in range(500)]
  with (tmp_path / "places.csv").open("w") as file:
    csv.writer(file).writerows(rows)
  path = eurosat._table(tmp_path, tmp_path, "random")
  text = path.read_text()
  assert eurosat._table(tmp_path, tmp_path, "random").read_text() == text
  splits = [row["split"] for row in csv.DictReader(text.splitlines())]
  assert 270 < splits.count("train") < 330
  assert set(splits) == {"train", "validation", "test"}
  assert eurosat._table(tmp_path, tmp_path, "blocks").name == "places.csv"
