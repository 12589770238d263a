"""Scripts that start runs, with stubs of the services that they start them on.

A stub writes its arguments to a log and ends with the next status it is given.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from launch_stubs import DATA, EXPECTED, LAUNCH, OPTION, ROOT, WORKDIR

_SCRIPTS = sorted(LAUNCH.glob("*.sh"))


def _find_shellcheck():
  beside_python = pathlib.Path(sys.executable).with_name("shellcheck")
  return beside_python if beside_python.exists() else shutil.which("shellcheck")


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script):
  if not (shellcheck := _find_shellcheck()):
    pytest.skip("no shellcheck: install requirements-test.txt")
  done = subprocess.run(
    [shellcheck, script], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout
  assert os.access(script, os.X_OK)


@pytest.mark.parametrize(
  "path", sorted(LAUNCH.iterdir()), ids=lambda path: path.name
)
def test_each_file_states_that_it_was_not_run_on_its_service(path):
  assert "# Tested with" in path.read_text()


# One machine with GPUs.


def _gpu_box(stubs, **environment):
  return stubs.run(LAUNCH / "gpu_box.sh", OPTION, **environment)


def test_one_machine_starts_again_on_75_and_ends_on_0(stubs):
  stubs.add("python", 75, 75, 0)
  code, err = _gpu_box(stubs)
  assert code == 0
  assert "restart 2" in err
  calls = stubs.calls()
  assert len(calls) == 3
  # The same command each time, word for word.
  assert calls[0] == calls[1] == calls[2]
  assert calls[0][:2] == ["python", "experiments/main.py"]
  assert set(EXPECTED) <= set(calls[0])


def test_one_machine_does_not_start_again_on_1(stubs):
  stubs.add("python", 1, 0)
  assert _gpu_box(stubs)[0] == 1
  assert len(stubs.calls()) == 1


def test_one_machine_gives_up_after_a_number_of_restarts(stubs):
  stubs.add("python", *[75] * 9)
  code, err = _gpu_box(stubs, MAX_RESTARTS="2")
  assert code == 75
  assert "gave up after 2 restarts" in err
  assert len(stubs.calls()) == 3


def test_a_signal_to_the_script_reaches_python_and_ends_both(stubs):
  # Saves for a moment, as a run does.
  body = """trap 'sleep 0.2; echo saved > "$STUBS/saved"; exit 75' TERM
: > "$STUBS/ready"
while true; do sleep 0.05; done
"""
  stubs.add("python", body=body)
  with subprocess.Popen(
    [LAUNCH / "gpu_box.sh"],
    env=stubs.environment,
    stderr=subprocess.PIPE,
  ) as process:
    deadline = time.monotonic() + 60
    while not (stubs.folder / "ready").exists():
      assert time.monotonic() < deadline
      time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
  assert process.returncode == 75
  assert (stubs.folder / "saved").exists()
  assert len(stubs.calls()) == 1


@pytest.mark.parametrize("script", ["gpu_box.sh", "slurm.sh"])
def test_a_script_without_a_workdir_starts_nothing(script, stubs):
  stubs.add("python")
  stubs.add("srun")
  code, err = stubs.run(LAUNCH / script, WORKDIR="")
  assert code != 0
  assert "WORKDIR" in err
  assert not stubs.calls()


# Slurm.


@pytest.mark.parametrize(
  ("status", "requeued"), [(0, False), (1, False), (75, True)]
)
def test_a_job_is_queued_again_on_75_alone(status, requeued, stubs):
  stubs.add("srun", status)
  stubs.add("scontrol")
  code, _ = stubs.run(
    *("bash", LAUNCH / "slurm.sh", OPTION),
    SLURM_SUBMIT_DIR=str(ROOT),
    SLURM_JOB_ID="17",
  )
  assert code == status
  (call,) = stubs.calls("srun")
  assert call[1:4] == ["python", "experiments/main.py", "--distributed"]
  assert set(EXPECTED) <= set(call)
  requeues = [["scontrol", "requeue", "17"]] if requeued else []
  assert stubs.calls("scontrol") == requeues


def test_a_job_is_warned_ahead_of_its_time_limit():
  lines = (LAUNCH / "slurm.sh").read_text().splitlines()
  # Slurm reads no option below the first command.
  header = lines[: lines.index("set -euo pipefail")]
  assert "#SBATCH --signal=TERM@120" in header
  assert "#SBATCH --requeue" in header


# Kubernetes.


def _jobset():
  return yaml.safe_load((LAUNCH / "jobset.yaml").read_text())["spec"]


def test_a_pod_runs_the_command_of_its_number(stubs):
  stubs.add("python", 75)
  (job,) = _jobset()["replicatedJobs"]
  (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
  variables = {item["name"]: item["value"] for item in container["env"]}
  given = {
    **variables,
    "WORKDIR": WORKDIR,
    "DATA": DATA,
  }
  code, _ = stubs.run(*container["command"], **given, JOB_COMPLETION_INDEX="1")
  assert code == 75
  (call,) = stubs.calls()
  assert set(EXPECTED) - {OPTION} <= set(call)
  assert {"--num_processes=2", "--process_id=1"} <= set(call)
  # The name of the first pod, by the rules of JobSet.
  assert "--coordinator=geojax-train-0-0.geojax:8476" in call


def test_pods_are_started_again_on_75_and_after_preemption_alone():
  spec = _jobset()
  (job,) = spec["replicatedJobs"]
  template = job["template"]["spec"]
  assert template["backoffLimit"] == 0
  assert template["template"]["spec"]["restartPolicy"] == "Never"
  first, second = template["podFailurePolicy"]["rules"]
  # Rules are tried in turn: a pre-empted pod ends with a status other than 75.
  assert first["action"] == "Count"
  assert first["onPodConditions"] == [{"type": "DisruptionTarget"}]
  assert second["action"] == "FailJob"
  assert second["onExitCodes"]["operator"] == "NotIn"
  assert second["onExitCodes"]["values"] == [os.EX_TEMPFAIL]
  (rule,) = spec["failurePolicy"]["rules"]
  assert rule["action"] == "FailJobSet"
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  (container,) = template["template"]["spec"]["containers"]
  assert second["onExitCodes"]["containerName"] == container["name"]
  number = template["parallelism"]
  assert template["completions"] == number
  assert {"name": "NUM_PROCESSES", "value": str(number)} in container["env"]
