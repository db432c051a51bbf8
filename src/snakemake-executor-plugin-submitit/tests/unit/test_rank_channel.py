"""The connections between the ranks of a job, over real sockets."""

import json
import socket

import pytest

from slurm_lab.main_process import wait_for
from snakemake_executor_plugin_submitit.job.rank_channel import Client, Server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def test_stray_lines_do_not_keep_the_server_from_hearing_the_ranks(server):
    with socket.create_connection(("127.0.0.1", server.port)) as stray:
        for line in (b"5", b"[]", b"null", b"{", b"\xff", b'{"token": 5}', b""):
            stray.sendall(line + b"\n")
        stray.sendall(json.dumps({"token": server.token, "rank": 2, "host": "node2"}).encode() + b"\n")
        wait_for(lambda: server.connected == {2}, 5, "the rank that sent stray lines first")
    wait_for(lambda: server.connected == set() and 2 in server.lost_at, 5, "the end of its connection")
    client = Client.connect("127.0.0.1", server.port, server.token, 1, "node1")
    wait_for(lambda: server.connected == {1}, 5, "the next rank")
    client.report({"rank": 1, "status": 3, "age": 0.0})
    wait_for(lambda: 1 in server.reports, 5, "its report")
    assert server.reports[1]["status"] == 3
    assert not client.should_stop()
    server.stop_all()
    wait_for(client.should_stop, 5, "the word to stop")
    client.close()
