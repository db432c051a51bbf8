"""The clusters; the jobs that take minutes begin with the first test."""

from slurm_lab.fixtures import bare_cluster, begin_time_limits, slurm_cluster, time_limits  # noqa: F401
