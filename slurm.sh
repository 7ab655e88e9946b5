#!/usr/bin/env bash
#SBATCH --job-name=boundary-loss --gpus=1 --cpus-per-task=8 --mem=32G --time=24:00:00
#SBATCH --requeue --signal=B:TERM@120
# The run matrix of a data set as a job array, one run per task; a run that was cut off continues
# when it is queued again.
#
#   make data/wmh/index.csv NAME=wmh LAYOUT=wmh RAW=data/raw          # before: scans to slices
#   sbatch --array=1-"$(make -s runs NAME=wmh | wc -l)" slurm.sh NAME=wmh
#   make custom NAME=wmh LAYOUT=wmh RAW=data/raw                      # after: table, figures, page
#
# The Makefile's variables follow NAME, the same in all three commands: LOSSES="gdl gdl+boundary"
# SEEDS="0 1 2".
set -euo pipefail

if [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || [ $# -eq 0 ]; then
    echo "error: slurm.sh: expected sbatch --array=1-N slurm.sh NAME=set," \
        "found no task or no name. See its first lines." >&2
    exit 2
fi
run=$(make -s runs "$@" | sed -n "${SLURM_ARRAY_TASK_ID}p")
if [ -z "$run" ]; then
    echo "error: --array: expected 1 to $(make -s runs "$@" | wc -l)," \
        "found $SLURM_ARRAY_TASK_ID. Give another range." >&2
    exit 2
fi
exec make "$run/evaluation.csv" "$@"
