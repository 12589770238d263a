"""Files of docs/extending.md, as they stand there, trained and evaluated."""

import datetime
import json
import pathlib
import re

import build_runs
import command_runs
import numpy as np
import pytest

from data_prep import tile_writer

ROOT = pathlib.Path(__file__).parents[2]
_FILE = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)
_SMALL = (
  *("--config.num_steps=20", "--config.log_every=10"),
  *("--config.eval_every=10", "--config.checkpoint_every=10"),
  *("--config.data.batch_size=32", "--config.data.eval_batch_size=64"),
  *("--config.mixture.num_centers=16", "--config.optimizer.warmup_steps=2"),
)


def write_file(folder, name):
  code = dict(_FILE.findall((ROOT / "docs/extending.md").read_text()))[name]
  folder.mkdir(exist_ok=True)
  path = folder / name
  path.write_text(code)
  return path


def run(script, *arguments):
  done = command_runs.run(script, *arguments)
  assert done.returncode == 0, done.stderr
  return done.stdout


def train(config, workdir, data_dir, *arguments):
  """Trains 20 steps and evaluates; returns the table, metrics and log."""
  printed = run(
    "main.py",
    *(f"--config={config}", f"--workdir={workdir}", *_SMALL),
    f"--config.data.dir={data_dir}",
    *arguments,
  )
  metrics = json.loads((workdir / "eval/test/metrics.json").read_text())
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  table = printed[printed.index("test split") :]
  return table, metrics, [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patches.py", "elevation.py", "brier.py"])
def test_a_file_of_ones_own_trains_and_is_reported(name, smoke, tmp_path):
  workdir = tmp_path / "run"
  table, metrics, log = train(
    write_file(tmp_path / "mine", name),
    workdir,
    smoke,
    "--config.data.name=geo_tiles/earth_smoke",
  )
  assert "climate, 31 zones" in table
  train_lines = [line for line in log if line["split"] == "train"]
  assert train_lines[-1]["loss"] < train_lines[0]["loss"]
  report = (workdir / "report.html").read_text()
  assert "median distance, km" in report
  if name == "elevation.py":
    assert "elevation, mean error, m" in table
    assert "elevation, mean error, m" in report
    assert metrics["elevation_mae_m"] > 0
    low, high = metrics["intervals"]["elevation_mae_m"]
    assert low <= metrics["elevation_mae_m"] <= high
    assert train_lines[-1]["elevation"] < train_lines[0]["elevation"]
    validation = [line for line in log if line["split"] == "validation"]
    assert "elevation_mae_m" in validation[-1]
  if name == "brier.py":
    # A sum of squares of probabilities' errors is at most 2.
    assert all(line["climate"] <= 2 for line in train_lines)
  # Another command finds the file by the run's config.
  again = run("evaluate.py", f"--workdir={workdir}")
  assert again.splitlines()[:-2] == table.splitlines()[:-2]


@pytest.mark.slow
def test_a_source_of_ones_own_is_built_and_trained_on(tmp_path):
  rng = np.random.default_rng(0)
  (tmp_path / "in").mkdir()
  # A grid of places from Mali to Kazakhstan, a day each.
  for i in range(100):
    day = datetime.datetime(2021, 1, 1) + datetime.timedelta(days=3 * i)
    tile_writer.write_tile(
      tmp_path / f"in/flight_{day:%Y%m%d}.tif",
      rng.integers(0, 255, (32, 48, 2)).astype(np.uint8),
      bands=("red", "green"),
      west=-3.8 + 7.3 * (i % 10),
      north=18.7 + 3.1 * (i // 10),
      pixel_size=1e-3,
      date=day,
    )
  source = write_file(tmp_path / "mine", "drone.py")
  code = build_runs.run_main(
    *(f"--config={source}", f"--source={tmp_path / 'in'}"),
    *(f"--output={tmp_path / 'data'}", "--validation=0.2", "--test=0.2"),
  )
  assert code == 0
  table, metrics, _ = train(
    "experiments/configs/base.py",
    tmp_path / "run",
    tmp_path / "data",
    "--config.data.name=geo_tiles/drone",
  )
  assert "median distance, km" in table
  assert metrics["count"] > 0
