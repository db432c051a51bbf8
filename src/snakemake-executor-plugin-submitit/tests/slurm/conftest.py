"""The clusters; and the jobs that take minutes are started by the first test of a session."""

import pytest

from slurm_lab.fixtures import bare_cluster, slurm_cluster, time_limits  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def _begin_early(request: pytest.FixtureRequest) -> None:
    if any(item.path.name == "test_time_limit.py" for item in request.session.items):
        request.getfixturevalue("time_limits")
