"""Mark jobs that the user cancelled one by one, so that a main process that waits for them does not start them again."""

from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.private import FILE_MODE

CANCELLED = "cancelled"  # an empty file in the job's folder


def mark_cancelled(job_dir: Path) -> None:
    """Mark a job, before it is cancelled.

    Raises:
        OSError: if its folder cannot be written to.
    """
    (job_dir / CANCELLED).touch(FILE_MODE)


def is_cancelled(job_dir: Path) -> bool:
    """Return True if the user cancelled the job."""
    return (job_dir / CANCELLED).exists()


def forgo_retries(job: Any) -> None:
    """Make Snakemake count this attempt at a job as its last one.

    If Snakemake moves what is changed here, the job is retried; tests/unit/test_snakemake_internals.py then fails.
    """
    job._attempt = job.restart_times + 1  # the setter would forget the resources, which are about to be given back
