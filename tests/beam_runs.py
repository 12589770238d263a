"""Builds on Beam by the command: in processes, or by Beam's own job server."""

import contextlib
import subprocess
import sys
import time

import build_runs

DIRECT = (
  "--beam_runner=DirectRunner",
  "--beam_option=--direct_running_mode=multi_processing",
  "--beam_option=--direct_num_workers=2",
)


@contextlib.contextmanager
def job_server(folder):
  """Yields flags by which Beam's own job server runs workers as processes."""
  port = folder / "port"
  python = sys.executable
  with (folder / "log").open("w") as log:
    server = subprocess.Popen(
      [python, "-m", "apache_beam.runners.portability.local_job_service_main"]
      + [f"--port_file={port}", f"--staging_dir={folder / 'staging'}"],
      cwd=build_runs.REPO,
      stdout=log,
      stderr=log,
    )
  try:
    while not port.exists():
      assert server.poll() is None, (folder / "log").read_text()
      time.sleep(0.05)
    worker = f"{python} -m apache_beam.runners.worker.sdk_worker_main"
    yield (
      "--beam_runner=PortableRunner",
      f"--beam_option=--job_endpoint=localhost:{port.read_text()}",
      "--beam_option=--environment_type=beam:env:harness_subprocess_python:v1",
      f"--beam_option=--environment_config={worker}",
    )
  finally:
    server.kill()
    server.wait()


def finish(process):
  """Exit code, output and errors of the command."""
  stdout, stderr = process.communicate(timeout=300)
  return process.returncode, stdout, stderr.strip()
