"""One writer per artifact, across machines with different clocks: a lease file with a heartbeat, and a fence.

File locks are unreliable on network file systems; creating a file by hard link is atomic on all of them. The holder touches its
file every few seconds. Another process may take a lease over once the process that holds it is known to be gone from this
machine, or once it has watched the file stay the same for `STALE_S` of its own monotonic clock: no clock is compared with that
of another machine, and a date in the future means nothing.

A holder that was suspended for longer than that may find its lease taken when it resumes. So every heartbeat, and whoever commits
a result, checks the fence: the file must still hold the token of this very lease. A holder that lost it stops and says so.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from spikedistill.errors import ArtifactError
from spikedistill.store.atomic import shared_folder

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
STALE_S = 120.0
POLL_S = 1.0
RESTORE_LOOKS = 5
_NAME = "lease"


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease.

    Attributes:
        owner: name of the job, shared by all its ranks.
        host: name of the machine.
        pid: process number on that machine.
        token: distinguishes this lease from every other; None in the file of an earlier version.
        process: identity of the process, see the executor plugin's `ProcessId`; None in the file of an earlier version.
    """

    owner: str
    host: str
    pid: int
    token: str | None = None
    process: dict[str, Any] | None = None

    def is_gone(self) -> bool:
        """Return True if the process is known to have ended: it ran on this machine, and no longer exists or is a zombie."""
        from snakemake_executor_plugin_submitit.processes import ProcessId

        if self.process is None:
            return False
        try:
            return not ProcessId.from_json(self.process).is_alive()
        except (TypeError, ValueError, OverflowError):
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class LeaseLostError(ArtifactError):
    """Another process took over the lease that this one held."""


