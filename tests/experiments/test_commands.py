"""The commands as a user types them, in processes of their own."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import tiny_encoder
from command_runs import run

_ROOT = pathlib.Path(__file__).parents[2]
_SMALL = (
  "--config.num_steps=6 --config.eval_every=3 --config.checkpoint_every=3"
  " --config.log_every=2 --config.data.batch_size=32"
  " --config.best_metric=acc@1km"
  " --config.mixture.num_centers=16 --config.data.name=geo_tiles/earth_smoke"
)


def _main(workdir, *arguments):
  return run(
    "main.py",
    "--config=experiments/configs/base.py",
    f"--workdir={workdir}",
    *arguments,
  )


@pytest.fixture(scope="module")
def trained(smoke, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  done = _main(
    workdir, *_SMALL.split(), *tiny_encoder.FLAGS, f"--config.data.dir={smoke}"
  )
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout, done.stderr


def test_training_ends_in_a_table_beside_the_baselines(trained):
  _, printed, _ = trained
  for words in ("nearest patch", "best constant", "uniform", "median distance"):
    assert words in printed
  assert "land patches; step 3, best acc@1km on validation" in printed


def test_a_workdir_holds_what_the_readme_says(trained):
  workdir, *_ = trained
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  splits = {json.loads(line)["split"] for line in lines}
  assert splits == {"train", "validation"}
  found = json.loads((workdir / "eval/test/metrics.json").read_text())
  # The best on validation, as the table's first line says.
  assert found["step"] == 3
  levels = json.loads((workdir / "calibration.json").read_text())["3"]
  assert levels.keys() == {"coords", "climate", "date"}
  names = (
    "median_km mean_km acc@1km acc@25km acc@200km acc@750km acc@2500km geoscore"
    " nll_nats climate_accuracy climate_class_accuracy climate_macro_f1"
    " date_mae_days count"
  )
  assert set(names.split()) <= set(found)
  assert set(found["baselines"]) == {
    "nearest patch",
    "best constant",
    "uniform",
  }
  kinds = {"latitude", "climate", "train_km", "month", "certainty"}
  assert kinds == set(found["groups"])
  for baseline in found["baselines"].values():
    assert {kind: list(x) for kind, x in baseline["groups"].items()} == {
      kind: list(x) for kind, x in found["groups"].items()
    }
  assert found["calibration"]["fitted_temperature"] > 0
  pictures = (
    "overview errors map_patch map_tile error_against reliability confusion"
    " days centers examples recall"
  )
  for name in pictures.split():
    picture = workdir / f"eval/test/{name}.png"
    assert picture.stat().st_size > 10_000, name
  assert (workdir / "report.html").stat().st_size < 15e6
  assert list((workdir / "tensorboard").iterdir())
  assert list((workdir / "checkpoints").iterdir())
  assert (workdir / "config.json").exists()


def test_evaluating_again_gives_the_same_metrics(trained):
  workdir, *_ = trained
  path = workdir / "eval/test/metrics.json"
  before = json.loads(path.read_text())
  done = run("evaluate.py", f"--workdir={workdir}", "--split=test")
  assert done.returncode == 0, done.stderr
  assert json.loads(path.read_text()) == before


def test_several_runs_are_evaluated_and_predict_as_one(
  trained, smoke, tmp_path
):
  workdir, *_ = trained
  # The mean of a run and its copy is the run.
  both = f"--workdir={workdir},{shutil.copytree(workdir, tmp_path / 'copy')}"
  output = tmp_path / "together"
  done = run("evaluate.py", both)
  assert done.returncode == 1
  assert "give it with several --workdir" in done.stdout + done.stderr
  done = run("evaluate.py", both, f"--output={output}")
  assert done.returncode == 0, done.stderr
  assert "land patches; mean of 2 runs" in done.stdout
  found, expected = (
    json.loads((folder / "eval/test/metrics.json").read_text())
    for folder in (output, workdir)
  )
  for name in ("nll_nats", "median_km", "climate_accuracy", "date_mae_days"):
    assert found[name] == pytest.approx(expected[name], rel=1e-3), name
  assert "mean of 2 runs" in (output / "report.html").read_text()
  tile = next((smoke / "tiles/earth_smoke").glob("*.tif"))
  done = run(
    *("predict.py", f"--workdir={output}", tile),
    f"--output={tmp_path / 'predicted'}",
  )
  assert done.returncode == 0, done.stderr
  assert "the model's own" not in done.stderr
  assert (tmp_path / "predicted" / tile.stem / "prediction.json").exists()


@pytest.mark.parametrize(("flag", "step"), [("--nolast", 3), ("--last", 6)])
def test_the_best_checkpoint_is_evaluated_or_the_last(trained, flag, step):
  """No place is right within 1 km, so the first evaluation stays the best."""
  workdir, *_ = trained
  code = """
