"""The ranks of one job: how they receive their command, watch each other, and stop together.

They share a folder that every node sees. `spmd` on rank 0 publishes `command-<n>.json`; every rank writes
`status-<n>-<rank>.json` when its process has ended; `end` means that no further command follows. Files are written atomically.
The connections of `rank_channel` report sooner that a rank has ended or vanished.

The folder and its files are private: a command is what the ranks execute, and it holds the key of their connections. It does not
hold the job's environment, in which users keep passwords and which every rank has anyway. It only holds the variables that
changed between the start of rank 0's task and `spmd`, for example by conda, modules or the rule; to detect them,
`environment.json` has a keyed digest of each variable.
"""

import contextlib
import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.job import network
from snakemake_executor_plugin_submitit.job.network import host
from snakemake_executor_plugin_submitit.job.rank_channel import Client, Server, new_key
from snakemake_executor_plugin_submitit.jsonfile import read_json, write_json
from snakemake_executor_plugin_submitit.private import FILE_MODE
from snakemake_executor_plugin_submitit.processes import end_with_parent, signal_name

END = "end"
ENVIRONMENT = "environment.json"
FAILURE = "failure.json"
POLL_S = 0.1
FILE_CHECK_S = 1.0  # between checks of files, which may lie on a network file system
LOST_S = 2.0  # from the end of a connection to the conclusion that the rank has vanished
TERMINATE_S = 5.0
PREFIX = "SPMD_"
PER_RANK = ("SPMD_", "SLURM", "SUBMITIT_", "CUDA_VISIBLE_DEVICES")  # the variables that a rank keeps from its own environment


@dataclass(frozen=True)
class Member:
    """One rank of a job."""

    folder: str
    rank: int
    world_size: int
    local_rank: int
    node_rank: int
    num_nodes: int

    def to_environment(self) -> dict[str, str]:
        """Return environment variables from which `from_environment` restores the member."""
        return {PREFIX + name.upper(): str(value) for name, value in vars(self).items()}

    @classmethod
    def from_environment(cls) -> "Member | None":
        """Return the rank of this process, or None outside of a job."""
        try:
            values = {name: os.environ[PREFIX + name.upper()] for name in cls.__dataclass_fields__}
        except KeyError:
            return None
        return cls(folder=values.pop("folder"), **{name: int(value) for name, value in values.items()})

    def distributed_environment(self, address: str, port: int) -> dict[str, str]:
        """Return the variables that torch.distributed reads."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.world_size // self.num_nodes),
            "NODE_RANK": str(self.node_rank),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }


def attempt_folder(job_dir: Path, job_id: str, restarts: str | int, requeues: int) -> Path:
    """Return the folder that the ranks share in one attempt at a job.

    Args:
        job_dir: the job's folder.
        job_id: the job's id.
        restarts: how often Slurm has restarted the job.
        requeues: how often a time limit has ended it.
    """
    return job_dir / f"ranks-{job_id}-{restarts}-{requeues}"


def prepare_child() -> None:
    """Make a child, before exec, die with its parent and ignore the signal that announces the time limit."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def note_environment(folder: Path) -> None:
    """Record the environment that every rank has, on rank 0 before its command starts; as digests, not values.

    Raises:
        OSError: if the file cannot be written.
    """
    salt = secrets.token_hex(16)
    write_json(folder / ENVIRONMENT, {"salt": salt, "digests": {n: _digest(salt, v) for n, v in os.environ.items()}})


def _changed_environment(folder: Path) -> dict[str, Any]:
    """Return the variables to set and to unset on the other ranks, so that they have those of this process."""
    noted = read_json(folder / ENVIRONMENT)
    if noted is None:
        raise SystemExit(f"spmd: {folder / ENVIRONMENT} is missing: this job cannot run on several ranks")
    known, salt = noted["digests"], noted["salt"]
    shared = {name: value for name, value in os.environ.items() if not name.startswith(PER_RANK)}
    unset = [name for name in known if name not in os.environ and not name.startswith(PER_RANK)]
    return {"set": {n: v for n, v in shared.items() if known.get(n) != _digest(salt, v)}, "unset": unset}


def _digest(salt: str, value: str) -> str:
    return hmac.new(salt.encode(), value.encode(errors="surrogateescape"), "sha256").hexdigest()


