"""What the executor knows about each job that it follows to its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_submitit.request.local_slots import Share
from snakemake_executor_plugin_submitit.request.pooling import PoolSize
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.tracking.registry import Record, Submission

if TYPE_CHECKING:
    from snakemake_executor_plugin_submitit.submission.submit import SubmittedJob

NAMES_SHOWN = 4


@dataclass
class TrackedJob:
    """A job of the workflow that waits to be submitted or has been submitted; or a worker of a pool.

    Attributes:
        size: of a job that is to run in a pool, the size of that pool.
        serves: of a worker, its pool.
        offered: of a worker, the resources that it provides to its jobs.
    """

    info: SubmittedJobInfo
    request: Request
    command: str
    name: str
    outputs: tuple[str, ...]
    job: "SubmittedJob | None" = None
    submission: Submission | None = None
    record: Record | None = None
    share: Share | None = None
    refusal: str | None = None
    resubmissions: int = 0
    excluded: set[str] = field(default_factory=set)
    size: PoolSize | None = None
    serves: Any = None
    offered: Request | None = None


def list_names(tracked_jobs: Sequence[TrackedJob]) -> str:
    """Return the names of jobs for a message; if there are many, the first few."""
    names = ", ".join(tracked.name for tracked in tracked_jobs[:NAMES_SHOWN])
    return names if len(tracked_jobs) <= NAMES_SHOWN else f"{names} and {len(tracked_jobs) - NAMES_SHOWN} more"


def jobs_by_number(tracked_jobs: Sequence[TrackedJob], cluster: str, nodes: Mapping[str, str] | None = None) -> dict[Any, str]:
    """Return, for loggers, the name of each job in Slurm or on this machine by Snakemake's number; workers have none.

    Args:
        tracked_jobs: the jobs.
        cluster: where they are.
        nodes: where they have started, by those ids.
    """
    found: dict[Any, str] = {}
    for tracked in tracked_jobs:
        if tracked.job is None or tracked.info.job is None:
            continue
        name = f"{cluster} job {tracked.job.job_id}" if tracked.job.job_id else "in a pool"
        place = (nodes or {}).get(tracked.job.job_id)
        jobs = tracked.info.job.jobs if tracked.info.job.is_group() else [tracked.info.job]
        found |= {each.jobid: f"{name} on {place}" if place else name for each in jobs}
    return found
