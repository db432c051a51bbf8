"""The connections between the ranks of a job, over real sockets."""

import json
import socket

import pytest

from snakemake_executor_plugin_submitit.job.rank_channel import Hub, Line
from slurm_lab.main_process import wait_for


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


def test_stray_lines_do_not_keep_the_hub_from_hearing_the_ranks(hub):
    with socket.create_connection(("127.0.0.1", hub.port)) as stray:
        for line in (b"5", b"[]", b"null", b"{", b"\xff", b'{"token": 5}', b""):
            stray.sendall(line + b"\n")
        stray.sendall(json.dumps({"token": hub.token, "rank": 2, "host": "node2"}).encode() + b"\n")
        wait_for(lambda: hub.connected == {2}, 5, "the rank that sent stray lines first")
    wait_for(lambda: hub.connected == set() and 2 in hub.lost_at, 5, "the end of its connection")
    line = Line.connect("127.0.0.1", hub.port, hub.token, 1, "node1")
    wait_for(lambda: hub.connected == {1}, 5, "the next rank")
    line.report({"rank": 1, "status": 3, "age": 0.0})
    wait_for(lambda: 1 in hub.reports, 5, "its report")
    assert hub.reports[1]["status"] == 3
    assert not line.should_stop()
    hub.stop_all()
    wait_for(line.should_stop, 5, "the word to stop")
    line.close()
