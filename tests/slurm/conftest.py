"""The cluster that the executor plugin's own tests use, and the environment of the installed wheels."""

from slurm_lab.fixtures import begin_time_limits, slurm_cluster, time_limits  # noqa: F401
from tests.install.conftest import installed, wheels  # noqa: F401
