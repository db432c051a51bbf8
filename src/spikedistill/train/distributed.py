"""The process group, from the environment that `spmd` (or torchrun) sets."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from spikedistill.errors import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
TIMEOUT = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """The ranks of a job, as one of them sees it.

    Attributes:
        rank: number of this process, 0 leads.
        world_size: number of processes.
        device: where this process computes.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_leader(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """ "cpu", or the name of the GPU."""
        return "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)

    @classmethod
    @contextlib.contextmanager
    def from_environment(cls) -> Iterator[World]:
        """Join the job's process group for the block; without one, be alone.

        Raises:
            ConfigError: if the environment names some of the variables and not the others.
        """
        given = [name for name in VARIABLES if name in os.environ]
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            yield cls(device=_device(0))
            return
        if len(given) < len(VARIABLES):
            missing = ", ".join(sorted(set(VARIABLES) - set(given)))
            raise ConfigError(
                f"WORLD_SIZE is {world_size}, but {missing} is not set: start the ranks with spmd or torchrun"
            )
        device = _device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        try:
            yield cls(dist.get_rank(), dist.get_world_size(), device)
        finally:
            dist.destroy_process_group()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on all ranks."""
        if self.world_size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
