"""Fixtures that any conftest may import: a Slurm cluster, one for each test session (or worker) however many conftests do."""

import contextlib

import pytest

from slurm_lab.cluster import PROGRAMS, SlurmCluster, running_cluster
from slurm_lab.requirements import require
from slurm_lab.time_limits import Background

ADVICE = "on Debian, as root: apt-get install slurm-wlm slurmdbd slurm-client munge mariadb-server"
MAX_ARRAY_SIZE = 21  # small, so that 50 jobs do not fit one array

_clusters = pytest.StashKey[contextlib.ExitStack]()
_slurm, _bare = pytest.StashKey[SlurmCluster](), pytest.StashKey[SlurmCluster]()


@pytest.fixture(scope="session")
def slurm_cluster(request: pytest.FixtureRequest) -> SlurmCluster:
    """Start four nodes of four CPUs, with accounting."""
    return _shared(request.config, _slurm, num_nodes=4, max_array_size=MAX_ARRAY_SIZE)


@pytest.fixture(scope="session")
def bare_cluster(request: pytest.FixtureRequest) -> SlurmCluster:
    """Start one node without accounting; memory limits are enforced."""
    return _shared(request.config, _bare, num_nodes=1, accounting=False)


@pytest.fixture(scope="session")
def time_limits(tmp_path_factory: pytest.TempPathFactory) -> Background:
    """Start the jobs that reach their time limits, on a cluster of their own in the background, unless another worker has."""
    _require_slurm()
    return Background.of_session(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def begin_time_limits(request: pytest.FixtureRequest) -> None:
    """Start the jobs that take minutes with the first Slurm test of a session, whichever that is."""
    if any(item.path.name == "test_time_limit.py" for item in request.session.items):
        request.getfixturevalue("time_limits")


def _shared(config: pytest.Config, key: pytest.StashKey[SlurmCluster], **options: object) -> SlurmCluster:
    _require_slurm()
    if _clusters not in config.stash:
        config.stash[_clusters] = contextlib.ExitStack()
        config.add_cleanup(config.stash[_clusters].close)
    if key not in config.stash:
        config.stash[key] = config.stash[_clusters].enter_context(running_cluster(**options))
    return config.stash[key]


def _require_slurm() -> None:
    require("a Slurm cluster on this machine", PROGRAMS, ADVICE, root=True)
