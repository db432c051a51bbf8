"""The tickets of a pool: one small file per job, in a private folder that the main process and all workers see.

    <pool>/queue/<number>-<uid>.json              waits; the lowest number is the oldest
    <pool>/claims/<worker>/<number>-<uid>.json    a worker has taken it: an atomic rename, so only one can
    <pool>/claims/<worker>/worker.json            where that worker runs, and its log
    <pool>/closed                                 no more tickets will come
    <pool>/room-wanted                            other jobs of this machine wait for the resources of idle workers

A worker is named after its job and how often Slurm has restarted it, as in `4711.0`. If a claim disappears, its worker stops the
job. If the queue disappears, no worker starts anything more. The folders are 0700; whoever reads a ticket checks that it is a
file of this user, so that nobody else can place a command there.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.jsonfile import read_json, write_json
from snakemake_executor_plugin_submitit.private import FILE_MODE, FOLDER_MODE, is_ours, make_folder

POOLS = "pools"  # the folder of all pools
QUEUE, CLAIMS, CLOSED, ROOM, WORKER = "queue", "claims", "closed", "room-wanted", "worker.json"
LARGEST_TICKET = 16 * 2**20


@dataclass(frozen=True)
class Ticket:
    """One job that waits for a worker.

    Attributes:
        uid: name of its done marker, which is unique.
        name: the job's name.
        command: the command line for bash.
        arguments: Snakemake's arguments, if the command is a plain call of it; a worker then forks. None: bash runs the command.
        cwd: working directory of that call; None: the worker's.
        job_dir: the job's folder, for log and result.
        done_marker: file to create once the result is written.
        runtime_s: time limit of the job.
        cpus: number of CPUs.
        mem_mb: memory in MB; 0: not limited.
        gpus: number of GPUs.
        max_requeues: how often it starts again after it has reached its time limit.
        timeouts: how often it has reached it.
        alone: it was in a worker that died; the next one runs it by itself, to see whether it is to blame.
    """

    uid: str
    name: str
    command: str
    arguments: list[str] | None
    cwd: str | None
    job_dir: str
    done_marker: str
    runtime_s: float
    cpus: int
    mem_mb: int
    gpus: int
    max_requeues: int
    timeouts: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Claim:
    """A ticket in the hands of a worker."""

    ticket: Ticket
    path: Path

    def is_held(self) -> bool:
        """Return False if the claim was withdrawn: then the job must stop."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def release(self) -> None:
        """Remove the claim; the job has its result."""
        self.path.unlink(missing_ok=True)


