"""Runs of several processes that cannot go on, through the command."""

import os
import signal
import socket
import time

import process_runs
import pytest

from geojax import files
from geojax.training import logs


def test_processes_with_different_configs_all_report_who_differs(
  smoke, tmp_path
):
  arguments = [(), ("--config.mixture.log_kappa=4",)]
  with process_runs.start(smoke, tmp_path / "run", arguments) as started:
    printed = [process.communicate(timeout=120) for process in started]
  host = socket.gethostname()
  for process, (_, err) in zip(started, printed, strict=True):
    assert process.returncode == 1, err
    assert (
      f"{host} (process 1): config.mixture.log_kappa is 4.0, but 5.0 on {host}"
      " (process 0)"
    ) in err
    assert "Traceback" not in err
  assert not (tmp_path / "run").exists()


def test_a_process_without_the_data_set_ends_all(smoke, tmp_path):
  arguments = [(), (f"--config.data.dir={tmp_path / 'none'}",)]
  with process_runs.start(smoke, tmp_path / "run", arguments) as started:
    printed = [process.communicate(timeout=120) for process in started]
  for process, (_, err) in zip(started, printed, strict=True):
    assert process.returncode == 1, err
    assert "(process 1): DatasetError: config.data.name" in err


def test_a_workdir_that_is_in_use_ends_all(smoke, tmp_path):
  with (
    files.lock(tmp_path / "run/.lock"),
    process_runs.start(smoke, tmp_path / "run", [()] * 2) as started,
  ):
    printed = [process.communicate(timeout=120) for process in started]
  for process, (_, err) in zip(started, printed, strict=True):
    assert process.returncode == 1, err
    assert f"process {os.getpid()} trains in {tmp_path / 'run'}" in err
    assert "Traceback" not in err


def _wait_for_step(workdir, step, started):
  """Waits until a run has logged a step."""
  deadline = time.monotonic() + 400
  while time.monotonic() < deadline:
    for process in started:
      assert process.poll() is None, process.communicate()[1]
    if (workdir / "metrics.jsonl").exists():
      lines = logs.read_metrics(workdir)
      if any(line["step"] >= step for line in lines):
        return
    time.sleep(0.1)
  raise AssertionError(f"no step {step} in {workdir}")


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_others_with_75(smoke, tmp_path):
  flags = (
    "--config.step_deadline_s=10",
    "--config.num_steps=1000000",
    "--config.eval_every=1000000",
    "--config.log_every=1",
  )
  with process_runs.start(smoke, tmp_path / "run", [flags] * 3) as started:
    *others, hanging = started
    _wait_for_step(tmp_path / "run", 3, started)
    hanging.send_signal(signal.SIGSTOP)
    printed = [process.communicate(timeout=120) for process in others]
  for index, (_, err) in enumerate(printed):
    assert others[index].returncode == os.EX_TEMPFAIL, err
    assert "took longer than config.step_deadline_s, 10 s, on" in err
    assert f"{socket.gethostname()} (process {index} of 3)" in err
    # The stack of the thread that trains.
    assert "loop.py" in err
