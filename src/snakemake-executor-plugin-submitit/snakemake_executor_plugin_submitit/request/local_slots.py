"""Share the CPUs, GPUs and memory of this machine, or of a Slurm job, among jobs; a job starts when its share is free."""

import itertools
import os
import re
import subprocess
from dataclasses import dataclass

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.allocation import Allocation
from snakemake_executor_plugin_submitit.request.resources import Request

UNLIMITED_MB = 1 << 40
_DEVICE = re.compile(r"\d+|(?:GPU|MIG)-.+")


@dataclass(frozen=True)
class Share:
    """The part of the resources that one job takes."""

    cpus: int
    mem_mb: int
    gpus: tuple[int, ...]


class SlotPool:
    """Hand out shares of a machine, or of a Slurm job."""

    def __init__(
        self,
        cpus: int | None = None,
        gpus: int | None = None,
        mem_mb: int | None = None,
        allocation: Allocation | None = None,
    ) -> None:
        """Create a pool; amounts that are not given are those of the Slurm job, or of this machine if there is none."""
        self._place, self._nodes = "this machine", None
        if allocation is not None:
            self._place, self._nodes = f"the Slurm job {allocation.job_id}", allocation.nodes
            cpus, gpus = cpus or allocation.cpus, allocation.gpus if gpus is None else gpus
            mem_mb = mem_mb or allocation.mem_mb or UNLIMITED_MB
        self._cpus = self.total_cpus = cpus or len(os.sched_getaffinity(0))
        self._mem_mb = self.total_mem_mb = mem_mb or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self._gpus = list(range(_count_gpus() if gpus is None else gpus))
        self.total_gpus = len(self._gpus)

    def describe(self) -> str:
        """Return what the pool has to share, for a message."""
        memory = "" if self.total_mem_mb == UNLIMITED_MB else f" and {self.total_mem_mb} MB"
        return f"{self._place} and share {self.total_cpus} CPUs, {self.total_gpus} GPUs{memory}"

    def check(self, request: Request) -> None:
        """Raise an error if a request can never be satisfied.

        Raises:
            WorkflowError: naming the resource.
        """
        if request.nodes * request.gpus_per_node > self.total_gpus:
            wanted = f"{request.nodes} nodes x {request.gpus_per_node} GPUs"
            raise WorkflowError(f"the job requests {wanted}, and {self._place} has {self.total_gpus}: lower gpus_per_node")
        if (request.mem_mb or 0) * request.nodes > self.total_mem_mb:
            wanted = f"{request.nodes} nodes x {request.mem_mb} MB"
            raise WorkflowError(f"the job requests {wanted}, and {self._place} has {self.total_mem_mb}: lower mem_mb")

        if self._nodes is None:
            return
        if request.nodes > self._nodes:
            raise WorkflowError(f"the job requests {request.nodes} nodes, and {self._place} has {self._nodes}: lower nodes")
        if (cpus := request.num_tasks * request.cpus_per_task) > self.total_cpus:
            raise WorkflowError(f"the job requests {cpus} CPUs, and {self._place} has {self.total_cpus}: lower cpus_per_task")
        if request.mpi:
            raise WorkflowError(f"resource mpi: a job cannot start tasks of its own in {self._place}; use cluster slurm")

    def take(self, request: Request) -> Share | None:
        """Return a share for a job, or None while there is no room; a job with more CPUs than exist runs when all are free."""
        cpus = min(request.num_tasks * request.cpus_per_task, self.total_cpus)
        mem_mb = (request.mem_mb or 0) * request.nodes
        gpus = request.nodes * request.gpus_per_node
        if cpus > self._cpus or mem_mb > self._mem_mb or gpus > len(self._gpus):
            return None
        self._cpus -= cpus
        self._mem_mb -= mem_mb
        taken, self._gpus = tuple(self._gpus[:gpus]), self._gpus[gpus:]
        return Share(cpus, mem_mb, taken)

    def give_back(self, share: Share) -> None:
        """Free a share."""
        self._cpus += share.cpus
        self._mem_mb += share.mem_mb
        self._gpus = sorted([*self._gpus, *share.gpus])


def visible_devices() -> list[str] | None:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, by index or UUID; None if it is not set."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return None
    # as CUDA does: a name of no device, such as -1, hides all that follow
    return list(itertools.takewhile(_DEVICE.fullmatch, map(str.strip, names.split(","))))


def _count_gpus() -> int:
    devices = visible_devices()
    if devices is not None:
        return len(devices)
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines()) if listing.returncode == 0 else 0
