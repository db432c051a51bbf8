"""The ranks of one job: how they learn what to run, watch each other, and stop together.

They meet in a folder that every node sees. `spmd` on rank 0 publishes `command-<n>.json`; every rank leaves
`status-<n>-<rank>.json` when its process ended; `end` says that there is nothing more to come. All files appear by rename.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END = "end"
POLL_S = 0.1
TERMINATE_S = 5.0
PREFIX = "SPMD_"
PER_RANK = ("SPMD_", "SLURM", "SUBMITIT_", "CUDA_VISIBLE_DEVICES")  # what a rank keeps of its own environment
_PR_SET_PDEATHSIG = 1


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
        """As environment variables, from which `from_environment` reads it back."""
        return {PREFIX + name.upper(): str(value) for name, value in vars(self).items()}

    @classmethod
    def from_environment(cls) -> "Member | None":
        """The rank of this process; None outside of a job."""
        try:
            values = {name: os.environ[PREFIX + name.upper()] for name in cls.__dataclass_fields__}
        except KeyError:
            return None
        return cls(folder=values.pop("folder"), **{name: int(value) for name, value in values.items()})

    def distributed_environment(self, address: str, port: int) -> dict[str, str]:
        """The variables that torch.distributed reads."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.world_size // self.num_nodes),
            "NODE_RANK": str(self.node_rank),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }


def prepare_child() -> None:
    """In a child before exec: die with the parent, and ignore the signal that announces the time limit."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.rename(path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def lead(me: Member, argv: list[str]) -> int:
    """On rank 0: publish a command, run it, and wait for every rank; returns the exit status of the gang."""
    folder = Path(me.folder)
    number = _claim_number(folder)
    command = {"argv": argv, "cwd": str(Path.cwd()), "address": _address(me), "port": _free_port()}
    command["environment"] = dict(os.environ)
    write_json(folder / f"command-{number}.json", command)
    status = _run(me, number, command)
    failure = _wait_for_all(me, number)
    if failure is None:
        return status
    print(_describe(failure), file=sys.stderr, flush=True)
    write_json(folder / "failure.json", failure)
    return int(failure["status"]) if 0 < int(failure["status"]) < 256 else 1


def follow(me: Member) -> int:
    """On another rank: run whatever rank 0 publishes, until the end."""
    folder = Path(me.folder)
    number = 0
    while True:
        command = _read_json(folder / f"command-{number}.json")
        if command is not None:
            _run(me, number, command)
            number += 1
        elif (folder / END).exists():
            return 0
        else:
            time.sleep(POLL_S)


def read_failure(folder: str) -> dict[str, Any] | None:
    """The first rank that failed: rank, host, exit status; None when none did."""
    return _read_json(Path(folder) / "failure.json")


def _claim_number(folder: Path) -> int:
    number = 0
    while True:
        try:
            (folder / f"claim-{number}").touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return number


def _run(me: Member, number: int, command: dict[str, Any]) -> int:
    """Run the command of all ranks on this one; stop it when another rank failed. Leaves this rank's status."""
    environment = {k: v for k, v in command["environment"].items() if not k.startswith(PER_RANK)}
    environment |= {k: v for k, v in os.environ.items() if k.startswith(PER_RANK)}
    environment |= me.distributed_environment(command["address"], command["port"])
    stopped = False
    started = time.time()
    try:
        child = subprocess.Popen(
            command["argv"], cwd=command["cwd"], env=environment, preexec_fn=prepare_child, start_new_session=me.rank > 0
        )
    except OSError as err:
        print(f"spmd: cannot run {command['argv'][0]!r}: {err.strerror}", file=sys.stderr, flush=True)
        status = 127
    else:
        _forward_signals(child, me)
        while (code := child.poll()) is None:
            if not stopped and _failures(me, number):
                stopped = True
                _stop(child, me)
            time.sleep(POLL_S)
        status = code
    report = {"rank": me.rank, "host": _host(), "status": status, "stopped": stopped, "time": time.time()}
    write_json(Path(me.folder) / f"status-{number}-{me.rank}.json", report | {"started": started})
    return status


def _forward_signals(child: "subprocess.Popen[bytes]", me: Member) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(child, me))


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


def _failures(me: Member, number: int) -> list[dict[str, Any]]:
    statuses = (_read_json(Path(me.folder) / f"status-{number}-{rank}.json") for rank in range(me.world_size))
    return [s for s in statuses if s and s["status"] != 0 and not s["stopped"]]


def _wait_for_all(me: Member, number: int) -> dict[str, Any] | None:
    """Wait until every rank left its status; returns the first that failed by itself."""
    folder = Path(me.folder)
    deadline = None
    while not all((folder / f"status-{number}-{rank}.json").exists() for rank in range(me.world_size)):
        if deadline is None and _failures(me, number):
            deadline = time.monotonic() + 2 * TERMINATE_S
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    failures = _failures(me, number)
    return min(failures, key=lambda s: s["time"]) if failures else None


def _describe(failure: dict[str, Any]) -> str:
    status = int(failure["status"])
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"
    return f"spmd: rank {failure['rank']} on {failure['host']} {how}; all ranks were stopped"


def _host() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _address(me: Member) -> str:
    """An address of this node that the others can reach."""
    if me.num_nodes == 1:
        return "127.0.0.1"
    name = _host()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return _slurm_address(name) or socket.gethostname()
    return name


def _slurm_address(node: str) -> str | None:
    try:
        shown = subprocess.run(["scontrol", "show", "node", node], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next((word.partition("=")[2] for word in shown.split() if word.startswith("NodeAddr=")), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
