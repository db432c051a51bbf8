"""The Slurm job in which the main process itself runs, whose resources its jobs share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Allocation:
    """A running Slurm job.

    Attributes:
        job_id: its id.
        nodes: number of its nodes.
        cpus: CPUs of all nodes.
        gpus: GPUs of all nodes.
        mem_mb: memory of all nodes; None if Slurm does not track it.
    """

    job_id: str
    nodes: int
    cpus: int
    gpus: int
    mem_mb: int | None
