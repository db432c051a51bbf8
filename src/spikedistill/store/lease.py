"""One writer per artifact, across machines: a lease file with a heartbeat.

File locks are unreliable on network file systems; creating a file by hard link is atomic on all of them. The holder
touches its file; a lease whose heart stopped, or whose process on this machine is gone, may be taken over.
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
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
STALE_S = 120.0
POLL_S = 1.0


@contextlib.contextmanager
def held(path: Path, owner: str, until: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lease at `path` for the block; wait while another process holds it.

    Args:
        path: the lease file; its folder is created.
        owner: who holds it, shared by all ranks of one job.
        until: asked while waiting; when it turns true there is nothing left to do.

    Yields:
        True when the lease is held; False when `until` turned true first.
    """
    announced = False
    while not _acquire(path, owner):
        if until():
            yield False
            return
        if not announced:
            log.info("waiting: %s is being made by %s", path.parent.name, _describe(path))
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
    """Wait, on a rank that is not the first, until rank 0 of the same job holds the lease.

    Returns:
        True when it does; False when `until` turned true first.
    """
    while not (lease := _read(path)) or lease["owner"] != owner:
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
    except (FileExistsError, FileNotFoundError):  # held, or the folder is just being removed by who held it
        return False
    finally:
        mine.unlink(missing_ok=True)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _describe(path: Path) -> str:
    lease = _read(path) or {"host": "?", "pid": "?"}
    return f"process {lease['pid']} on {lease['host']}"


def _drop_if_stale(path: Path) -> None:
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    lease = _read(path)
    if not _is_dead(lease) and age_s < STALE_S:
        return
    log.warning("taking over from %s, which gave no sign of life for %.0f s", _describe(path), age_s)
    grave = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(grave)
        if _read(grave) != lease:  # another process was faster, and this is its new lease: give it back
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
