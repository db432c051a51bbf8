"""Memory of a worker's jobs, by session: within one allocation, each job must keep to its own share.

A forked process shares most pages with its parent. Resident memory counts them for both; proportional memory (`Pss`) counts each
page once in total, but takes longer to read.
"""

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
_SESSION, _RSS = 3, 21  # fields of /proc/<pid>/stat, counted from the state
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def processes_of(sessions: Collection[int]) -> dict[int, dict[int, float]]:
    """Return, for each session, the resident memory of its processes in MB, by PID."""
    found: dict[int, dict[int, float]] = {session: {} for session in sessions}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (Path(entry.path) / "stat").read_bytes().rpartition(b")")[2].split()
            if (session := int(fields[_SESSION])) in found:
                found[session][int(entry.name)] = int(fields[_RSS]) * PAGE / 2**20
    return found


def proportional_mb(resident: dict[int, float]) -> float:
    """Return the memory of processes in MB, counting shared pages once; for one that cannot be read, the resident memory."""
    return sum(_pss_mb(pid, mb) for pid, mb in resident.items())


def _pss_mb(pid: int, otherwise: float) -> float:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except ProcessLookupError:
        return 0.0
    except OSError:
        return otherwise
    return int(found[1]) / 1024 if found else otherwise