from absl import app
from experiments import evaluate, reporting
reporting.write_report = lambda run, *_: print(int(run.state.step))
app.run(evaluate.main)
"""
  done = subprocess.run(
    [sys.executable, "-c", code, f"--workdir={workdir}", flag],
    cwd=_ROOT,
    check=True,
    capture_output=True,
    text=True,
  )
  assert done.stdout.split() == [str(step)]


@pytest.mark.slow
def test_each_split_has_a_report_of_its_own(trained):
  workdir, *_ = trained
  report = (workdir / "report.html").read_bytes()
  done = run("evaluate.py", f"--workdir={workdir}", "--split=validation")
  assert done.returncode == 0, done.stderr
  assert (workdir / "report.html").read_bytes() == report
  of_validation = (workdir / "report_validation.html").read_text()
  assert "validation split" in of_validation
  assert "test patch" not in of_validation


def test_a_log_file_gets_a_line_a_log_and_no_bar(trained):
  _, _, errors = trained
  lines = [line for line in errors.splitlines() if "step" in line]
  assert [line.split(":")[0] for line in lines] == [
    f"step {step}/6" for step in (2, 4, 6)
  ]
  assert "\r" not in errors


def test_the_environment_is_left_alone():
  """A compiler option that this jaxlib does not know ends no command."""
  code = """
import os
from experiments import command
from geojax.training import compilation
before = dict(os.environ)
compilation._CPU_OPTIONS["xla_cpu_no_such_option"] = "1"
with command.running(["main.py"]):
  known = compilation.options()
assert len(known) == 2, known
assert before == dict(os.environ)
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=_ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    check=True,
    capture_output=True,
    text=True,
  )
  assert "without the XLA option xla_cpu_no_such_option" in done.stderr


def test_a_run_that_is_asked_to_stop_exits_for_a_scheduler(smoke, tmp_path):
  """With 75, EX_TEMPFAIL: not done; and the same command ends it."""
  arguments = [
    *("--config=experiments/configs/base.py", f"--workdir={tmp_path}"),
    *(*_SMALL.split(), *tiny_encoder.FLAGS, f"--config.data.dir={smoke}"),
    *("--config.num_steps=100000", "--config.eval_every=100000"),
    "--config.checkpoint_every=100000",
  ]
  with subprocess.Popen(
    [sys.executable, "experiments/main.py", *arguments],
    cwd=_ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    for line in process.stderr:
      if line.startswith("step 4/"):
        process.send_signal(signal.SIGTERM)
        break
    printed, errors = process.communicate()
  assert process.returncode == os.EX_TEMPFAIL, errors
  assert "is saved; the same command goes on" in printed


def _one_line(stderr):
  lines = [line for line in stderr.splitlines() if line.strip()]
  return lines[-1]


def test_a_data_set_that_is_not_built_is_one_sentence(tmp_path):
  done = _main(tmp_path / "run", f"--config.data.dir={tmp_path}")
  assert done.returncode == 1
  assert "python -m data_prep.build --config=earth" in _one_line(done.stderr)
  assert "Traceback" not in done.stderr


def test_an_unknown_key_names_the_nearest(tmp_path):
  done = _main(tmp_path, "--config.optimizer.learning_rte=1")
  assert done.returncode != 0
  assert "learning_rate" in done.stderr


@pytest.mark.parametrize(
  "command",
  [
    "experiments.main",
    "experiments.evaluate",
    "experiments.predict",
    "data_prep.build",
  ],
)
def test_no_command_imports_tensorflow(command):
  code = f"import sys, {command}; assert 'tensorflow' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=True)
