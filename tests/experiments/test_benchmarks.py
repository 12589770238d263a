"""What the benchmarks of the encoders count, and that both sides agree."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import accelerator, memory, model_table, train_step
from experiments.benchmarks import train_step_forms as forms
from geojax.models import core


def _cells(row):
  return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize(
  ("name", "parameters"), [("core", 3_852_676), ("core_unet", 3_953_065)]
)
def test_the_parameters_of_the_table(name, parameters):
  model = model_table.make_model(name, "atto", 1)
  assert model_table.count_parameters(model, forms.BANDS, 32) == parameters


@pytest.mark.parametrize("name", ["core", "core_unet"])
def test_a_row_of_the_table(name, monkeypatch):
  monkeypatch.setitem(core.SIZES, "atto", ((1, 1), (32, 64)))
  cells = _cells(model_table.make_row(name, "atto", 1, side=32))
  assert len(cells) == len(_cells(model_table.HEADER.splitlines()[0]))
  model = model_table.make_model(name, "atto", 1)
  parameters = model_table.count_parameters(model, forms.BANDS, 32)
  assert cells[:2] == [f"{name}_atto", f"{parameters:,}"]
  float32, bfloat16, *remat = (float(cell) for cell in cells[3:])
  # Norms' statistics and what pooling keeps are float32 in both.
  assert 0.4 < bfloat16 / float32 < 0.7
  assert remat[0] < float32 / 2
  assert remat[1] < bfloat16 / 2


def test_the_peak_is_of_the_process_not_of_whoever_started_it():
  held = np.ones(300 * 2**17)
  child = (
    "from experiments.benchmarks import memory; import numpy;"
    "before = memory.peak_mib(); held = numpy.ones(50 * 2**17);"
    "print(before, memory.peak_mib())"
  )
  done = subprocess.run(
    [sys.executable, "-c", child], capture_output=True, text=True, check=True
  )
  before, after = map(float, done.stdout.split())
  assert before < held.nbytes / 2**20
  assert after - before == pytest.approx(50, abs=5)


def test_the_buffers_that_a_program_holds_are_listed(tmp_path):
  def step(x):
    return jnp.sin(x @ x) @ x

  dump = {"xla_dump_to": str(tmp_path), "xla_dump_hlo_as_text": True}
  x = jax.ShapeDtypeStruct((300, 300), jnp.float32)
  jax.jit(step, compiler_options=dump).lower(x).compile()
  buffers = memory.live_buffers(tmp_path)
  # The argument, the sine and the result.
  assert buffers.count(("f32[300,300]", 360_000)) == 3


def test_two_ways_to_count_the_forward_pass_agree():
  model = model_table.make_model("core", "atto", 1)
  traced = model_table.count_flops(model, forms.BANDS, 64)
  counted, _ = train_step.count_flops(*core.SIZES["atto"], 64)
  assert counted == traced


def test_a_step_is_three_forward_passes_but_for_the_images_gradient():
  forward, step = train_step.count_flops((1,), (16,), 8)
  # 10 bands to 16 channels, twice, at 64 pixels.
  assert step == 3 * forward - 2 * 2 * 10 * 16 * 64


@pytest.mark.torch
def test_both_sides_begin_alike_and_take_the_same_step(tmp_path, monkeypatch):
  monkeypatch.setitem(forms.BATCHES, "atto", (2, 32))
  path = tmp_path / "weights.npz"
  forms.write_weights("atto", path)
  weights = dict(np.load(path))
  here = forms.make_jax_run("atto", weights)
  there = forms.make_torch_run("torch contiguous", "atto", weights)
  assert here() == pytest.approx(there(), rel=1e-4)
  assert here() == pytest.approx(there(), rel=0.1)


def test_a_step_on_an_accelerator_is_measured(monkeypatch, capsys):
  monkeypatch.setattr(accelerator, "SIDE", 32)
  monkeypatch.setattr(accelerator, "_STEPS", 2)
  monkeypatch.setattr("sys.stdin", ["run", "run"])
  accelerator.work("geojax remat", "vit_ti/16", 8)
  ready, *lines = capsys.readouterr().out.splitlines()
  assert ready == "ready"
  for line in lines:
    milliseconds, gib = map(float, line.split())
    assert 0 < milliseconds < 60_000
    assert 0.01 < gib < 4
  # Of 4 tokens: 2 multiplications and additions a weight of the blocks.
  assert accelerator.count_flops("vit_ti/16") == pytest.approx(
    3 * 2 * 4 * 12 * 12 * 192**2, rel=0.1
  )


@pytest.mark.torch
@pytest.mark.parametrize("size", ["ti", "s"])
def test_pytorchs_vit_is_as_large(size):
  model = model_table.make_model("vit", size, 16)
  ours = model_table.count_parameters(model, accelerator.BANDS, 128)
  theirs = accelerator.make_torch_vit(size, 16)
  # Its positions are learned, ours are not.
  count = sum(p.numel() for p in theirs.parameters())
  assert count - theirs.positions.numel() == ours
