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

_ROOT = pathlib.Path(__file__).parents[2]
_LAUNCH = _ROOT / "experiments" / "launch"
_SCRIPTS = sorted(_LAUNCH.glob("*.sh"))
# A space in each value, and what a shell would expand.
_WORKDIR = "gs://bucket/runs/a b"
_DATA = "gs://bucket/$HOME data"
_OPTION = "--config.tasks=('coords', 'date')"
_EXPECTED = (
  f"--workdir={_WORKDIR}",
  f"--config.data.dir={_DATA}",
  "--config.step_deadline_s=600",
  _OPTION,
)
_STUB = """#!/usr/bin/env bash
name=$(basename "$0")
{ printf '%s\\0' "$name" "$@"; printf '\\n\\0'; } >> "$STUBS/log"
[ ! -e "$STUBS/$name.sh" ] || source "$STUBS/$name.sh"
code=$(head -n 1 "$STUBS/$name.codes" 2> /dev/null || echo 0)
sed -i 1d "$STUBS/$name.codes" 2> /dev/null
exit "${code:-0}"
"""


class _Stubs:
  """Stubs of commands in a folder, and the calls of them."""

  def __init__(self, folder):
    self.folder = folder
    self.environment = {
      "PATH": f"{folder}:{os.environ['PATH']}",
      "STUBS": str(folder),
      "HOME": str(folder),
      "PYTHON": "python",
      "WORKDIR": _WORKDIR,
      "DATA": _DATA,
    }

  def add(self, name, *codes, body=""):
    """Adds a stub with its exit statuses, and what it does before."""
    path = self.folder / name
    path.write_text(_STUB)
    path.chmod(0o755)
    (self.folder / f"{name}.codes").write_text(
      "".join(f"{code}\n" for code in codes)
    )
    (self.folder / f"{name}.sh").write_text(body)

  def calls(self, name=None):
    """Returns the words of each call, of all stubs or of one."""
    log = self.folder / "log"
    content = log.read_text() if log.exists() else ""
    calls = [call.split("\0")[:-1] for call in content.split("\n\0")[:-1]]
    return [call for call in calls if name in (None, call[0])]

  def run(self, *command, **environment):
    """Runs a command with the stubs; returns its status and standard error."""
    done = subprocess.run(
      command,
      cwd=_ROOT,
      env={**self.environment, **environment},
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
    )
    return done.returncode, done.stderr


@pytest.fixture
def stubs(tmp_path):
  return _Stubs(tmp_path)


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
  "path", sorted(_LAUNCH.iterdir()), ids=lambda path: path.name
)
def test_each_file_states_that_it_was_not_run_on_its_service(path):
  assert "# Tested with" in path.read_text()


# One machine with GPUs.


def _gpu_box(stubs, **environment):
  return stubs.run(_LAUNCH / "gpu_box.sh", _OPTION, **environment)


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
  assert set(_EXPECTED) <= set(calls[0])


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
    [_LAUNCH / "gpu_box.sh"], env=stubs.environment, stderr=subprocess.PIPE
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
  code, err = stubs.run(_LAUNCH / script, WORKDIR="")
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
    *("bash", _LAUNCH / "slurm.sh", _OPTION),
    SLURM_SUBMIT_DIR=str(_ROOT),
    SLURM_JOB_ID="17",
  )
  assert code == status
  (call,) = stubs.calls("srun")
  assert call[1:4] == ["python", "experiments/main.py", "--distributed"]
  assert set(_EXPECTED) <= set(call)
  requeues = [["scontrol", "requeue", "17"]] if requeued else []
  assert stubs.calls("scontrol") == requeues


def test_a_job_is_warned_ahead_of_its_time_limit():
  lines = (_LAUNCH / "slurm.sh").read_text().splitlines()
  # Slurm reads no option below the first command.
  header = lines[: lines.index("set -euo pipefail")]
  assert "#SBATCH --signal=TERM@120" in header
  assert "#SBATCH --requeue" in header


# TPU VMs.

# Runs what is sent to the workers, where the test asks for it; the state is
# what the last call left.
_GCLOUD = """verb=$4
case "$verb" in
  describe) cat "$STUBS/state"; [ -s "$STUBS/state" ] || exit 1; exit 0 ;;
  create) echo READY > "$STUBS/state"; exit 0 ;;
  delete) : > "$STUBS/state"; exit 0 ;;
esac
for word in "$@"; do
  case "$word" in
    --command=*main.py*)
      mkdir -p "$STUBS/geojax/.venv/bin"
      cp "$STUBS/python" "$STUBS/geojax/.venv/bin/python"
      for worker in 0 1; do (cd "$STUBS" && bash -c "${word#--command=}"); done
      [ ! -e "$STUBS/preempted" ] || mv "$STUBS/preempted" "$STUBS/state" ;;
  esac
done
"""


