"""One writer per artifact, across machines: a lease file with a heartbeat.

File locks are unreliable on network file systems; creating a file by hard link is atomic on all of them. The holder touches its
file every few seconds. A lease with a stale heartbeat, or whose local owner process is gone, may be taken over.
"""

from __future__ import annotations

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
from typing import Any

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
STALE_S = 120.0
POLL_S = 1.0
_NAME = "lease"


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease.

    Attributes:
        owner: name of the job, shared by all its ranks.
        host: name of the machine.
        pid: process number on that machine.
        age_s: time since the last heartbeat.
    """

    owner: str
    host: str
    pid: int
    age_s: float

    @property
    def is_stale(self) -> bool:
        """True if the heartbeat is too old for the process to be alive."""
        return self.age_s > STALE_S

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def lease_path(work: Path) -> Path:
    """Return the lease file of an artifact whose work in progress lies in the folder `work`."""
    return work / _NAME


def is_lease_file(path: Path) -> bool:
    """Return whether a file in a work folder is a lease, or one that is being taken or dropped."""
    return path.name.startswith(_NAME)


def read_holder(path: Path) -> Holder | None:
    """Return who holds the lease at `path`; None if nobody does, or the file cannot be read."""
    try:
        age_s = time.time() - path.stat().st_mtime
        content = json.loads(path.read_text(encoding="utf-8"))
        return Holder(content["owner"], content["host"], int(content["pid"]), age_s)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def held(path: Path, owner: str, until: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lease at `path` for the block; wait while another process holds it.

    Args:
        path: the lease file, see `lease_path`; its folder is created.
        owner: name of the job, shared by all its ranks.
        until: called while waiting; once it returns true there is nothing left to do.

    Yields:
        True when the lease is held; False when `until` returned true first.
    """
    announced = False
    while not _acquire(path, owner):
        if until():
            yield False
            return
        if not announced:
            log.info("waiting: %s is being made by %s", path.parent.name, read_holder(path) or "another process")
            announced = True
        _drop_if_stale(path)
        time.sleep(POLL_S)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), name="lease-heartbeat", daemon=True)
    beat.start()
    try:
        yield True
    finally:
        stop.set()
        beat.join()
        path.unlink(missing_ok=True)


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


def _acquire(path: Path, owner: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        mine.write_text(json.dumps({"owner": owner, "host": socket.gethostname(), "pid": os.getpid()}), encoding="utf-8")
        path.hardlink_to(mine)
    except (FileExistsError, FileNotFoundError):  # held, or its holder is just removing the folder
        return False
    finally:
        mine.unlink(missing_ok=True)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _drop_if_stale(path: Path) -> None:
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    lease = _read(path)
    if not _is_dead(lease) and age_s < STALE_S:
        return
    log.warning("taking over from %s: no heartbeat for %.0f s", read_holder(path) or "an unknown process", age_s)
    grave = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(grave)
        if _read(grave) != lease:  # another process was faster, and this is its new lease: put it back
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(grave)
        grave.unlink()


def _is_dead(lease: dict[str, Any] | None) -> bool:
    if lease is None or lease["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(lease["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)
