import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import SlurmCluster

NUM_NODES = 4


def free_ports(count: int) -> int:
    """The first of `count` consecutive ports that nobody listens on."""
    for first in range(21_000, 31_000, count):
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


@pytest.fixture(scope="session")
def bare_cluster():
    """One node, no accounting; memory limits are enforced."""
    yield from running_cluster(num_nodes=1, accounting=False)
