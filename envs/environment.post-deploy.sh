#!/usr/bin/env bash
# Snakemake runs this in a new conda environment, in the working directory of the workflow.
set -euo pipefail
if [ -d src/snakemake-executor-plugin-submitit ]; then
    python -m pip install -c envs/constraints.txt -e src/snakemake-executor-plugin-submitit -e .
else # a project of `spikedistill init`
    python -m pip install spikedistill
fi
