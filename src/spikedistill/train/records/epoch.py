"""The scalars of an epoch: means over its steps, time, memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from spikedistill.train.distributed import World


class Clock:
    """The time that an epoch takes, and the share of it spent waiting for data, in this process."""

    def __init__(self, seconds_before: float = 0.0) -> None:
        """Start; `seconds_before` were spent on the epoch before it was interrupted."""
        self._before = seconds_before
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._data_s = 0.0
        self.samples = 0

    def time_data(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pass batches on and measure the time spent waiting for them."""
        while True:
            waiting_since = time.perf_counter()
            batch = next(batches, None)
            self._data_s += time.perf_counter() - waiting_since
            if batch is None:
                return
            yield batch

    def stop(self) -> None:
        """End the epoch."""
        self._seconds = time.perf_counter() - self._started

    @property
    def seconds(self) -> float:
        """Seconds that the epoch has taken so far, in processes before this one, too."""
        return self._before + self._own_seconds

    @property
    def speed(self) -> float:
        """Samples per second so far, over all ranks, since this process started or resumed the epoch."""
        return self.samples / self._own_seconds

    @property
    def _own_seconds(self) -> float:
        """Seconds that this process has spent on the epoch so far."""
        return self._seconds or time.perf_counter() - self._started

    def metrics(self) -> dict[str, float]:
        """Return the scalars of an epoch that has ended."""
        share = 100 * self._data_s / self._seconds
        return {"time/epoch(s)": self.seconds, "time/throughput(samples/s)": self.speed, "time/data(%)": share}


def summarise(totals: dict[str, Tensor]) -> dict[str, float]:
    """Return the scalars of an epoch: means over its steps."""
    mean = {name: float(row.mean()) for name, row in totals.items()}
    accuracy, grad_norm = mean.pop("accuracy"), mean.pop("grad_norm")
    return {
        **{f"train/{name}": value for name, value in mean.items()},
        "train/accuracy(%)": 100 * accuracy,
        "optim/grad_norm": grad_norm,
    }


def memory(world: World) -> dict[str, float]:
    """Return the peak memory of this process on its device."""
    if world.device.type == "cuda":
        return {"mem/peak(GiB)": torch.cuda.max_memory_allocated(world.device) / 2**30}
    return {"mem/peak(GiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
