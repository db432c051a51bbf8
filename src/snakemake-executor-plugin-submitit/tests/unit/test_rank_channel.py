"""The connections between the ranks of a job, over real sockets, and what strangers can do to them: nothing."""

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from slurm_lab.main_process import wait_for, write_snakefile
from slurm_lab.requirements import require
from slurm_lab.running import environment
from slurm_lab.stranger import ATTACK, as_nobody
from snakemake_executor_plugin_submitit.job import rank_channel
from snakemake_executor_plugin_submitit.job.rank_channel import Client, Server, new_key

HOST = "127.0.0.1"
KEY = new_key()
GARBAGE = (b"5", b"[]", b"null", b"{", b"\xff", b'{"token": 5}', b"", b"[" * 4000, b"0" * 32 + b" " + b"0" * 64 + b" {}")


@pytest.fixture
def server():
    server = Server(HOST, 4, KEY)
    yield server
    server.close()


def connect(server, rank=1, key=KEY):
    return Client.connect(HOST, server.port, key, rank, f"node{rank}")


def stranger(server):
    connection = socket.create_connection((HOST, server.port), timeout=5)
    assert len(connection.recv(100)) == 33, "each connection gets a nonce of its own"
    return connection


def is_closed(connection):
    with contextlib.suppress(TimeoutError):
        try:
            return connection.recv(100) == b""
        except ConnectionError:
            return True
    return False


def test_a_rank_is_heard_and_is_told_to_stop(server):
    client = connect(server)
    wait_for(lambda: server.connected == {1}, 5, "the rank")
    assert server.hosts == {1: "node1"}
    client.report({"rank": 1, "status": 3, "age": 0.0})
    wait_for(lambda: 1 in server.reports, 5, "its report")
    assert server.reports[1]["status"] == 3
    assert not client.should_stop()
    server.stop_all()
    wait_for(client.should_stop, 5, "the word to stop")
    late = connect(server, 2)
    wait_for(late.should_stop, 5, "the word to stop, for who comes later")
    client.close()
    wait_for(lambda: 1 in server.lost_at, 5, "the end of its connection")


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_whoever_has_no_proof_is_disconnected_and_the_ranks_are_heard(server, line):
    with stranger(server) as connection:
        connection.sendall(line + b"\n")
        assert is_closed(connection)
    client = connect(server)
    wait_for(lambda: server.connected == {1}, 5, "the rank")
    client.close()


def test_a_line_without_an_end_is_not_kept(server):
    with stranger(server) as connection, contextlib.suppress(ConnectionError):
        for _ in range(3):
            connection.sendall(b"x" * rank_channel.MAX_LINE)
        assert is_closed(connection)


def test_a_stranger_who_says_nothing_is_disconnected(server, monkeypatch):
    monkeypatch.setattr(rank_channel, "PROOF_TIMEOUT_S", 0.3)
    with stranger(server) as connection:
        assert is_closed(connection)


def test_many_strangers_do_not_keep_a_rank_out(server):
    strangers = [socket.create_connection((HOST, server.port), timeout=5) for _ in range(3 * rank_channel.MAX_STRANGERS)]
    client = connect(server)
    wait_for(lambda: server.connected == {1}, 5, "the rank")
    assert len(server._strangers) <= rank_channel.MAX_STRANGERS
    for connection in (client, *strangers):
        connection.close()


def test_the_key_is_not_sent_and_a_wrong_one_is_refused_by_both_ends(server, monkeypatch):
    sent = []
    forward = Relay(server.port, lambda data, to_server: sent.append(data) or data)
    assert Client.connect(HOST, forward.port, KEY, 1, "node1") is not None
    assert KEY.encode() not in b"".join(sent)
    monkeypatch.setattr(rank_channel, "CONNECT_TIMEOUT_S", 0.5)
    assert connect(server, 2, new_key()) is None
    assert connect(server, 7) is None, "there is no such rank"
    impostor = Relay(server.port, lambda data, to_server: data if to_server or b" " not in data else b"0" * len(data))
    assert Client.connect(HOST, impostor.port, KEY, 3, "node3") is None, "rank 0 has no proof"


