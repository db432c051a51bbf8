"""Identify processes across runs, to tell whether one is still alive; end a child with its parent; name signals."""

import ctypes
import os
import signal
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PR_SET_PDEATHSIG = 1


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends; called in a child, before exec."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


@dataclass(frozen=True)
class ProcessId:
    """A process of one machine, boot and PID namespace; `started` distinguishes it from a later one with the same PID."""

    pid: int
    started: int
    host: str
    boot: str
    namespace: str

    @classmethod
    def own(cls) -> "ProcessId":
        """Return the identity of this process."""
        pid = os.getpid()
        return cls(pid, _start_time(pid) or 0, socket.gethostname(), _boot(), _namespace())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ProcessId":
        """Restore an identity from the output of `to_json`."""
        return cls(**content)

    def to_json(self) -> dict[str, Any]:
        """Return the identity as plain values."""
        return asdict(self)

    def is_alive(self) -> bool:
        """Return True if the process is alive, or if that cannot be determined from here."""
        if self.host != socket.gethostname():
            return True
        if self.boot != _boot():
            return False
        if self.namespace != _namespace():
            return True
        return _start_time(self.pid) == self.started


def is_group_alive(group: int) -> bool:
    """Return True while a process of a process group runs, also after its leader has ended."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _running(int(entry.name))) is not None and int(fields[2]) == group:
            return True
    return False


def _start_time(pid: int) -> int | None:
    """Return the clock ticks from boot to the start of a process, or None if it is gone or a zombie."""
    fields = _running(pid)
    return None if fields is None else int(fields[19])


def _running(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on, or None if the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else fields


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def signal_name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
