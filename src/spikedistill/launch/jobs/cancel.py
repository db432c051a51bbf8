"""`spikedistill cancel`: end jobs of stages, with Snakemake's main process or without it.

Only jobs that were just found are ended, each by an identity that no other job can have: on Slurm the path of its batch script,
here a pidfd. A main process that waits for one of them is told, by a mark in the job's folder, not to try it again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from spikedistill.launch.jobs import local, pooled
from spikedistill.launch.jobs.find import Found, FoundJobs
from spikedistill.launch.jobs.mains import MainProcess, interrupt, main_processes

PATIENCE_S = 15.0
"""How long to wait for a main process that was interrupted: it cancels its jobs and returns."""


@dataclass
class Outcome:
    """What was ended.

    Attributes:
        ended: what was told to end, in words.
        problems: what could not be done, in words.
    """

    ended: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def cancel(jobs: Iterable[Found]) -> Outcome:
    """End jobs."""
    outcome = Outcome()
    _cancel({found.job.job_id: found for found in jobs}, outcome)
    return outcome


def cancel_run(find: Callable[[], FoundJobs], jobs: Iterable[Found], outputs: Iterable[str]) -> Outcome:
    """End the jobs of a whole run, and the Snakemake processes of this user that would start more.

    Args:
        find: looks for jobs again.
        jobs: the jobs to end.
        outputs: absolute paths of what the stages of the run make, which identify its main processes.
    """
    outcome, chosen, wanted = Outcome(), {found.job.job_id: found for found in jobs}, set(outputs)
    for found in chosen.values():
        _mark(found)  # before anything ends, so that nothing is tried again
    interrupted = []
    for main in main_processes():
        if not main.outputs & wanted:
            continue
        if main.is_here and interrupt(main):
            interrupted.append(main)
            outcome.ended.append(f"Snakemake, {main}")
        else:
            outcome.problems.append(f"Snakemake, {main}, may start further stages: {_advice(main)}")
    _cancel(chosen, outcome)
    if interrupted:
        _wait_for(interrupted)
        late = {found.job.job_id: found for found in find().living() if found.job.job_id not in chosen}
        _cancel(late, outcome)  # what it had just submitted
    return outcome


def _cancel(jobs: dict[str, Found], outcome: Outcome) -> None:
    from snakemake_executor_plugin_submitit.submission import states

    for found in jobs.values():
        _mark(found)
    refused = states.cancel(job_id for job_id, found in jobs.items() if found.job.cluster == "slurm")
    outcome.problems += [f"{jobs[each].name}: Slurm did not take it; run: scancel {each}" for each in refused]
    for job_id, found in jobs.items():
        if found.job.cluster != "slurm" and not (pooled if found.job.cluster == "pool" else local).end(found.job):
            outcome.problems.append(f"{found.name}: had ended by itself")
        elif job_id not in refused:
            outcome.ended.append(f"{found.name}, {found.job}")


def _mark(found: Found) -> None:
    from snakemake_executor_plugin_submitit.tracking.cancelled import mark_cancelled

    with contextlib.suppress(OSError):  # a main process may then try it again, which is no reason not to end it
        mark_cancelled(found.job_dir)


def _advice(main: MainProcess) -> str:
    if not main.is_here:
        return "press Ctrl-C there"
    return f"it ignores Ctrl-C, as what a script starts in the background does; run: kill -9 {main.pid}"


def _wait_for(mains: Sequence[MainProcess]) -> None:
    pids = {main.pid for main in mains}
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and pids & {main.pid for main in main_processes() if main.is_here}:
        time.sleep(0.2)
