"""The state of a stage in words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from spikedistill.launch.jobs.attempts import Attempt
from spikedistill.launch.jobs.job import Job
from spikedistill.launch.status.files import Work, WorkReader, printable, schedule_of
from spikedistill.plan.stages import Spec
from spikedistill.store.artifacts import Store
from spikedistill.store.lease import STALE_S, Holder

QUIET_S = 45.0
"""After this many seconds without a heartbeat, the status says so."""
GIVE_IT = "to see and stop them, give its --configfile and --config to this command, too"
"""What to do about jobs of another run."""


def stage_state(store: Store, spec: Spec) -> str:
    """Return the state of a stage in words, by the files of the store alone."""
    if store.status(spec.ref) == "complete":
        manifest = store.manifest(spec.ref)
        return done(manifest["wall_s"], printable(manifest["host"]))
    work = WorkReader().read(store.work(spec.ref), *schedule_of(spec))
    if work.holder is None:
        return interrupted(work) if work.starts else "not started"
    if work.holder.is_gone() or work.silent_s > STALE_S:
        return interrupted(work)
    return running(work.holder, work, None)


def done(wall_s: float, host: str) -> str:
    """Say that an artifact is there."""
    return f"done in {wall_s:.0f} s on {host}"


def running(holder: Holder | None, work: Work, job: Job | None) -> str:
    """Say where a stage runs."""
    host = job.nodes if job and job.nodes else printable(holder.host) if holder else "?"
    parts = [f"running on {host}"]
    if job and job.gpus:
        parts.append(gpus(job))
    if job and job.preempted is not None:
        parts.append("being preempted")
    if job and job.restarts:
        parts.append(requeued(job))
    if holder and work.silent_s > QUIET_S:
        parts.append(f"no sign of life for {work.silent_s:.0f} s")
    return ", ".join(parts)


def gpus(job: Job) -> str:
    """Name the GPUs of a job."""
    if job.gpu_names:
        return f"GPU {job.gpu_names}"
    return f"{job.gpus} GPU" + ("s" if job.gpus > 1 else "")


def interrupted(work: Work) -> str:
    """Say that a stage was started and no process is working on it."""
    where = f" on {printable(work.holder.host)}" if work.holder else ""
    return f"interrupted{where}{_so_far(work, ', ', ' done')}; resumes when run again"


def requeued(job: Job) -> str:
    """Say how often Slurm has requeued a job, and whether it was preempted the last time."""
    times = "once" if job.restarts == 1 else f"{job.restarts} times"
    return f"requeued {times}" + (" (preempted)" if job.was_preempted else "")


def pending(job: Job) -> str:
    """Say why a job waits, and when Slurm expects it to start."""
    from snakemake_executor_plugin_submitit.submission.reasons import in_words

    parts = [f"pending: {printable(in_words(job.reason or 'None'))}"]
    if job.start is not None and job.start > time.time():
        parts.append(f"expected to start {clock(job.start)}")
    if job.restarts:
        parts.append(requeued(job))
    return ", ".join(parts)


def failed(attempt: Attempt, work: Work) -> str:
    """Say how the last attempt failed, and where to look."""
    result = attempt.result or {}
    how = result.get("state") or f"exit status {result.get('status')}"
    host = f" on {printable(result['host'])}" if result.get("host") else ""
    return f"failed{host}: {printable(how)}{_so_far(work, ', ', ' done')}; spikedistill logs shows why"


def ended(job: Job) -> str:
    """Say how Slurm ended a job that left no result."""
    from snakemake_executor_plugin_submitit.submission.states import State

    hint = State(job.state).hint
    return f"failed: {job.state}" + (f" ({hint})" if hint else "")


def starting(job: Job) -> str:
    """Say that a job has its place and its stage has not begun."""
    where = ", ".join(filter(None, [f"starting on {job.nodes or 'its nodes'}", gpus(job) if job.gpus else ""]))
    return where + (f", {requeued(job)}" if job.restarts else "")


def cancelled(work: Work) -> str:
    """Say that somebody ended a stage."""
    return f"cancelled{_so_far(work, ' after ', '')}; resumes when run again" if work.starts else "cancelled"


def _so_far(work: Work, before: str, after: str) -> str:
    """Say how much of a stage is done; nothing if that is little."""
    progress = work.progress
    if progress is None or not (progress.epoch or progress.unit != "epochs"):
        return ""
    done = f"{progress.epoch} epochs" if progress.unit == "epochs" else f"{100 * progress.part:.0f} % of the {progress.unit}"
    return f"{before}{done}{after}"


def waiting(missing: Sequence[str]) -> str:
    """Say what a stage waits for, given the artifacts that are not there yet."""
    return "waits for " + (Path(missing[0]).name if len(missing) == 1 else f"{len(missing)} stages")


def blocked(broken: str) -> str:
    """Say that a stage cannot run, given an upstream artifact that will not be there."""
    return f"blocked by {Path(broken).name}"


def ready(is_driven: bool, is_outdated: bool) -> str:
    """Say that a stage could run."""
    why = ": its upstream changed" if is_outdated else ""
    return f"waits for its turn{why}" if is_driven else f"not started{why}"


def clock(moment: float) -> str:
    """Return the time of day of a moment, with the date unless it is today."""
    there = time.localtime(moment)
    return time.strftime("%H:%M" if there[:3] == time.localtime()[:3] else "%a %d %b %H:%M", there)


def duration(seconds: float) -> str:
    """Return a time span with as many digits as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
