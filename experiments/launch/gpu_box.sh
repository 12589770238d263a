#!/usr/bin/env bash
# Trains on all GPUs of one machine, and starts again after a step that hung.
#
#   WORKDIR=runs/base experiments/launch/gpu_box.sh [OPTION OF main.py ...]
#
# Variables: WORKDIR, DATA (folder of the data set, default `data`), CONFIG,
# PYTHON, and MAX_RESTARTS, how often exit status 75 starts it again. SIGTERM and
# Ctrl-C save and end it with 75.
#
# Tested with a stub of Python, not on a machine with several GPUs.
set -euo pipefail
: "${WORKDIR:?folder of the run, or a gs:// URL}"
DATA=${DATA:-data}
CONFIG=${CONFIG:-experiments/configs/base.py}
PYTHON=${PYTHON:-.venv/bin/python}
MAX_RESTARTS=${MAX_RESTARTS:-20}
TEMPFAIL=75
cd "$(dirname "$0")/../.."

# A signal must reach Python, which saves, and not start it again.
stopped=false
child=
# The trap calls it.
# shellcheck disable=SC2329
stop() {
  stopped=true
  if [ -n "$child" ]; then kill -TERM "$child" 2> /dev/null || true; fi
}
trap stop TERM INT

restarts=0
until "$stopped"; do
  "$PYTHON" experiments/main.py --config="$CONFIG" --workdir="$WORKDIR" \
    --config.data.dir="$DATA" --config.step_deadline_s=600 "$@" &
  child=$!
  code=0
  wait "$child" || code=$?
  # A signal ends `wait` before Python has saved.
  while kill -0 "$child" 2> /dev/null; do
    code=0
    wait "$child" || code=$?
  done
  if [ "$code" -ne "$TEMPFAIL" ] || "$stopped"; then exit "$code"; fi
  restarts=$((restarts + 1))
  if [ "$restarts" -gt "$MAX_RESTARTS" ]; then
    echo "gpu_box.sh: gave up after $MAX_RESTARTS restarts" >&2
    exit "$code"
  fi
  echo "gpu_box.sh: exit status $code; restart $restarts" >&2
done
exit "$TEMPFAIL"
