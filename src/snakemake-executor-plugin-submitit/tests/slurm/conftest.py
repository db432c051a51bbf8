import random
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from slurm_lab.cluster import SlurmCluster
from slurm_lab.scenarios import Scenarios

NUM_NODES = 4


def free_ports(count: int) -> int:
    """The first of `count` consecutive ports that nobody listens on."""
    for first in random.sample(range(21_000, 31_000, count), 100):  # two test runs may start in the same instant
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise RuntimeError("no free ports")


def resolve_node_names() -> None:
    """MASTER_ADDR of a job over several nodes is a node's name, so it must resolve."""
    hosts = Path("/etc/hosts")
    known = hosts.read_text().split()
    missing = [f"127.0.0.1 node{i}\n" for i in range(1, NUM_NODES + 1) if f"node{i}" not in known]
    if missing:
        with hosts.open("a") as stream:
            stream.writelines(missing)


def running_cluster(**options):
    root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    resolve_node_names()
    cluster = SlurmCluster(root, cpus=4, port=free_ports(NUM_NODES + 2), **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_cluster():
    yield from running_cluster(num_nodes=NUM_NODES)


@pytest.fixture(scope="session", autouse=True)
def time_limits(request, tmp_path_factory):
    """Trainings for `test_time_limit.py`, started with the cluster since they take minutes; None where it does not run."""
    if not any(item.path.name == "test_time_limit.py" for item in request.session.items):
        yield None
        return
    with Scenarios(request.getfixturevalue("slurm_cluster"), tmp_path_factory.mktemp("time_limit")) as started:
        started.train("limit", copies="ab", runtime=1, extra="nodelist='node4'", starts=4)
        started.train("exhausted", runtime=1, extra="nodelist='node4', tasks_per_node=2, max_requeues=1", starts=9)
        yield started


@pytest.fixture(scope="session")
def bare_cluster():
    """One node, no accounting; memory limits are enforced."""
    yield from running_cluster(num_nodes=1, accounting=False)
