#!/usr/bin/env bash
# Trains on a TPU VM or a pod of them.
#
#   tpu_vm.sh create            creates it, unless it is there
#   tpu_vm.sh install           installs this commit on all workers
#   tpu_vm.sh run [OPTION ...]  runs main.py on all workers, once
#   tpu_vm.sh train [OPTION ...]
#       all three, again after exit status 75 and after a pre-emption
#   tpu_vm.sh delete            deletes it, unless it is gone
#
# Variables: NAME and ZONE of the TPU; ACCELERATOR, VERSION and SPOT (1 or 0) to
# create it; WORKDIR and DATA, gs:// URLs or folders that all workers share;
# CONFIG; REPOSITORY, a URL that the workers can clone, and REVISION, a commit
# in it; REMOTE_PYTHON, at least 3.11, on the workers; MAX_RESTARTS.
#
# Tested with a stub of gcloud, not on a TPU.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?its zone, such as us-west4-a}"
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-1}
CONFIG=${CONFIG:-experiments/configs/base.py}
REMOTE_PYTHON=${REMOTE_PYTHON:-python3.11}
MAX_RESTARTS=${MAX_RESTARTS:-100}
TEMPFAIL=75
STATUS="geojax exit status:"

tpu() {
  local verb=$1
  shift
  gcloud compute tpus tpu-vm "$verb" "$NAME" --zone="$ZONE" "$@"
}

# READY, CREATING, PREEMPTED, ..., or nothing where there is no such TPU.
state() {
  tpu describe --format="value(state)" 2> /dev/null || true
}

on_workers() {
  tpu ssh --worker=all --command="$1"
}

create() {
  local spot=()
  case "$(state)" in
    READY) return ;;
    "") ;;
    # What was pre-empted can only be deleted.
    *) delete || return ;;
  esac
  if [ "$SPOT" = 1 ]; then spot=(--spot); fi
  tpu create --accelerator-type="$ACCELERATOR" --version="$VERSION" \
    "${spot[@]}"
}

delete() {
  if [ -n "$(state)" ]; then tpu delete --quiet; fi
}

install() {
  local repository revision
  repository=${REPOSITORY:-$(git remote get-url origin)} || return
  revision=${REVISION:-$(git rev-parse HEAD)} || return
  on_workers "set -e
    [ -d geojax ] || git clone --quiet $(printf %q "$repository") geojax
    cd geojax
    git fetch --quiet origin
    git checkout --quiet $(printf %q "$revision")
    [ -d .venv ] || $(printf %q "$REMOTE_PYTHON") -m venv .venv
    .venv/bin/python -m pip install --quiet --no-deps -r requirements.txt
    .venv/bin/python -m pip install --quiet --editable '.[gcs]'
    .venv/bin/python -m pip install --quiet 'jax[tpu]==0.10.*'"
}

# Status of the workers: 75 if one of them asks for a restart, else the first
# other than 0. gcloud's own status would not show the difference.
run() {
  : "${WORKDIR:?gs:// URL or shared folder of the run}"
  : "${DATA:?gs:// URL or shared folder of the data set}"
  local command log statuses status=0
  command=$(printf "%q " .venv/bin/python experiments/main.py --distributed \
    --config="$CONFIG" --workdir="$WORKDIR" --config.data.dir="$DATA" \
    --config.step_deadline_s=600 "$@")
  log=$(mktemp)
  on_workers "cd geojax && { $command; echo \"$STATUS \$?\"; }" | tee "$log" ||
    status=$?
  statuses=$(sed -n "s/.*$STATUS //p" "$log")
  rm "$log"
  if grep -qx "$TEMPFAIL" <<< "$statuses"; then return "$TEMPFAIL"; fi
  for found in $statuses; do
    if [ "$found" -ne 0 ]; then return "$found"; fi
  done
  return "$status"
}

train() {
  local code restarts=0
  while true; do
    code=0
    { create && install && run "$@"; } || code=$?
    if [ "$code" -eq 0 ]; then return; fi
    # An error of the run itself comes again; a pre-emption may not.
    if [ "$code" -ne "$TEMPFAIL" ] && [ "$(state)" = READY ]; then
      return "$code"
    fi
    restarts=$((restarts + 1))
    if [ "$restarts" -gt "$MAX_RESTARTS" ]; then
      echo "tpu_vm.sh: gave up after $MAX_RESTARTS restarts" >&2
      return "$code"
    fi
    echo "tpu_vm.sh: exit status $code; restart $restarts" >&2
  done
}

case "${1:-}" in
  create | install | run | train | delete) "$@" ;;
  *)
    echo "usage: $0 create|install|run|train|delete [OPTION OF main.py ...]" >&2
    exit 2
    ;;
esac
