"""Helpers of the tests: a Slurm cluster on this machine, and Snakemake run against it."""
