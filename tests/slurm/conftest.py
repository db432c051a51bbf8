"""The cluster that the executor plugin's own tests use."""

from slurm_lab.fixtures import slurm_cluster  # noqa: F401
