"""The recipe for Sentinel-2 trains on tiles that the test makes."""

import numpy as np
import pytest
from command_runs import run

from data_prep import build, grids, products, tile_writer
from experiments.benchmarks import scaling
from geojax.training import logs


def _write_tiles(folder):
  """Tiles in three zones, so that each split has places of its own."""
  rng = np.random.default_rng(0)
  folder.mkdir()
  for number in range(12):
    name = (
      f"S2B_MSIL2A_20220{number % 9 + 1}05T101411_N0400_R022_T33UXP_"
      f"20220706T12{number:02d}00"
    )
    grid = grids.Grid(
      *(256, 256, 300_000.0 + 60_000 * (number % 4)),
      *(5_100_000.0 + 150_000 * (number // 4), 10.0, 10.0, 32633),
    )
    pixels = rng.integers(1, 9000, (11, 256, 256)).astype(np.uint16)
    pixels[0] = 4
    tile_writer.write_planes(
      folder / f"{name}_s2.tif",
      pixels,
      bands=products.BANDS_11,
      grid=grid,
      dtype="uint16",
      date=None,
    )


# Most of a minute goes into the compiler.
@pytest.mark.slow
def test_twenty_steps_in_bfloat16_with_remat(tmp_path):
  _write_tiles(tmp_path / "in")
  split = {"validation": 0.25, "test": 0.25, "block_deg": 0.5}
  builder = build.build("sentinel2", tmp_path, tmp_path / "in", split=split)
  assert builder.counts["train"] >= 8
  workdir = tmp_path / "run"
  done = run(
    "main.py",
    "--config=experiments/configs/sentinel2.py",
    *(f"--workdir={workdir}", f"--config.data.dir={tmp_path}"),
    *("--config.num_steps=20", "--config.log_every=5"),
    *("--config.eval_every=10", "--config.checkpoint_every=10"),
    *("--config.data.batch_size=4", "--config.data.eval_batch_size=4"),
    # A small one of the family, and no more centers than places.
    *("--config.model.size=atto", "--config.mixture.num_centers=3"),
    *("--config.model.depths=(1,1)", "--config.model.widths=(16,32)"),
    *("--config.model.remat=True", "--config.optimizer.warmup_steps=5"),
  )
  assert done.returncode == 0, (done.stdout, done.stderr)
  lines = logs.read_metrics(workdir)
  steps = [line["step"] for line in lines if line["split"] == "train"]
  assert steps == [5, 10, 15, 20]
  assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_hours_and_cost_are_printed():
  table = scaling.sentinel2_on_paper()
  for name in ("1 H100", "v5litepod-16", "v5e-256"):
    assert f"| {name} |" in table
