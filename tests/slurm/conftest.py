"""The cluster that the executor plugin's own tests use."""

from slurm_lab.fixtures import begin_time_limits, slurm_cluster, time_limits  # noqa: F401
