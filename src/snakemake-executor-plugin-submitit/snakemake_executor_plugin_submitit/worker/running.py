"""A job that runs in a worker: its process, its limits, and the result that is written when it has ended."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.job import ranks
from snakemake_executor_plugin_submitit.jsonfile import RESULT, write_json
from snakemake_executor_plugin_submitit.processes import is_group_alive
from snakemake_executor_plugin_submitit.request.local_slots import Share
from snakemake_executor_plugin_submitit.worker.tickets import Claim

STOPPED_FOR_MEMORY, STOPPED_FOR_TIME, STOPPED_BY_ORDER = "memory", "time", "order"


class RunningJob:
    """One job of a worker, from its fork to its end."""

    def __init__(self, claim: Claim, share: Share, pid: int) -> None:
        """Follow a process that has just been forked for a claim, with a share of the worker's resources."""
        self.claim, self.share, self.pid = claim, share, pid
        self.ticket = claim.ticket
        self.started = time.monotonic()
        self.stopped_for: str | None = None
        self.was_signalled = False
        self.peak_mb = 0.0
        self._kill_at: float | None = None

    def is_over_time(self) -> bool:
        """Return True if it has used up its own time limit."""
        return time.monotonic() - self.started >= self.ticket.runtime_s

    def stop(self, why: str, grace_s: float = ranks.TERMINATE_S) -> None:
        """Send SIGTERM, and `grace_s` later SIGKILL; out of memory at once."""
        if self.stopped_for is None:
            self.stopped_for = why
            self.signal(signal.SIGKILL if why == STOPPED_FOR_MEMORY else signal.SIGTERM)
            self._kill_at = time.monotonic() + grace_s

    def signal(self, number: int) -> None:
        """Send a signal to all processes of its group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            with contextlib.suppress(ProcessLookupError):  # it is not the leader of its group yet
                os.kill(self.pid, number)

    def reap(self) -> dict[str, Any] | None:
        """Return the result if the process has ended, else None; kill it if it was told to stop and did not."""
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self.signal(signal.SIGKILL)
        elif (self._kill_at is not None or self.was_signalled) and is_group_alive(self.pid):
            return None  # its programs may save their state, be it after its shell has ended
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            return None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # processes that the command may have left behind
        used = {
            "wall_s": round(time.monotonic() - self.started, 3),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_mb": round(max(self.peak_mb, usage.ru_maxrss / 1024), 1),
            "cpus": self.ticket.cpus,
            "gpus": self.ticket.gpus,
            "mem_mb": self.ticket.mem_mb or None,
            "limit_s": self.ticket.runtime_s,
        }
        return {"status": os.waitstatus_to_exitcode(status), "host": ranks.host(), "usage": used}


def write_result(job_dir: str, done_marker: str, result: dict[str, Any]) -> None:
    """Write the result of a job, and the marker by which the main process learns of it.

    Raises:
        OSError: if the result cannot be written.
    """
    write_json(Path(job_dir) / RESULT, result)
    with contextlib.suppress(OSError):  # then the main process finds the result itself
        Path(done_marker).touch()
