"""The address at which ranks meet, and the interface; on two hosts that map their own names to 127.0.1.1."""

import json
import sys

import pytest

from slurm_lab.two_hosts import two_hosts
from snakemake_executor_plugin_submitit.job import network

TELL = """
import json, os, pathlib, socket, sys
names = ("MASTER_ADDR", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
told = {name: os.environ.get(name) for name in names} | {"own": socket.gethostbyname(socket.gethostname())}
pathlib.Path("rank" + os.environ["RANK"]).write_text(json.dumps(told))
sys.exit(3 * (os.environ["RANK"] == sys.argv[1]))
"""


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as made:
        yield made


def run(hosts, folder, *arguments, **extra):
    ranks = [hosts.start(index, folder, sys.executable, "-c", TELL, *arguments, **extra) for index in (0, 1)]
    outputs = [rank.communicate(timeout=60)[0] for rank in ranks]
    return [rank.returncode for rank in ranks], outputs, [json.loads((folder / f"rank{index}").read_text()) for index in (0, 1)]


def test_ranks_on_two_hosts_meet_at_an_address_that_both_reach(hosts, tmp_path):
    statuses, outputs, told = run(hosts, tmp_path, "none")
    assert statuses == [0, 0], outputs
    assert {each["own"] for each in told} == {"127.0.1.1"}
    assert {each["MASTER_ADDR"] for each in told} == {hosts.addresses[0]}
    assert {each["GLOO_SOCKET_IFNAME"] for each in told} == {"wire0"}
    assert {each["NCCL_SOCKET_IFNAME"] for each in told} == {"=wire0"}


def test_what_the_site_has_set_stays_and_a_failure_names_interface_and_variable(hosts, tmp_path):
    statuses, outputs, told = run(hosts, tmp_path, "1", GLOO_SOCKET_IFNAME="ib0")
    assert statuses[0] == 3
    assert {each["GLOO_SOCKET_IFNAME"] for each in told} == {"ib0"}
    assert {each["NCCL_SOCKET_IFNAME"] for each in told} == {"=wire0"}
    assert f"reaches MASTER_ADDR {hosts.addresses[0]} by interface ib0" in outputs[1]
    assert "set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to another one" in outputs[1]
    assert "the connections between the ranks" not in outputs[0]


def test_on_one_host_the_ranks_meet_where_no_other_host_can_connect():
    assert network.rank0_address(1) == "127.0.0.1"
    assert network.interface_towards("127.0.0.1") == "lo"
    assert network.interface_variables("127.0.0.1") == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}


def test_nodes_that_are_all_on_this_machine_meet_there(monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "localhost")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,127.0.0.1")
    assert network.rank0_address(2) == "127.0.0.1"


def test_what_cannot_be_found_is_none_and_changes_nothing(monkeypatch):
    assert network.interface_towards("no-such-host.invalid") is None
    assert network.interface_variables("no-such-host.invalid") == {}
    assert network.source_towards("no address") is None