def lead(me: Member, argv: list[str]) -> int:
    """Publish a command on rank 0, run it, and wait for every rank; return the exit status of the whole job."""
    folder = Path(me.folder)
    number = _claim_number(folder)
    address, key = network.rank0_address(me.num_nodes), new_key()
    server = Server(address, me.world_size, key)
    command = {"argv": argv, "cwd": str(Path.cwd()), "address": address, "port": _free_port(address)}
    command |= {"server_port": server.port, "key": key, "environment": _changed_environment(folder)}
    published = folder / f"command-{number}.json"
    write_json(published, command)
    peers = _Peers(me, number, server)
    report = _run(me, command, os.environ, lambda: bool(peers.failures()))
    peers.add(report)
    if report["stopped"]:  # from outside, perhaps this rank alone: at a time limit
        server.stop_all()
    failure = peers.wait()
    server.close()
    if failure is None:
        published.unlink(missing_ok=True)  # every rank has read it
        return int(report["status"])
    if failure.get("lost"):
        failure["node_down"] = _is_node_down(failure["host"])
    where = f"rank {failure['rank']} on {failure['host']}"
    print(f"spmd: {where}: {describe_failure(failure)}; all ranks were stopped", file=sys.stderr, flush=True)
    print(_describe_network(me, address), end="", file=sys.stderr, flush=True)
    write_json(folder / FAILURE, failure)
    return exit_status(int(failure["status"]))


def follow(me: Member, umask: int = -1) -> int:
    """On any other rank, run the commands that rank 0 publishes, until the end; `umask` is that of the commands."""
    folder = Path(me.folder)
    number = 0
    pause_s = POLL_S
    while True:
        command = read_json(folder / f"command-{number}.json")
        if command is not None:
            _follow_command(me, number, command, umask)
            number += 1
            pause_s = POLL_S
        elif (folder / END).exists():
            return 0
        else:
            time.sleep(pause_s)
            pause_s = min(FILE_CHECK_S, 1.05 * pause_s)


def _follow_command(me: Member, number: int, command: dict[str, Any], umask: int) -> None:
    from snakemake_executor_plugin_submitit.job.staging import stage_on_this_node

    folder = Path(me.folder)
    client = Client.connect(command["address"], command["server_port"], command["key"], me.rank, host())
    next_check = 0.0

    def is_over() -> bool:
        nonlocal next_check
        if client is not None and client.should_stop():
            return True
        if time.monotonic() < next_check:
            return False
        next_check = time.monotonic() + FILE_CHECK_S
        return (folder / END).exists() or (folder / FAILURE).exists()

    changes = command["environment"]
    environment = {name: value for name, value in os.environ.items() if name not in changes["unset"]} | changes["set"]
    try:
        for line in stage_on_this_node(environment):
            print(f"stage_in: {line}", flush=True)
    except OSError as err:
        raise SystemExit(f"spmd: rank {me.rank}: stage_in: no links to the inputs on {host()}: {err}") from err
    report = _run(me, command, environment, is_over, umask)
    if report["status"] and not report["stopped"]:
        print(f"spmd: rank {me.rank}: {describe_failure(report)}", file=sys.stderr, flush=True)
        print(_describe_network(me, command["address"]), end="", file=sys.stderr, flush=True)
    write_json(folder / f"status-{number}-{me.rank}.json", report)
    if client is not None:
        client.report(report)
        client.close()


def read_failure(folder: str) -> dict[str, Any] | None:
    """Return the first rank that failed (rank, host, exit status, whether it vanished), or None if none did."""
    return read_json(Path(folder) / FAILURE)


class _Peers:
    """Track the other ranks, on rank 0, during one command."""

    def __init__(self, me: Member, number: int, server: Server) -> None:
        self._me, self._number, self._server = me, number, server
        self._reports: dict[int, dict[str, Any]] = {}
        self._next_check = 0.0

    def add(self, report: dict[str, Any]) -> None:
        """Record the report of a rank that has ended."""
        self._reports[report["rank"]] = report

    def failures(self) -> list[dict[str, Any]]:
        """Return the reports of the ranks that failed on their own."""
        now = time.monotonic()
        self._reports |= self._server.reports
        for rank, since in list(self._server.lost_at.items()):
            if rank not in self._reports and now - since > LOST_S:
                lost = {"rank": rank, "host": self._server.hosts[rank], "status": 1, "stopped": False, "lost": True}
                self._reports[rank] = read_json(self._file(rank)) or lost | {"time": time.time() - (now - since)}
        if now >= self._next_check:
            self._next_check = now + FILE_CHECK_S
            silent = set(range(1, self._me.world_size)) - self._reports.keys() - self._server.connected
            self._reports |= {rank: found for rank in silent if (found := read_json(self._file(rank)))}
        return [r for r in self._reports.values() if r["status"] != 0 and not r["stopped"]]

    def wait(self) -> dict[str, Any] | None:
        """Wait until every rank has ended; return the report of the first that failed on its own."""
        deadline = None
        while len(self._reports) < self._me.world_size:
            if deadline is None and self.failures():
                deadline = time.monotonic() + 2 * TERMINATE_S
                self._server.stop_all()
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
            self.failures()
        return min(self.failures(), key=_cause_first, default=None)

    def _file(self, rank: int) -> Path:
        return Path(self._me.folder) / f"status-{self._number}-{rank}.json"