def _tpu_vm(stubs, *arguments, state="", codes=(), gcloud=()):
  stubs.add("gcloud", *gcloud, body=_GCLOUD)
  stubs.add("python", *codes)
  (stubs.folder / "state").write_text(state)
  return stubs.run(
    *(_LAUNCH / "tpu_vm.sh", *arguments),
    NAME="my tpu",
    ZONE="zone",
    REPOSITORY="https://host/a b.git",
    REVISION="abc",
  )


def _verbs(stubs):
  calls = stubs.calls("gcloud")
  assert all(call[1:4] == ["compute", "tpus", "tpu-vm"] for call in calls)
  assert all(call[5:7] == ["my tpu", "--zone=zone"] for call in calls)
  return [call[4] for call in calls if call[4] != "describe"]


@pytest.mark.parametrize(
  ("verb", "state", "verbs"),
  [
    ("create", "", ["create"]),
    ("create", "READY\n", []),
    ("create", "PREEMPTED\n", ["delete", "create"]),
    ("delete", "READY\n", ["delete"]),
    ("delete", "", []),
  ],
)
def test_a_tpu_is_created_and_deleted_once(verb, state, verbs, stubs):
  assert _tpu_vm(stubs, verb, state=state)[0] == 0
  assert _verbs(stubs) == verbs


def test_the_same_commit_is_installed_on_all_workers(stubs):
  assert _tpu_vm(stubs, "install")[0] == 0
  (call,) = stubs.calls("gcloud")
  assert "--worker=all" in call
  command = call[-1].removeprefix("--command=")
  assert r"git clone --quiet https://host/a\ b.git geojax" in command
  assert "git checkout --quiet abc" in command
  checked = subprocess.run(["bash", "-n", "-c", command], check=False)
  assert checked.returncode == 0


@pytest.mark.parametrize(
  ("codes", "expected"),
  [((0, 0), 0), ((1, 1), 1), ((0, 1), 1), ((134, 75), 75)],
)
def test_all_workers_run_the_command_and_their_statuses_count(
  codes, expected, stubs
):
  assert _tpu_vm(stubs, "run", _OPTION, codes=codes)[0] == expected
  calls = stubs.calls("python")
  assert len(calls) == 2
  for call in calls:
    assert call[1:3] == ["experiments/main.py", "--distributed"]
    assert set(_EXPECTED) <= set(call)


def test_a_lost_connection_is_not_a_success(stubs):
  assert _tpu_vm(stubs, "run", codes=(0, 0), gcloud=(255,))[0] == 255


def test_training_goes_on_after_75_and_after_a_preemption(stubs):
  (stubs.folder / "preempted").write_text("PREEMPTED\n")
  # Both workers each time: cut off with the TPU, then hung, then done.
  codes = (137, 137, 75, 75, 0, 0)
  code, err = _tpu_vm(stubs, "train", _OPTION, codes=codes)
  assert code == 0, err
  once = ["ssh", "ssh"]
  assert _verbs(stubs) == ["create", *once, "delete", "create", *once, *once]


def test_training_ends_with_an_error_of_the_run(stubs):
  code, _ = _tpu_vm(stubs, "train", state="READY\n", codes=(1, 1))
  assert code == 1
  assert _verbs(stubs) == ["ssh", "ssh"]


def test_an_unknown_verb_is_refused(stubs):
  code, err = _tpu_vm(stubs, "stop")
  assert code == 2
  assert "usage" in err
  assert not stubs.calls("gcloud")


# Kubernetes.


def _jobset():
  return yaml.safe_load((_LAUNCH / "jobset.yaml").read_text())["spec"]


def test_a_pod_runs_the_command_of_its_number(stubs):
  stubs.add("python", 75)
  (job,) = _jobset()["replicatedJobs"]
  (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
  variables = {item["name"]: item["value"] for item in container["env"]}
  given = {**variables, "WORKDIR": _WORKDIR, "DATA": _DATA}
  code, _ = stubs.run(*container["command"], **given, JOB_COMPLETION_INDEX="1")
  assert code == 75
  (call,) = stubs.calls()
  assert set(_EXPECTED) - {_OPTION} <= set(call)
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
