"""What is known of a job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GONE = "GONE"
"""The state of a job that was recorded and is not in Slurm's queue any more."""


@dataclass(frozen=True)
class Job:
    """A job of this user.

    Attributes:
        cluster: where it is.
        job_id: Slurm's id, or that of a process on this machine, or of a ticket in a pool.
        folder: where submitit keeps its files; all jobs of an array share one.
        state: Slurm's word; RUNNING on this machine.
        reason: why it is pending, in Slurm's word.
        nodes: where it runs, as Slurm writes it.
        gpus: how many it has, on all nodes.
        gpu_names: which ones, where that is known.
        start: when it started, or Slurm expects it to; seconds since the epoch.
        elapsed_s: since then.
        restarts: how often Slurm has requeued it.
        preempted: when it was told to make room, in this run; seconds since the epoch.
        was_preempted: whether that is why it was requeued the last time, if somebody looked then: Slurm forgets it.
    """

    cluster: Literal["slurm", "local", "pool"]
    job_id: str
    folder: Path
    state: str
    reason: str = ""
    nodes: str = ""
    gpus: int = 0
    gpu_names: str = ""
    start: float | None = None
    elapsed_s: float = 0.0
    restarts: int = 0
    preempted: float | None = None
    was_preempted: bool = False

    @property
    def is_pending(self) -> bool:
        """Return whether it waits in Slurm's queue."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")

    @property
    def is_alive(self) -> bool:
        """Return whether it waits or runs."""
        from snakemake_executor_plugin_submitit.submission.states import FINAL

        return self.state not in FINAL and self.state != GONE

    @property
    def label(self) -> str:
        """Return the id by which its cluster knows it; a ticket in a pool is as long as the stage's name, and is not shown."""
        return "in a pool" if self.cluster == "pool" else self.job_id

    def __str__(self) -> str:
        return {"slurm": "job ", "local": "process ", "pool": ""}[self.cluster] + self.label
