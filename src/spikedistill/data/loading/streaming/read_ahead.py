"""Reading ahead of the steps of an epoch, with many requests in flight. Numpy only.

A parallel file system answers a request after milliseconds, but many at a time. So threads, which wait and do not compute, read
what the next steps need into memory of fixed size, and a step finds its samples there.
"""

from __future__ import annotations

import abc
import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.loading.streaming.reads import Reads

IN_FLIGHT = 32
"""Requests at a time."""
RUN_BYTES = 1 << 20
"""Size of a request, at most, unless a single row is larger."""
_RUN_ROWS = 512  # of a request, at most: the kernel takes up to 1024 places to put them


class ReadAhead(abc.ABC):
    """Threads that read for the steps of a plan, in its order. For one consumer; a context manager that ends the threads."""

    def __init__(self, reads: Reads) -> None:
        """Plan to read; nothing is read before the first step is asked for."""
        self._reads = reads
        self._ahead = reads.ahead(IN_FLIGHT)
        self._step = self._started = 0
        self._tasks: deque[list[Future[None]]] = deque()
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="read-ahead")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        """End the threads, after the requests that are in flight."""
        self._pool.shutdown(cancel_futures=True)

    def next_uses(self) -> slice:
        """Start the reads of the steps ahead, wait for those of the next step, and return its uses.

        Raises:
            DataError: if something could not be read.
        """
        step, self._step = self._step, self._step + 1
        while self._started < min(step + self._ahead + 1, self._reads.num_steps):
            self._tasks.append(self._start(self._started))
            self._started += 1
        for task in self._tasks.popleft():
            task.result()
        return self._reads.uses(step)

    def _start(self, step: int) -> list[Future[None]]:
        """Start the reads of a step, dealt to the threads."""
        runs = self._reads.runs_of(step)
        self._reserve(self._reads.sequence[runs[0] : runs[-1]])
        number = len(runs) - 1
        part = -(-number // IN_FLIGHT)
        bounds = [runs[at : at + part + 1].tolist() for at in range(0, number, part)] if number else []
        return [self._pool.submit(self._read_runs, each) for each in bounds]

    def _read_runs(self, bounds: list[int]) -> None:
        for start, end in itertools.pairwise(bounds):
            self._read(self._reads.sequence[start:end])

    def _reserve(self, uses: npt.NDArray[np.int64]) -> None:  # noqa: B027 - most need nothing
        """Make room for some uses."""

    @abc.abstractmethod
    def _read(self, uses: npt.NDArray[np.int64]) -> None:
        """Read the consecutive rows of some uses; called in several threads."""


class RowsAhead(ReadAhead):
    """Rows of an array file."""

    def __init__(self, file: ArrayFile, reads: Reads) -> None:
        """Reserve the memory that the plan needs."""
        super().__init__(reads)
        self._file = file
        held = reads.most_held(self._ahead)
        self._memory = np.empty((held, file.shape[1]), file.dtype)
        self._bytes = self._memory.view(np.uint8).data.cast("B")
        self._free, self._num_free = np.arange(held), held
        self._slots = np.empty(len(reads.rows), np.int64)  # of each use, while it is held

    def take(self, out: npt.NDArray[Any]) -> None:
        """Copy the rows of the next step to `out`, [B, values of a row].

        Raises:
            DataError: if they, or rows that are read with them, could not be read.
        """
        slots = self._slots[self.next_uses()]
        np.take(self._memory, slots, axis=0, out=out, mode="clip")
        self._free[self._num_free : self._num_free + len(slots)] = slots
        self._num_free += len(slots)

    def _reserve(self, uses: npt.NDArray[np.int64]) -> None:
        self._num_free -= len(uses)
        self._slots[uses] = self._free[self._num_free : self._num_free + len(uses)]

    def _read(self, uses: npt.NDArray[np.int64]) -> None:
        size = self._file.row_bytes
        places = (slot * size for slot in self._slots[uses].tolist())
        self._file.read(int(self._reads.rows[uses[0]]), [self._bytes[place : place + size] for place in places])


def run_rows(row_bytes: int) -> int:
    """Return how many rows of a size are read by one request, at most."""
    return max(1, min(_RUN_ROWS, RUN_BYTES // row_bytes))
