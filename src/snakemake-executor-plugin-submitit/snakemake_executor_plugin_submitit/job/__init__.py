"""Run inside a job: the task that submitit starts on every rank, `spmd`, the ranks' channel, and Snakemake's start-up."""
