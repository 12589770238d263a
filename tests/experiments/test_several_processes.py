"""Runs of several processes that cannot go on, through the command."""

import socket

import process_runs


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
