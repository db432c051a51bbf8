"""The state of one stage, from what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spikedistill.launch.jobs.attempts import Attempt
from spikedistill.launch.jobs.find import Found
from spikedistill.launch.jobs.job import GONE, Job
from spikedistill.launch.status import words
from spikedistill.launch.status.files import Work
from spikedistill.launch.status.snapshot import State
from spikedistill.store.lease import HEARTBEAT_S, STALE_S

SILENT_S = 5 * HEARTBEAT_S
"""How long a lease is believed whose job is known to have ended; network file systems show times up to a minute late."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a stage that is not done.

    Attributes:
        work: its files.
        jobs: its jobs, the one most likely to be running first.
        attempt: looks up how its last attempt ended.
        missing: upstream artifacts that are not there.
        broken: one of them whose stage failed, was cancelled, or is blocked itself; None if there is none.
        is_damaged: its artifact is there, and its manifest cannot be read.
        is_outdated: its artifact is there, made from other upstream artifacts.
        is_driven: a Snakemake process is there to start it.
    """

    work: Work
    jobs: Sequence[Found]
    attempt: Callable[[], Attempt | None]
    missing: Sequence[str]
    broken: str | None
    is_damaged: bool
    is_outdated: bool
    is_driven: bool

    @property
    def job(self) -> Job | None:
        """Return its job that waits or runs, if there is one."""
        return self.jobs[0].job if self.jobs and self.jobs[0].job.is_alive else None


def state_of(known: Evidence) -> tuple[State, str]:
    """Return the state of a stage, and what to say about it."""
    job = known.job
    if _is_at_work(known):
        return "running", words.running(known.work.holder, known.work, job)
    if job is not None:
        return ("pending", words.pending(job)) if job.is_pending else ("starting", words.starting(job))
    return _without_job(known)


def _is_at_work(known: Evidence) -> bool:
    """Return whether a process holds the stage's lease, as far as can be told."""
    holder, silent_s = known.work.holder, known.work.silent_s
    if holder is None or holder.is_gone() or silent_s > STALE_S:
        return False
    if not known.jobs or known.job is not None:
        return True
    nodes = {each.job.nodes for each in known.jobs}
    has_ended = holder.host in nodes or holder.host.partition(".")[0] in nodes
    return silent_s < (HEARTBEAT_S if has_ended else SILENT_S)


def _without_job(known: Evidence) -> tuple[State, str]:
    attempt = known.attempt()
    if known.is_damaged:
        return "damaged", "damaged: see spikedistill verify"
    if attempt is not None and attempt.is_cancelled:
        return "cancelled", words.cancelled(known.work)
    if attempt is not None and attempt.has_failed:
        return "failed", words.failed(attempt, known.work)
    ended = next((each.job for each in known.jobs if each.job.state not in (GONE, "COMPLETED")), None)
    if ended is not None:
        return ("cancelled", words.cancelled(known.work)) if ended.state == "CANCELLED" else ("failed", words.ended(ended))
    if known.work.starts:
        return "interrupted", words.interrupted(known.work)
    if known.broken is not None:
        return "blocked", words.blocked(known.broken)
    if known.missing:
        return "waiting", words.waiting(known.missing)
    return "ready", words.ready(known.is_driven, known.is_outdated)
