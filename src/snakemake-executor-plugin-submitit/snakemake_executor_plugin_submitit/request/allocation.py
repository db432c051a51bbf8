"""The Slurm job in which the main process itself runs, whose resources its jobs share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Allocation:
    """A Slurm job that runs.

    Attributes:
        job_id: its id.
        nodes: number of its nodes.
        cpus: of all nodes.
        gpus: of all nodes.
        mem_mb: of all nodes; None if Slurm does not count it.
    """

    job_id: str
    nodes: int
    cpus: int
    gpus: int
    mem_mb: int | None