def test_a_conversation_that_was_heard_cannot_be_replayed(server):
    heard = []
    forward = Relay(server.port, lambda data, to_server: (heard.append(data) if to_server else None) or data)
    client = Client.connect(HOST, forward.port, KEY, 1, "node1")
    client.report({"rank": 1, "status": 1, "age": 0.0, "stopped": False})
    wait_for(lambda: 1 in server.reports, 5, "the report")
    client.close()
    wait_for(lambda: 1 in server.lost_at, 5, "the end")
    server.reports.clear()
    with stranger(server) as connection:
        connection.sendall(b"".join(heard))
        assert is_closed(connection)
    assert server.reports == {}
    assert server.connected == set()


def test_a_message_that_is_repeated_or_changed_on_its_way_ends_the_connection(server):
    def twice(data, to_server):
        return data + data if b"status" in data else data

    client = Client.connect(HOST, Relay(server.port, twice).port, KEY, 1, "node1")
    client.report({"rank": 1, "status": 0, "age": 0.0})
    wait_for(lambda: 1 in server.lost_at, 5, "the end of the connection")

    def changed(data, to_server):
        return data.replace(b'"status": 0', b'"status": 9')

    client = Client.connect(HOST, Relay(server.port, changed).port, KEY, 2, "node2")
    client.report({"rank": 2, "status": 0, "age": 0.0})
    wait_for(lambda: 2 in server.lost_at, 5, "the end of the connection")
    assert 2 not in server.reports


def test_only_the_address_of_the_peers_is_listened_on(server):
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)


class Relay:
    """Somebody between the ranks, who sees and may change what they send."""

    def __init__(self, port, change):
        self._target, self._change = port, change
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection((HOST, self._target))
            for source, sink, to_server in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, to_server), daemon=True).start()

    def _pump(self, source, sink, to_server):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(self._change(data, to_server))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


ATTACKS = ("garbage", "endless", "half_open", "flood", "replay")
TWO_RANKS = """
    rule pair:
        output: touch("done")
        resources: tasks_per_node=2, mem_mb=100
        shell: "spmd sh -c 'touch here$RANK; while [ ! -e go ]; do sleep 0.1; done'"
"""


@pytest.mark.slow
def test_a_job_of_two_ranks_ends_well_under_attack_by_another_user(tmp_path):
    require("another user", (), "run as root", root=True)
    write_snakefile(tmp_path, TWO_RANKS)
    flags = ["--executor", "submitit", "--submitit-cluster", "local", "--jobs", "1"]
    with (tmp_path / "out").open("wb") as out:
        main = subprocess.Popen(["snakemake", *flags], cwd=tmp_path, env=environment(), stdout=out, stderr=out)
    attackers = []
    try:
        wait_for(lambda: listeners(tmp_path), 60, "rank 0 to listen")
        (leader, address, port), *more = listeners(tmp_path)
        assert (address, more) == (HOST, [])
        began, used = time.monotonic(), cpu_seconds(leader)
        line = (b"0" * 32 + b" " + b"0" * 64 + b' {"rank": 1, "host": "x"}\n').hex()
        attackers = [
            as_nobody(ATTACK, how, HOST, port, 8, line) for how in ("garbage", "endless", "half_open", "flood", "replay")
        ]
        for attacker in attackers:
            assert "begun 65534" in attacker.stdout.readline()
        wait_for(lambda: (tmp_path / "here1").exists(), 30, "both ranks")
        for attacker in attackers:
            attacker.wait(60)
        assert memory_mb(leader) < 200
        assert cpu_seconds(leader) - used < time.monotonic() - began, "rank 0 has more to do than to answer strangers"
        (tmp_path / "go").touch()
        assert main.wait(60) == 0, (tmp_path / "out").read_text()
    finally:
        main.kill()
        for attacker in attackers:
            attacker.kill()
            attacker.communicate()


def listeners(folder):
    """The process `spmd` of a folder, with each address and port on which it listens."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (process / "cwd").resolve() == folder and len(words) > 1 and words[1].endswith(b"/spmd"):
                inodes = {os.readlink(fd) for fd in (process / "fd").iterdir()}  # noqa: PTH115 - may be no path
                return [(int(process.name), *place) for place, inode in listening() if f"socket:[{inode}]" in inodes]
    return []


def listening():
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A":
            address, port = words[1].split(":")
            yield (socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)), words[9]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
