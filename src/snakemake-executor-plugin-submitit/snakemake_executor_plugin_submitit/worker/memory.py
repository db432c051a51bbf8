"""Memory of the sessions of a worker's jobs: side by side in one allocation, each must keep to its own share."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
_SESSION, _RSS = 3, 21  # fields of /proc/<pid>/stat, counted from the state


def resident_mb(sessions: Collection[int]) -> dict[int, float]:
    """Return the resident memory of all processes of each session, in MB; pages that several share count for each."""
    used = dict.fromkeys(sessions, 0.0)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (Path(entry.path) / "stat").read_bytes().rpartition(b")")[2].split()
            session = int(fields[_SESSION])
            if session in used:
                used[session] += int(fields[_RSS]) * PAGE / 2**20
    return used
