"""The resource `pool`: how many workers serve a pool, how many jobs each runs at a time, what a worker requests."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.resources import Request

SIZE = re.compile(r"([1-9]\d{0,4})(?:x([1-9]\d{0,3}))?")
NO_POOL = (None, "", 0, "0")  # values of the resource that mean no pool
WORKER_MB = 200  # of the worker itself: Snakemake and submitit
PRELOADED_MB = 800  # of the modules that it preloads
GRAIN_MB = 500  # if it preloads modules: a worker then fits jobs to come that request a little more
MARGIN_S = 180  # Slurm signals 90 to 150 s before a time limit, and counts from before the worker's start


@dataclass(frozen=True)
class PoolSize:
    """The size of a pool.

    Attributes:
        workers: maximum number of Slurm jobs at a time.
        slots: maximum number of jobs of the workflow that each of them runs at a time.
    """

    workers: int
    slots: int = 1


def parse_pool(resources: Mapping[str, Any], request: Request) -> PoolSize | None:
    """Return the size of the pool that a job is to run in; None for a job outside of pools, such as one of several ranks.

    Raises:
        WorkflowError: naming the value and the allowed values, or why the job cannot run in a pool.
    """
    value = resources.get("pool")
    if value in NO_POOL:
        return None
    found = SIZE.fullmatch(str(value))
    if found is None or isinstance(value, bool):
        raise WorkflowError(
            f"resource pool={value!r}: expected how many Slurm jobs may serve the pool, as in 4, or also how many jobs each "
            "of them runs at a time, as in 4x8; 0: no pool"
        )
    if request.num_ranks > 1 or request.mpi:
        return None
    size = PoolSize(int(found[1]), int(found[2] or 1))
    single = [name for name in ("licenses", "gres", "exclusive") if name in request.sbatch]
    if size.slots > 1 and single:
        raise WorkflowError(
            f"resource pool={value!r}: {single[0]} cannot be shared out among jobs side by side; use pool={size.workers}, "
            "one job at a time"
        )
    return size


def shared_needs(request: Request, size: PoolSize) -> object:
    """Return what jobs must have in common to share workers: all but memory, time and number of requeues."""
    return repr((replace(request, mem_mb=None, runtime_min=1, max_requeues=0), size.slots))


def capacity(requests: Iterable[Request], slots: int, *, preloads: bool = False) -> Request:
    """Return the resources that a worker must provide, so that even the `slots` largest of these jobs fit.

    Args:
        requests: of the jobs.
        slots: how many of them a worker runs at a time.
        preloads: whether it preloads modules; then memory is rounded up.
    """
    requests = list(requests)
    memory = [request.mem_mb for request in requests if request.mem_mb is not None]
    grain_mb = GRAIN_MB if preloads else 1
    return replace(
        requests[0],
        cpus_per_task=slots * max(request.cpus_per_task for request in requests),
        gpus_per_node=slots * requests[0].gpus_per_node,
        mem_mb=slots * grain_mb * ceil(max(memory) / grain_mb) if len(memory) == len(requests) else None,
        runtime_min=max(request.runtime_min for request in requests),
    )


def covers(offered: Request, needed: Request) -> bool:
    """Return True if a worker that provides some resources can run any job that a worker with others is for."""
    return (
        offered.cpus_per_task >= needed.cpus_per_task
        and offered.gpus_per_node >= needed.gpus_per_node
        and offered.runtime_min >= needed.runtime_min
        and (offered.mem_mb is None or (needed.mem_mb is not None and offered.mem_mb >= needed.mem_mb))
    )


def worker_request(offered: Request, minutes: int, *, preloads: bool = False) -> Request:
    """Return what a worker requests from Slurm.

    Args:
        offered: the resources that it provides to jobs.
        minutes: for how long it starts jobs.
        preloads: whether it preloads modules.
    """
    mem_mb = None if offered.mem_mb is None else offered.mem_mb + WORKER_MB + PRELOADED_MB * preloads
    runtime_min = offered.runtime_min + minutes + MARGIN_S // 60
    return replace(offered, mem_mb=mem_mb, runtime_min=runtime_min, max_requeues=0)
