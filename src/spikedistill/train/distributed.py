"""The process group, from the environment that `spmd` (or torchrun) sets."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from spikedistill.errors import ConfigError, SpikedistillError, TrainingError

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
ADDRESS_VARIABLES = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """The processes (ranks) of a job, as seen by one of them.

    Attributes:
        rank: number of this process; 0 is the main process.
        world_size: number of processes.
        device: the device of this process.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main_process(self) -> bool:
        """True for rank 0, the one that writes files and logs."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """Model of the GPU, or "cpu"."""
        return "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)

    @classmethod
    @contextlib.contextmanager
    def from_environment(cls, timeout: datetime.timedelta, *, gpus: int = 0) -> Iterator[World]:
        """Join the job's process group for the block; without the variables of one, be the only rank.

        Args:
            timeout: how long a collective waits for the other ranks.
            gpus: GPUs that the job requested on each node; with any, running on the CPU is an error.

        Raises:
            ConfigError: if only some of the variables are set, or a value is impossible.
            TrainingError: if GPUs were requested and none can be used, or if the ranks do not meet, or if within the block one of
                them ends or a collective times out.
        """
        if not any(name in os.environ for name in RANK_VARIABLES):
            yield cls(device=_device(0, gpus))
            return
        rank, world_size, local_rank = _read_ranks()
        device = _device(local_rank, gpus)
        if world_size == 1:
            yield cls(device=device)
            return
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        _join(backend, rank, world_size, timeout)
        world = cls(rank, world_size, device)
        try:
            with _explain_lost_rank(world):
                yield world
        except BaseException:
            if device.type == "cpu":  # NCCL would wait for kernels that a lost rank never completes
                dist.destroy_process_group()
            raise
        dist.destroy_process_group()

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks; the argument stays unchanged."""
        if self.world_size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_max(self, numbers: Sequence[int]) -> list[int]:
        """Return the maximum of each number over all ranks; it runs on the CPU, so that no rank waits for its device."""
        return self.begin_all_reduce_max(numbers)()

    def begin_all_reduce_max(self, numbers: Sequence[int]) -> Callable[[], list[int]]:
        """Send this rank's numbers to the others without waiting; return a function that awaits all and gives the maxima."""
        maxima = torch.tensor(numbers, dtype=torch.int64)
        sent = dist.all_reduce(maxima, dist.ReduceOp.MAX, async_op=True) if self.world_size > 1 else None

        def finish() -> list[int]:
            try:
                if sent is not None:
                    sent.wait()
            except RuntimeError as err:  # gloo's message does not always say that it is gloo's
                raise dist.DistBackendError(str(err)) from err
            return maxima.tolist()

        return finish

    def broadcast_buffers(self, model: torch.nn.Module) -> None:
        """Give the buffers of a model, such as running statistics, the values that they have on rank 0."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def broadcast(self, value: Any) -> Any:
        """Return the value that rank 0 passes, on all ranks; those of the others are ignored. Tensors must be on the CPU."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]


@contextlib.contextmanager
def _explain_lost_rank(world: World) -> Iterator[None]:
    """Turn a collective that failed because another rank died or timed out into a `TrainingError`."""
    try:
        yield
    except RuntimeError as err:
        if isinstance(err, SpikedistillError) or not _is_collective_failure(err):
            raise
        raise TrainingError(
            f"rank {world.rank} of {world.world_size} lost contact with another rank, which ended or did not answer in time "
            f"({_first_line(err)}). Look at the log of the rank that ended first; run the stage again to resume"
        ) from err


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _is_collective_failure(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in ("gloo", "nccl", "pair closure"))


def _join(backend: str, rank: int, world_size: int, timeout: datetime.timedelta) -> None:
    try:
        dist.init_process_group(backend, timeout=timeout, rank=rank, world_size=world_size)
    except RuntimeError as err:  # gloo and NCCL raise it bare where they cannot connect
        where = ":".join(os.environ[name] for name in ADDRESS_VARIABLES)
        variables = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
        interfaces = ", ".join(f"{name}={os.environ.get(name, '(not set)')}" for name in variables)
        raise TrainingError(
            f"rank {rank}: the {world_size} ranks did not meet at {where} within {timeout.total_seconds():.0f} s "
            f"({_first_line(err)}). Look at the log of the missing rank; if all of them started, the network interface may be "
            f"wrong: {interfaces}. Set them to one that all nodes of the job reach each other by"
        ) from err


def _read_ranks() -> tuple[int, int, int]:
    """Return RANK, WORLD_SIZE and LOCAL_RANK after checking that all variables of a process group are set."""
    needed = RANK_VARIABLES if os.environ.get("WORLD_SIZE") == "1" else RANK_VARIABLES + ADDRESS_VARIABLES
    missing = [name for name in needed if name not in os.environ]
    found = ", ".join(f"{name}={os.environ[name]}" for name in needed if name in os.environ)
    if missing:
        raise ConfigError(
            f"environment: {found} is set, but not {', '.join(missing)}: start the ranks with spmd or torchrun, "
            "which set all of them, or unset them to run a single process"
        )
    try:
        rank, world_size, local_rank = (int(os.environ[name]) for name in RANK_VARIABLES)
    except ValueError:
        raise ConfigError(f"environment: {found}: ranks and sizes are whole numbers") from None
    if not (0 <= rank < world_size and 0 <= local_rank < world_size):
        raise ConfigError(f"environment: {found}: RANK and LOCAL_RANK are from 0 to WORLD_SIZE - 1")
    return rank, world_size, local_rank


def _device(local_rank: int, gpus: int) -> torch.device:
    if not torch.cuda.is_available():
        if gpus:
            raise TrainingError(
                f"the job requested {gpus} GPU{'s' if gpus > 1 else ''} per node, and torch can use none: {why_no_gpu()}. "
                "Check the node with nvidia-smi; to train on the CPU, set gpus_per_node=0 for this stage"
            )
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    if visible > 1 and local_rank >= visible:
        raise ConfigError(f"LOCAL_RANK is {local_rank}, but only {visible} GPUs are visible on this node: start one rank per GPU")
    device = torch.device("cuda", local_rank % visible)  # if only one GPU is visible, the launcher has bound it to this rank
    torch.cuda.set_device(device)
    return device


def why_no_gpu() -> str:
    """Return the reason why torch can use no GPU, with what was found: the build of torch, the driver, the visible devices."""
    if torch.version.cuda is None:
        reason = "this build of torch has no CUDA"
    else:
        try:
            torch.cuda.init()
            reason = "no device is visible"
        except (RuntimeError, AssertionError) as err:
            reason = _first_line(err).rstrip(".")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "(not set)")
    return f"{reason} (torch {torch.__version__} for CUDA {torch.version.cuda}; CUDA_VISIBLE_DEVICES={visible})"
