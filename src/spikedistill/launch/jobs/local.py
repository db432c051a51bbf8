"""This user's jobs on this machine: the controllers that the executor has started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from spikedistill.launch.jobs.job import Job

PROC = Path("/proc")
CONTROLLER = "snakemake_executor_plugin_submitit.job.controller"


def local_jobs() -> list[Job]:
    """Return the jobs that run on this machine, of any folder."""
    pids = (entry.name for entry in PROC.iterdir() if entry.name.isdigit())
    jobs = (_job(pid) for pid in pids)
    return [job for job in jobs if job is not None]


def end(job: Job) -> bool:
    """Tell a job to end; return False if it has ended by itself.

    A pidfd is opened before the process is looked at, so that no later process with the same number can be hit.
    """
    try:
        pinned = os.pidfd_open(int(job.job_id))
    except OSError:
        return False
    try:
        if _folder_of(job.job_id) != job.folder:
            return False
        signal.pidfd_send_signal(pinned, signal.SIGTERM)  # which the controller passes on to the ranks
    except OSError:
        return False
    finally:
        os.close(pinned)
    return True


def _job(pid: str) -> Job | None:
    folder = _folder_of(pid)
    if folder is None:
        return None
    gpus = _visible_gpus(pid)
    started = _started(pid)
    return Job(
        cluster="local",
        job_id=pid,
        folder=folder,
        state="RUNNING",
        nodes=os.uname().nodename,
        gpus=len(gpus),
        gpu_names=",".join(gpus),
        start=started,
        elapsed_s=0.0 if started is None else max(0.0, time.time() - started),
    )


def _folder_of(pid: str) -> Path | None:
    """Return the folder of a controller; None if the process is none, or not this user's."""
    try:
        if (PROC / pid).stat().st_uid != os.geteuid():
            return None
        words = (PROC / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if len(words) < 4 or words[1:3] != [b"-m", CONTROLLER.encode()]:
        return None
    return Path(os.fsdecode(words[3]))


def _visible_gpus(pid: str) -> list[str]:
    with contextlib.suppress(OSError):
        for entry in (PROC / pid / "environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"CUDA_VISIBLE_DEVICES":
                return [number for number in os.fsdecode(value).split(",") if number.isdigit()]
    return []


def _started(pid: str) -> float | None:
    """Return when a process was started, in seconds since the epoch."""
    try:
        ticks = int((PROC / pid / "stat").read_text().rpartition(")")[2].split()[19])
        up_s = float((PROC / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")
