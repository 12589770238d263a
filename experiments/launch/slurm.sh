#!/usr/bin/env bash
# Trains under Slurm, one process a node, and queues the job again on status 75.
#
#   WORKDIR=/shared/runs/base sbatch --nodes=2 experiments/launch/slurm.sh \
#     [OPTION OF main.py ...]
#
# Submit it from the clone, which all nodes must see. Variables: WORKDIR, DATA
# (folder of the data set, default `data`), CONFIG and PYTHON.
#
# Tested with stubs of srun and scontrol, not on a cluster.
#
#SBATCH --job-name=geojax
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM two minutes ahead of the time limit: the run saves and exits with 75.
#SBATCH --signal=TERM@120
set -euo pipefail
: "${WORKDIR:?folder of the run on a shared disk, or a gs:// URL}"
DATA=${DATA:-data}
CONFIG=${CONFIG:-experiments/configs/base.py}
PYTHON=${PYTHON:-.venv/bin/python}
TEMPFAIL=75
# Slurm runs a copy of this file.
cd "$SLURM_SUBMIT_DIR"

code=0
srun "$PYTHON" experiments/main.py --distributed --config="$CONFIG" \
  --workdir="$WORKDIR" --config.data.dir="$DATA" \
  --config.step_deadline_s=600 "$@" || code=$?
if [ "$code" -eq "$TEMPFAIL" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
