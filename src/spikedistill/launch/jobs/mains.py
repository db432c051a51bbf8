"""The Snakemake processes that run in a working directory, by the locks that they hold."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spikedistill.launch.jobs.local import PROC

if TYPE_CHECKING:
    from spikedistill.launch.jobs.find import Found

SIGINT_BIT = 1 << (signal.SIGINT - 1)


@dataclass(frozen=True)
class MainProcess:
    """A Snakemake process.

    Attributes:
        pid: its number on its machine.
        host: its machine.
        is_here: whether it is known to be this user's, on this machine and in this working directory.
        outputs: absolute paths of the files that it makes.
    """

    pid: int
    host: str
    is_here: bool
    outputs: frozenset[str]

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def main_processes() -> list[MainProcess]:
    """Return the Snakemake processes of this working directory; those on other machines may have been killed there."""
    from snakemake_executor_plugin_submitit.tracking.locks import lock_owners

    found = []
    for owner, locks in lock_owners(Path(".snakemake") / "locks"):
        if owner.host != socket.gethostname():
            found.append(MainProcess(owner.pid, owner.host, False, _outputs(locks)))
        elif _is_snakemake_here(owner.pid):
            found.append(MainProcess(owner.pid, owner.host, True, _outputs(locks)))
    return found


def of_other_runs(jobs: Iterable[Found], mains: Sequence[MainProcess]) -> dict[str, MainProcess]:
    """Return the Snakemake process that makes the artifact of each job, by the job's id; jobs without one are left out.

    Of a job whose stage is not in the plan, it says that the job is not stale: that process runs with another configuration.
    """
    makers = {Path(output).parent.name: main for main in mains for output in main.outputs}
    return {found.job.job_id: makers[found.artifact] for found in jobs if found.artifact in makers}


def interrupt(main: MainProcess) -> bool:
    """Do what Ctrl-C does; return False if it has ended, or ignores that, as when it was started with `&` in a script."""
    try:
        pinned = os.pidfd_open(main.pid)
    except OSError:
        return False
    try:
        if not (_is_snakemake_here(main.pid) and _minds_interrupts(main.pid)):
            return False
        signal.pidfd_send_signal(pinned, signal.SIGINT)
    except OSError:
        return False
    finally:
        os.close(pinned)
    return True


def _is_snakemake_here(pid: int) -> bool:
    """Return whether a process is this user's Snakemake in this working directory, whoever wrote the note that names it."""
    process = PROC / str(pid)
    try:
        is_mine = process.stat().st_uid == os.geteuid()
        words = (process / "cmdline").read_bytes().split(b"\0")
        return is_mine and any(b"snakemake" in word for word in words[:3]) and (process / "cwd").samefile(".")
    except OSError:
        return False


def _minds_interrupts(pid: int) -> bool:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
        caught = next(line for line in lines if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) & SIGINT_BIT)
    except (OSError, StopIteration, ValueError, IndexError):
        return False


def _outputs(locks: list[Path]) -> frozenset[str]:
    found: set[str] = set()
    for lock in locks:
        if lock.name.endswith(".output.lock"):
            try:
                found |= {str(Path(line).absolute()) for line in lock.read_text(encoding="utf-8").splitlines()}
            except (OSError, ValueError):
                continue
    return frozenset(found)