def _cause_first(report: dict[str, Any]) -> float:
    """Return a sort key, the time of failure; a killed rank causes failures that may be noticed just before its own."""
    was_killed = report.get("lost") or report["status"] < 0
    return float(report["time"]) - LOST_S * was_killed


def _claim_number(folder: Path) -> int:
    number = 0
    while True:
        try:
            (folder / f"claim-{number}").touch(FILE_MODE, exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return number


def _run(
    me: Member, command: dict[str, Any], inherited: Mapping[str, str], is_over: Callable[[], bool], umask: int = -1
) -> dict[str, Any]:
    """Run the command on this rank, stop it when `is_over`, and return this rank's report.

    A signal from outside (preemption, scancel, time limit) is passed on, and from then on the command has the time that Slurm and
    the job's task give it.
    """
    environment = dict(inherited) | me.distributed_environment(command["address"], command["port"])
    environment |= {k: v for k, v in network.interface_variables(command["address"]).items() if k not in environment}
    stopped = False
    signalled = False

    def pass_on(number: int, frame: Any) -> None:
        nonlocal signalled
        signalled = True
        _kill(child, me, signal.SIGTERM)

    try:
        child = subprocess.Popen(
            command["argv"],
            cwd=command["cwd"],
            env=environment,
            preexec_fn=prepare_child,
            start_new_session=me.rank > 0,
            umask=umask,
        )
    except OSError as err:
        print(f"spmd: cannot run {command['argv'][0]!r}: {err.strerror}", file=sys.stderr, flush=True)
        status = 127
    else:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        while (code := child.poll()) is None:
            if not stopped and not signalled and is_over():
                stopped = True
                _stop(child, me)
            time.sleep(POLL_S)
        status = code
    ended = time.time()
    if status in (-signal.SIGTERM, -signal.SIGKILL) and not signalled:
        time.sleep(5 * POLL_S)  # the same signal may be on its way to this process
    report = {"rank": me.rank, "host": host(), "status": status, "stopped": stopped or signalled}
    return report | {"time": ended, "age": time.time() - ended}


def _stop(child: "subprocess.Popen[bytes]", me: Member) -> None:
    _kill(child, me, signal.SIGTERM)
    deadline = time.monotonic() + TERMINATE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    _kill(child, me, signal.SIGKILL)


def _kill(child: "subprocess.Popen[bytes]", me: Member, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if me.rank:
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)


def exit_status(status: int) -> int:
    """Return the exit status to use for a failed process: its own, or 1 if it was killed by a signal."""
    return status if 0 < status < 256 else 1


def describe_failure(failure: dict[str, Any]) -> str:
    """Describe in a few words how a rank failed."""
    if "how" in failure:
        return str(failure["how"])
    if failure.get("lost"):
        return "gone, its node does not answer" if failure["node_down"] else "killed from outside"
    status = int(failure["status"])
    return f"killed by {signal_name(-status)}" if status < 0 else f"exit status {status}"


def _describe_network(me: Member, address: str) -> str:
    """Return a line that names the interface and the variables to change, because the network may have caused a failure."""
    if me.num_nodes == 1:
        return ""
    interface = os.environ.get("GLOO_SOCKET_IFNAME") or network.interface_towards(address)
    return (
        f"spmd: rank {me.rank} on {host()} reaches MASTER_ADDR {address} by interface {interface}; if the ranks did not meet, "
        f"set {' and '.join(network.INTERFACE_VARIABLES)} to another one\n"
    )


def _is_node_down(node: str) -> bool:
    """Return True if nothing listens where the slurmd of that node should."""
    facts = network.slurm_node(node)
    if "NodeAddr" not in facts or "Port" not in facts:
        return False
    try:
        socket.create_connection((facts["NodeAddr"], int(facts["Port"])), timeout=5.0).close()
    except OSError:
        return True
    return False


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            probe.bind(("", 0))
        return int(probe.getsockname()[1])
