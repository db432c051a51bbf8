"""A job of the workflow that runs in a pool, as the main process sees it: like a Slurm job, that of its worker."""

import time
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.submit import LOST_S, SubmittedJob, log_says_out_of_memory
from snakemake_executor_plugin_submitit.worker.child import LOG
from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder, job_id_of


class PooledJob(SubmittedJob):
    """A ticket, first in the queue of its pool, then in the hands of a worker.

    Attributes:
        uid: that of the ticket.
        tickets: the folder of its pool.
        worker: name of the worker that has it or had it last; None: none yet. `job_id` is that of the worker, or empty.
    """

    def __init__(
        self, cluster: str, folder: Path, name: str, uid: str, tickets: TicketFolder, *, mem_mb: int | None = None
    ) -> None:
        """Describe a waiting ticket."""
        super().__init__(cluster, folder, name, "", mem_mb=mem_mb)
        self.uid, self.tickets = uid, tickets
        self.worker: str | None = None
        self._waits = True
        self._waits_since = time.monotonic()
        self._gone_since: float | None = None

    def rank_log(self, rank: int) -> Path:
        """Return the log; there is one rank."""
        return self.folder / LOG

    def see(self, *, waits: bool, worker: str | None, handle: Any = None) -> None:
        """Record where the ticket is: in the queue, with a worker (`handle`: its local job), or gone."""
        if waits and not self._waits:
            self._waits_since = time.monotonic()
        self._waits = waits
        if waits:
            self.worker, self.job_id, self._handle = None, "", None
            self._ended_at, self._looks = None, 0
        elif worker is not None and worker != self.worker:
            self.worker, self.job_id = worker, job_id_of(worker)
        if worker is not None:
            self._handle = handle or self._handle
        gone = not waits and worker is None
        self._gone_since = (self._gone_since or time.monotonic()) if gone else None

    @property
    def waits(self) -> bool:
        """Return True while no worker has taken it."""
        return self._waits

    @property
    def waits_since(self) -> float:
        """Return since when no worker has had it, by the monotonic clock."""
        return self._waits_since

    def poll(self, state: states.State | None = None, *, look: bool = True) -> int | None:
        """Return the exit status if the job has ended, or if its worker has ended and left no result; else None."""
        if self._waits or self.worker is None or (self.cluster != "slurm" and self._handle is None):
            result = read_result(self.folder) if look or not self._waits else None
            return None if result is None else int(result["status"])
        return super().poll(state, look=look or self._gone_since is not None)

    def is_lost(self, state: states.State | None) -> bool:
        """Return True if neither the queue nor a worker has the ticket, or if Slurm knows nothing of that worker."""
        if self._waits:
            return False
        if self.worker is None:
            return self._gone_since is not None and time.monotonic() - self._gone_since > LOST_S
        return super().is_lost(state)

    @property
    def is_gone(self) -> bool:
        """Return True if nobody has the ticket any more: it has ended, or was withdrawn."""
        return self._gone_since is not None

    def cancel(self) -> None:
        """Cancel the job alone, not its worker."""
        if not self.tickets.withdraw(self.uid):
            self.tickets.revoke(self.uid)

    def explain(self, state: states.State | None = None) -> str:
        """Describe a failed job for the user."""
        log = self.tickets.about(self.worker).get("log") if self.worker else None
        if read_result(self.folder) is None and log:
            if (state is None or state.is_alive or state.name == "FAILED") and log_says_out_of_memory(Path(log)):
                state = states.State("OUT_OF_MEMORY", "according to its worker's log")
            return f"{super().explain(state)}\nlog of the pool's worker: {log}"
        return super().explain(state)
