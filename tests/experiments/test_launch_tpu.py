"""The script for TPU VMs, with a stub of gcloud."""

import subprocess

import pytest
from launch_stubs import EXPECTED, LAUNCH, OPTION

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
    *(LAUNCH / "tpu_vm.sh", *arguments),
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
  assert _tpu_vm(stubs, "run", OPTION, codes=codes)[0] == expected
  calls = stubs.calls("python")
  assert len(calls) == 2
  for call in calls:
    assert call[1:3] == ["experiments/main.py", "--distributed"]
    assert set(EXPECTED) <= set(call)


def test_a_lost_connection_is_not_a_success(stubs):
  assert _tpu_vm(stubs, "run", codes=(0, 0), gcloud=(255,))[0] == 255


def test_training_goes_on_after_75_and_after_a_preemption(stubs):
  (stubs.folder / "preempted").write_text("PREEMPTED\n")
  # Both workers each time: cut off with the TPU, then hung, then done.
  codes = (137, 137, 75, 75, 0, 0)
  code, err = _tpu_vm(stubs, "train", OPTION, codes=codes)
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