class Lease:
    """A lease that this process holds; `check` it before anything becomes final."""

    def __init__(self, path: Path, owner: str, *, heartbeat: bool = True) -> None:
        """Describe a lease at `path` for the job `owner`; nothing is taken yet.

        Args:
            path: the lease file.
            owner: name of the job.
            heartbeat: keep it alive; not needed for what takes much less than `STALE_S`.
        """
        from snakemake_executor_plugin_submitit.processes import ProcessId

        self.path = path
        self.token = uuid.uuid4().hex
        self._content = json.dumps(
            {
                "owner": owner,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "token": self.token,
                "process": ProcessId.own().to_json(),
            }
        )
        self._file = -1
        self._stop = threading.Event()
        self._ending = threading.Lock()
        self._beat = threading.Thread(target=self._keep, name="lease-heartbeat", daemon=True) if heartbeat else None
        self._lost = False

    def acquire(self) -> bool:
        """Create the lease file unless there is one; return True if it is this lease now."""
        shared_folder(self.path.parents[1])
        self.path.parent.mkdir(exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{self.token}")
        try:
            draft.write_text(self._content, encoding="utf-8")
            try:
                self.path.hardlink_to(draft)
            except FileExistsError:
                if draft.stat().st_nlink != 2:  # else a network file system repeated a request that had succeeded
                    return False
            self._file = os.open(draft, os.O_RDONLY)
        except FileNotFoundError:  # its last holder is just removing the folder
            return False
        finally:
            draft.unlink(missing_ok=True)
        if self._beat is not None:
            self._beat.start()
        return True

    def check(self) -> None:
        """Check that this process still holds the lease.

        Raises:
            LeaseLostError: if it does not.
            OSError: if that cannot be known, because the file system does not answer.
        """
        holder = _find_holder(self.path)
        if holder is not None and holder.token == self.token:
            return
        self._lost = True
        taker = f"{holder} took it over" if holder else "a run that took it over has finished, or somebody removed its file"
        raise LeaseLostError(
            f"{self.path.parent.name}: this process lost its lease: {taker}. It had shown no sign of life for more than "
            f"{STALE_S:.0f} s: suspended, or cut off from the file system. It stops here and leaves everything to the other run, "
            "which goes on from the last checkpoint"
        )

    def release(self) -> None:
        """Stop the heartbeat and remove the lease file if it is still this lease. May be called again."""
        with self._ending:
            self._stop.set()
        if self._beat is not None:
            self._beat.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if not self._lost:
            _remove(self.path, self.token)

    def _keep(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self.check()
                os.utime(self._file)  # of this lease's own file, whatever lies at its path by now
            except LeaseLostError as err:
                log.error("%s", err)
                with self._ending:
                    if not self._stop.is_set():
                        _thread.interrupt_main()
                return
            except OSError as err:
                log.warning("%s: no heartbeat: %s", self.path, err.strerror or err)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._leave(error)
        except KeyboardInterrupt as interrupt:
            if not self._lost:
                raise
            self._leave(error or interrupt)  # the heartbeat noticed the loss just as the block ended, and interrupted this

    def _leave(self, error: BaseException | None) -> None:
        """Release the lease; if the block failed because it was lost, say so instead of what followed from it."""
        with self._ending:
            self._stop.set()
        failed = error is not None and not isinstance(error, LeaseLostError)
        if failed and not self._lost:
            with contextlib.suppress(OSError, LeaseLostError):
                self.check()  # a loss that no heartbeat has noticed yet
        self.release()
        if failed and self._lost:
            self.check()


class Followed:
    """The lease that rank 0 of a job holds, as its other ranks see it."""

    def __init__(self, path: Path) -> None:
        """Take the lease at `path`, which `wait_for_owner` has found to be that of this job.

        Raises:
            LeaseLostError: if nobody holds it any more.
        """
        holder = read_holder(path)
        self.path = path
        self.token = (holder.token if holder else None) or ""
        if not self.token:
            raise LeaseLostError(f"{path.parent.name}: rank 0 of this job no longer holds its lease")

    def check(self) -> None:
        """Check that rank 0 still holds it.

        Raises:
            LeaseLostError: if it does not.
            OSError: if that cannot be known, because the file system does not answer.
        """
        holder = _find_holder(self.path)
        if holder is None or holder.token != self.token:
            raise LeaseLostError(f"{self.path.parent.name}: rank 0 of this job no longer holds its lease; this rank stops, too")


def lease_path(work: Path) -> Path:
    """Return the lease file of an artifact whose work in progress lies in the folder `work`."""
    return work / _NAME


def is_lease_file(path: Path) -> bool:
    """Return whether a file in a work folder is a lease, or one that is being taken or dropped."""
    return path.name.startswith(_NAME)


def read_holder(path: Path, *, errors: bool = False) -> Holder | None:
    """Return the holder of the lease at `path`; None if nobody holds it, or if the file makes no sense.

    Args:
        path: the lease file.
        errors: raise the `OSError` of a file that cannot be read instead of returning None.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        if errors:
            raise
        return None
    except (ValueError, RecursionError):
        return None
    match content:
        case {"owner": str(owner), "host": str(host), "pid": int(pid), **rest}:
            token, process = rest.get("token"), rest.get("process")
            return Holder(
                owner, host, pid, token if isinstance(token, str) else None, process if isinstance(process, dict) else None
            )
    return None


def _find_holder(path: Path) -> Holder | None:
    """Return the holder of a lease; look again while there is none, for a file may be put back within moments."""
    for _ in range(RESTORE_LOOKS):
        with contextlib.suppress(FileNotFoundError):
            return read_holder(path, errors=True)
        time.sleep(POLL_S / 5)
    return None


def heartbeat_age_s(path: Path) -> float:
    """Return the seconds since the last heartbeat by the clock of the file system; 0 where that clock cannot be read.

    This is for people to read; takeovers do not rely on it.

    Raises:
        OSError: if there is no lease.
    """
    beat = path.stat().st_mtime
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - beat)
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


@contextlib.contextmanager
def held(path: Path, owner: str, until: Callable[[], bool]) -> Iterator[Lease | None]:
    """Hold the lease at `path` for the block; wait while another process holds it.

    Args:
        path: the lease file, see `lease_path`; its folder is created.
        owner: name of the job, shared by all its ranks.
        until: called while waiting; once it returns true there is nothing left to do.

    Yields:
        The lease; None when `until` returned true first.

    Raises:
        LeaseLostError: at the end of a block that failed because another process took the lease over.
    """
    watch = _Watch(path)
    while not (lease := Lease(path, owner)).acquire():
        watch.look()
        if until():
            yield None
            return
        time.sleep(POLL_S)
    with lease:
        yield lease


def wait_for_owner(path: Path, owner: str, until: Callable[[], bool]) -> bool:
    """Wait, on any rank but 0, until rank 0 of the same job holds the lease.

    Returns:
        True when it does; False when `until` returned true first.
    """
    while not (holder := read_holder(path)) or holder.owner != owner:
        if until():
            return False
        time.sleep(POLL_S / 5)
    return True


class _Watch:
    """Watches a lease of another process, and removes it once that process is gone or shows no sign of life."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, bytes] | None = None
        self._since_s = 0.0
        self._announced = False

    def look(self) -> None:
        """Look at the lease once; call again every second or so."""
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, self._path.read_bytes())
        except OSError:
            self._seen = None
            return
        holder = read_holder(self._path)
        if not self._announced:
            log.info("waiting: %s is being made by %s", self._path.parent.name, holder or "an unknown process")
            self._announced = True
        if seen != self._seen:
            self._seen, self._since_s = seen, time.monotonic()
        silent_s = time.monotonic() - self._since_s
        is_gone = holder is not None and holder.is_gone()
        if not is_gone and silent_s < STALE_S:
            return
        why = "which has ended" if is_gone else f"which gave no sign of life for {silent_s:.0f} s"
        log.warning("taking over %s from %s, %s", self._path.parent.name, holder or "an unknown process", why)
        _remove(self._path, seen[2])


def _remove(path: Path, expected: str | bytes) -> None:
    """Remove a lease file if it is the expected one, by its token or by its whole content; leave that of anybody else."""
    grave = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(grave)
    except OSError:
        return
    content = grave.read_bytes()
    if content != expected and (isinstance(expected, bytes) or expected.encode() not in content):
        with contextlib.suppress(FileExistsError):  # another process was faster, and this is its new lease: put it back
            path.hardlink_to(grave)
    grave.unlink(missing_ok=True)
