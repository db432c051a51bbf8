"""A file on a slow disk, and a group of processes whose memory is limited; both need root.

The disk is a file that nbdkit serves with a delay and nbdfuse mounts (apt-get install nbdkit libnbd-bin fuse3). Like a network
file system, it has the page cache and the read-ahead of the kernel, and answers each request after the delay, whatever its size.
It works on ten requests at a time (libfuse has ten threads), which is less than a parallel file system does. The servers run
outside of the group, so their memory is not counted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("nbdkit", "nbdfuse", "fusermount3")
_DEVICES = Path("/sys/class/bdi")
_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


def missing() -> str:
    """Return what this machine lacks, empty if nothing."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    return ", ".join(lacking)


@contextlib.contextmanager
def served_late(file: Path, place: Path, delay_ms: float, request_kb: int) -> Iterator[None]:
    """Mount a file in the empty folder `place`, under its own name, for the block; nothing of it is in the page cache.

    Args:
        file: the file.
        place: the folder.
        delay_ms: after which a request is answered.
        request_kb: size of a request at most, up to 1024, which is also how much the kernel reads for a page fault.
    """
    server = ["nbdkit", "--readonly", "--threads=256", "--filter=delay", "file", f"file={file}", f"rdelay={round(delay_ms)}ms"]
    command = ["nbdfuse", "--readonly", "--connections=8", str(place / file.name), "[", *server, "]"]
    process = subprocess.Popen(command)
    try:
        _wait_until_mounted(place / file.name, process)
        device = place.stat().st_dev
        (_DEVICES / f"{os.major(device)}:{os.minor(device)}" / "read_ahead_kb").write_text(str(request_kb))
        yield
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(place)], check=False)
        process.terminate()
        process.wait()


def _wait_until_mounted(file: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        if file.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"{file}: nbdfuse did not mount it")


class Group:
    """A control group with a memory limit, of either version; a context manager that removes it."""

    def __init__(self, limit_bytes: int) -> None:
        self._is_v1, self._limit = _V1.is_dir(), limit_bytes
        self._folder = (_V1 if self._is_v1 else _V2) / f"larger-than-memory-{os.getpid()}"

    def __enter__(self) -> Group:
        if not self._is_v1:
            with contextlib.suppress(OSError):
                (_V2 / "cgroup.subtree_control").write_text("+memory")
        self._folder.mkdir()
        (self._folder / ("memory.limit_in_bytes" if self._is_v1 else "memory.max")).write_text(str(self._limit))
        return self

    def __exit__(self, *_: object) -> None:
        for _attempt in range(50):  # until its last process is gone
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.1)

    def join(self) -> None:
        """Put this process into the group."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def found(self) -> dict[str, int]:
        """Return the most memory that was used, page cache included, and how often a process was killed for lack of it."""
        peak = self._folder / ("memory.max_usage_in_bytes" if self._is_v1 else "memory.peak")
        events = self._folder / ("memory.oom_control" if self._is_v1 else "memory.events")
        counts = dict(line.split() for line in events.read_text().splitlines())
        return {"peak_mb": int(peak.read_text()) >> 20, "killed": int(counts["oom_kill"])}
