"""This user's jobs in Slurm's queue: one squeue for all of them."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from spikedistill.errors import SpikedistillError
from spikedistill.launch.jobs.job import Job

TIMEOUT_S = 30
FIELDS = {
    "JobArrayID": 40,
    "State": 20,
    "RestartCnt": 8,
    "PreemptTime": 20,
    "StartTime": 20,
    "TimeUsed": 20,
    "tres-alloc": 200,
    "NodeList": 200,
    "Reason": 120,
}
"""Columns of squeue and their widths: what is longer is cut."""
NAMES_LENGTH = 240  # of a job's folder and of its script, below the folder of all jobs
NO_CONFIGURATION = "establish a configuration source"  # in squeue's words
_GPUS = re.compile(r"gres/gpu=(\d+)")


class NoAnswerError(SpikedistillError):
    """Slurm does not answer; the message is for the user."""


class NoClusterError(NoAnswerError):
    """Slurm's commands are on this machine, but it belongs to no cluster."""


def is_here() -> bool:
    """Return whether Slurm's commands are on this machine."""
    return shutil.which("squeue") is not None


def queued_jobs(folders: Sequence[Path]) -> list[Job]:
    """Return this user's jobs that were submitted from some folders of submitit, those that have just ended among them.

    A job is known by the path of its batch script, which lies in a folder of its own: no later job has it, whatever its id.

    Raises:
        NoAnswerError: if Slurm does not answer.
    """
    script = max((len(str(folder)) for folder in folders), default=0) + NAMES_LENGTH
    columns = ",".join(f"{field}:{width}|" for field, width in (FIELDS | {"Command": script}).items())
    listing = _call(["squeue", "--me", "-h", "-r", "-t", "all", "-O", columns])
    jobs = (_parse(line) for line in listing.splitlines())
    return [job for job in jobs if job is not None]


def _call(command: list[str]) -> str:
    from snakemake_executor_plugin_submitit.submission.commands import query_environment

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, env=query_environment()
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"squeue has not answered for {TIMEOUT_S} s") from None
    except OSError as err:
        raise NoAnswerError(f"squeue cannot be run: {err.strerror}") from err
    if done.returncode:
        kind = NoClusterError if NO_CONFIGURATION in done.stderr else NoAnswerError
        raise kind(f"squeue failed: {' '.join(done.stderr.split())[:200]}")
    return done.stdout


def _parse(line: str) -> Job | None:
    """Return the job of a line; None for one that submitit did not submit."""
    cells = [cell.strip() for cell in line.split("|", len(FIELDS))]
    if len(cells) != len(FIELDS) + 1:
        return None
    job_id, state, restarts, preempted, start, used, tres, nodes, reason, command = cells
    script = Path(command.removesuffix("|").strip())
    if not script.name.startswith(".submission_file_"):
        return None
    gpus = _GPUS.search(tres)
    return Job(
        cluster="slurm",
        job_id=job_id,
        folder=script.parent,
        state=state.split()[0].rstrip("+") if state else "UNKNOWN",
        reason="" if reason == "None" else reason,
        nodes=nodes,
        gpus=int(gpus[1]) if gpus else 0,
        start=_time(start),
        elapsed_s=_seconds(used),
        restarts=int(restarts) if restarts.isdigit() else 0,
        preempted=_time(preempted),
    )


def _time(text: str) -> float | None:
    """Convert the time of this machine, as in 2026-11-29T09:43:00, to seconds since the epoch; None if it is none."""
    with contextlib.suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    return None


def _seconds(text: str) -> float:
    """Convert [days-][[hours:]minutes:]seconds to seconds; 0 if it is none."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    with contextlib.suppress(ValueError):
        for part in clock.split(":"):
            seconds = 60 * seconds + float(part)
        return 86_400 * int(days or 0) + seconds
    return 0.0
