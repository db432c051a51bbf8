"""Inside a job: the task that submitit starts on every rank, `spmd`, how ranks watch each other, and Snakemake's start-up."""