class TicketFolder:
    """The folder of one pool."""

    def __init__(self, folder: Path) -> None:
        """Describe it; nothing is written."""
        self.folder = folder
        self._listed: dict[str, str] = {}  # file names of tickets that have waited, by uid
        self._queue, self._claims, self._closed = folder / QUEUE, folder / CLAIMS, folder / CLOSED

    def create(self) -> None:
        """Create the folders.

        Raises:
            OSError: if they cannot be created, or belong to somebody else.
        """
        for folder in (self.folder, self._queue, self._claims):
            make_folder(folder)

    def check(self) -> None:
        """Check that nobody else could have put a ticket there.

        Raises:
            PermissionError: if somebody could.
            OSError: if there is no such folder.
        """
        for folder in (self.folder, self._queue, self._claims):
            if not is_ours(folder) or folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError(errno.EPERM, "others may write tickets there: it has to be private (0700)", str(folder))

    # --- the main process

    def put(self, ticket: Ticket, number: int) -> None:
        """Queue a ticket.

        Raises:
            OSError: if it cannot be written.
        """
        write_json(self._queue / f"{number:08d}-{ticket.uid}.json", asdict(ticket))

    def waiting(self) -> dict[str, str]:
        """Return the file names of the waiting tickets by uid, oldest first; empty if the queue has been removed."""
        return {_uid(name): name for name in _tickets(self._queue)}

    def claimed(self) -> dict[str, str]:
        """Return the worker that holds each ticket, by uid; if it was given back and claimed again, the last one."""
        return {_uid(name): worker for worker in self.workers() for name in _tickets(self._claims / worker)}

    def workers(self) -> list[str]:
        """Return the names of all workers that ever started, in natural sort order."""
        return sorted(_names(self._claims), key=lambda worker: (len(worker), worker))

    def withdraw(self, uid: str) -> bool:
        """Take a waiting ticket out of the queue; return False if there is none, as when a worker was faster."""
        if uid not in self._listed:
            self._listed = self.waiting()
        name = self._listed.pop(uid, None)  # one listing serves thousands of withdrawals
        return name is not None and self._withdraw(self._queue / name)

    def revoke(self, uid: str) -> bool:
        """Withdraw a ticket from the worker that holds it, which stops the job; return False if none holds it."""
        worker = self.claimed().get(uid)
        if worker is None:
            return False
        name = next((name for name in _tickets(self._claims / worker) if _uid(name) == uid), None)
        return name is not None and self._withdraw(self._claims / worker / name)

    def _withdraw(self, path: Path) -> bool:
        """Rename first: of two processes that want the same ticket, one gets it."""
        aside = self.folder / f".withdrawn-{path.name}"
        if not _renamed(path, aside):
            return False
        aside.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Tell the workers that no more tickets will come: they leave when the queue is empty."""
        with contextlib.suppress(OSError):
            self._closed.touch(FILE_MODE)

    def abolish(self) -> None:
        """Remove the queue with all that waits, in one step: no worker starts anything more."""
        self.close()
        with contextlib.suppress(OSError):
            self._queue.rename(self.folder / f"{QUEUE}-cancelled")

    def want_room(self, is_wanted: bool) -> None:
        """Ask idle workers to leave, or to stay."""
        with contextlib.suppress(OSError):
            if is_wanted:
                (self.folder / ROOM).touch(FILE_MODE)
            else:
                (self.folder / ROOM).unlink(missing_ok=True)

    def about(self, worker: str) -> dict[str, Any]:
        """Return what a worker says about itself; empty if it says nothing."""
        content = read_json(self._claims / worker / WORKER)
        return content if isinstance(content, dict) else {}

    # --- workers

    def enter(self, worker: str, about: dict[str, Any]) -> None:
        """Register a worker under its name, which is unique because it contains the id of its job.

        Raises:
            OSError: if the folder cannot be written to.
        """
        (self._claims / worker).mkdir(mode=FOLDER_MODE, exist_ok=True)
        write_json(self._claims / worker / WORKER, about)

    def claim(self, worker: str, fits: Callable[[Ticket], bool]) -> Claim | None:
        """Take the oldest ticket that fits, or none."""
        for name in _tickets(self._queue):
            ticket = read_ticket(self._queue / name)
            if ticket is None or not fits(ticket):
                continue
            path = self._claims / worker / name
            if _renamed(self._queue / name, path):
                return Claim(ticket, path)
        return None

    def give_back(self, claim: Claim, **changes: Any) -> bool:
        """Put a ticket back in its place, with changes; return False if it was withdrawn meanwhile.

        Raises:
            OSError: if it cannot be written.
        """
        if changes and claim.is_held():
            write_json(claim.path, asdict(replace(claim.ticket, **changes)))
        return _renamed(claim.path, self._queue / claim.path.name)

    def give_back_all(self, workers: list[str]) -> int:
        """Put back what dead workers hold; return how many tickets that were."""
        paths = [self._claims / worker / name for worker in workers for name in _tickets(self._claims / worker)]
        return sum(_renamed(path, self._queue / path.name) for path in paths)

    def is_closed(self) -> bool:
        """Return True if no more tickets come."""
        return self._closed.exists() or not self._queue.exists()

    def room_is_wanted(self) -> bool:
        """Return True if idle workers are to leave."""
        return (self.folder / ROOM).exists()


def done_marker(job_dir: Path) -> str:
    """Return the name of the file by which a job signals that its result is written."""
    return f"{job_dir.parent.name}+{job_dir.name}"


def job_dir_of(folder: Path, uid: str) -> Path:
    """Return the folder of the job of a ticket, given the executor's folder."""
    return folder.joinpath(*uid.rsplit("+", 1))


def job_id_of(worker: str) -> str:
    """Return the id of a worker's job."""
    return worker.rpartition(".")[0]


def read_ticket(path: Path) -> Ticket | None:
    """Return a ticket; None if it is gone, is damaged, or is not a plain file of this user."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_TICKET or not _is_mine(about, path.parent):
                return None
            return Ticket(**json.load(file))
    except (OSError, TypeError, ValueError):
        return None


def _is_mine(about: os.stat_result, folder: Path) -> bool:
    """Return True if a file has the owner of its private folder (a server may map users) and others cannot write it."""
    return about.st_uid == folder.stat().st_uid and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _tickets(folder: Path) -> Iterator[str]:
    return iter(sorted(name for name in _names(folder) if name[:1].isdigit() and name.endswith(".json")))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, not paths: cheap for thousands
    except OSError:
        return []


def _uid(name: str) -> str:
    return name.partition("-")[2].removesuffix(".json")


def _renamed(source: Path, target: Path) -> bool:
    """Rename a file; return False if that fails, or somebody was faster.

    A file server that gets a request twice may report a failure although the first one succeeded.
    """
    try:
        source.rename(target)
    except FileNotFoundError:
        return target.exists() and not source.exists()
    except OSError:  # the file system does not answer now
        return False
    return True
