"""Figures over splits, and the comparison of two configs."""

import numpy as np
import pytest

from experiments.benchmarks import split_tables, splits
from geojax import tasks
from geojax.training import config as config_lib


def make_table(seed, shift=0.0):
  rng = np.random.default_rng(seed)
  block = np.repeat(np.arange(12), 5)
  table = {
    "block": block,
    "nll_nats": rng.normal(size=12)[block] + shift,
    "distance_km": 500.0 * (1 + block % 3),
    "coords_counts": block != 11,
    "climate_counts": np.ones(60, bool),
    "is_land": block != 11,
    "date_counts": np.ones(60, bool),
  }
  for prefix in ("", "raw_"):
    table[f"{prefix}credible_level"] = rng.random(60)
    table[f"{prefix}area_km2"] = rng.random((60, 3))
  return table


LISTED = [
  (metric, prefix)
  for metric in tasks.all_metrics(
    tasks.create_tasks(config_lib.default_config())
  )
  for prefix in ("", "raw_")
  if metric.in_report and (not prefix or metric.name.startswith("coverage"))
]


def rows(text):
  found = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in text.splitlines()
  ]
  return {row[0]: row[1:] for row in found}


def test_a_table_has_means_spreads_and_intervals():
  tables = [make_table(0), make_table(1)]
  baselines = [{"median_km": 10.0}, {"median_km": 30.0}]
  baselines = [{**found, "nll_nats": 0.5} for found in baselines]
  text = split_tables.describe(
    {"base": tables}, LISTED, {"constant": baselines}
  )
  found = rows(text)
  assert found[""] == ["base", "constant"]
  each = [t["nll_nats"][t["coords_counts"]].mean() for t in tables]
  cell, of_constant = found["nll, nats; 0 is uniform"]
  assert cell.startswith(f"{np.mean(each):.3f} ± {np.std(each, ddof=1):.3f} [")
  low, high = map(float, cell.split("[")[1].strip("]").split(","))
  assert low < np.mean(each) < high
  # Of 11 blocks: patches taken for independent would make it half as wide.
  values = np.concatenate([t["nll_nats"][t["coords_counts"]] for t in tables])
  assert high - low > 1.3 * 2 * 1.96 * values.std() / np.sqrt(len(values))
  assert of_constant == "0.500"
  assert found["median distance, km"][1] == "20.000"
  assert found["share within 750 km"][0].startswith(f"{4 / 11:.3f} ± 0.000")
  assert found["truths in the 50 % region"][1] == ""
  share = np.mean(
    [t["raw_credible_level"][t["coords_counts"]] <= 0.8 for t in tables]
  )
  assert found["truths in the 80 % region, not calibrated"][0].startswith(
    f"{share:.3f} ±"
  )
  # What the runs do not measure has no row.
  assert not [title for title in found if "climate" in title]


def test_a_comparison_is_of_the_same_patches():
  base = [make_table(0), make_table(1), make_table(2)]
  better = [make_table(0, -0.5), make_table(1, -0.1), make_table(2, 0.3)]
  found = rows(split_tables.compare({"base": base, "other": better}, LISTED))
  assert found["less base"] == ["other"]
  (cell,) = found["nll, nats; 0 is uniform"]
  # All blocks are in all splits, so that they differ alike in each resample,
  # however far apart blocks are.
  assert cell == "-0.100 [-0.100, -0.100], better in 2 of 3"
  (cell,) = found["share within 750 km"]
  assert cell.startswith("0.000 [0.000, 0.000], better in 0 of 3")
  assert "better" not in found["truths in the 80 % region"][0]
  others = [{k: v[5:] for k, v in table.items()} for table in better]
  with pytest.raises(ValueError, match="not of the same patches"):
    split_tables.compare({"base": base, "other": others}, LISTED)


def test_what_one_config_does_not_measure_is_left_out():
  base = [make_table(0), make_table(1)]
  regression = [
    {k: v for k, v in table.items() if k != "nll_nats"} for table in base
  ]
  variants = {"base": base, "regression": regression}
  found = rows(split_tables.describe(variants, LISTED, {}))
  assert found["nll, nats; 0 is uniform"][1] == ""
  found = rows(split_tables.compare(variants, LISTED))
  assert "nll, nats; 0 is uniform" not in found
  assert found["median distance, km"][0].startswith("0.000 ")


def test_variants_are_names_and_flags():
  found = splits.parse_variants(["wide: --config.a=1 --config.b=2"])
  assert found == {"base": [], "wide": ["--config.a=1", "--config.b=2"]}
  for text in ("wide", "--config.a=1", "--config.a=b:c"):
    with pytest.raises(ValueError, match="NAME: FLAGS"):
      splits.parse_variants([text])


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(splits, "_run", lambda *words: asked.append(words))
  done = tmp_path / "data/geo_tiles/earth_1/1.0.0/metadata.json"
  trained = splits.run_folder(tmp_path, "wide", 1, 0) / "eval/test/metrics.json"
  for path in (done, trained):
    path.parent.mkdir(parents=True)
    path.write_text("{}")
  variants = {"base": [], "wide": ["--config.a=1"]}
  splits.train(tmp_path, variants, num_splits=2, num_seeds=2)
  built = [words for words in asked if "data_prep.build" in words]
  assert [w for words in built for w in words if "seed" in w] == [
    "--split_seed=0"
  ]
  runs = [words for words in asked if words[0] == "experiments/main.py"]
  assert len(runs) == 7
  assert sum("--config.a=1" in words for words in runs) == 3
  folders = {w for words in runs for w in words if w.startswith("--workdir")}
  assert len(folders) == 7
  assert f"--workdir={trained.parents[2]}" not in folders


def test_ensembles_are_of_variants(tmp_path, monkeypatch):
  variants = splits.parse_variants(["wide: --config.a=1"])
  ensembles = splits.parse_ensembles(["both: base, wide"], variants)
  assert ensembles == {"both": ["base", "wide"]}
  for text, match in (
    ("base,wide", "NAME: VARIANT"),
    ("both: base, narrow", "no variant narrow; there are base, wide"),
    ("wide: base, wide", "wide is a variant's name"),
  ):
    with pytest.raises(ValueError, match=match):
      splits.parse_ensembles([text], variants)
  asked = []
  monkeypatch.setattr(splits, "_run", lambda *words: asked.append(words))
  done = splits.run_folder(tmp_path, "both", 0, 0) / "eval/test/metrics.json"
  done.parent.mkdir(parents=True)
  done.write_text("{}")
  splits.evaluate_together(tmp_path, ensembles, [(0, 0), (1, 0)])
  members = [splits.run_folder(tmp_path, name, 1, 0) for name in variants]
  assert asked == [
    (
      "experiments/evaluate.py",
      f"--workdir={members[0]},{members[1]}",
      f"--output={splits.run_folder(tmp_path, 'both', 1, 0)}",
    )
  ]
