"""Read-ahead for the steps of an epoch, with many requests in flight. Numpy only.

A parallel file system takes milliseconds to answer a request, but answers many at a time. So threads, which wait and do not
compute, read what the next steps need into memory of a fixed size, and a step finds its samples there.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.loading.streaming.reads import Integers, Reads, joined, plan_reads

IN_FLIGHT = 32
"""Requests at a time."""
RUN_BYTES = 2 << 20
"""Size of a request, at most, unless a single row is larger."""
LATE_S = 5e-4
"""Images are read ahead if one takes longer than this to be read; it takes about as long to decode one."""
_RUN_ROWS = 512  # rows of a request, at most: the kernel takes up to 1024 buffers
_RUN_IMAGES = 8  # images of a request, at most: about a megabyte of JPEG
_PROBES = 9


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
        """End the threads once the requests in flight are done."""
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
        """Start the reads of a step, distributed over the threads."""
        runs = self._reads.runs_of(step)
        self._reserve(self._reads.sequence[runs[0] : runs[-1]])
        number = len(runs) - 1
        part = -(-number // IN_FLIGHT)
        bounds = [runs[at : at + part + 1].tolist() for at in range(0, number, part)] if number else []
        return [self._pool.submit(self._read_runs, each) for each in bounds]

    def _read_runs(self, bounds: list[int]) -> None:
        for start, end in itertools.pairwise(bounds):
            self._read(self._reads.sequence[start:end])

    def _reserve(self, uses: Integers) -> None:  # noqa: B027 - most need nothing
        """Make room for some uses."""

    @abc.abstractmethod
    def _read(self, uses: Integers) -> None:
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

    def _reserve(self, uses: Integers) -> None:
        self._num_free -= len(uses)
        self._slots[uses] = self._free[self._num_free : self._num_free + len(uses)]

    def _read(self, uses: Integers) -> None:
        size = self._file.row_bytes
        places = (slot * size for slot in self._slots[uses].tolist())
        self._file.read(int(self._reads.rows[uses[0]]), [self._bytes[place : place + size] for place in places])


class BytesAhead(ReadAhead):
    """The bytes of images, each of another size."""

    def __init__(self, contents: Callable[[list[int]], list[bytes]], reads: Reads) -> None:
        """Read by a function that returns the bytes of some consecutive rows; it is called in several threads."""
        super().__init__(reads)
        self._contents = contents
        self._held: dict[int, bytes] = {}

    def take(self) -> list[bytes]:
        """Return the bytes of the rows of the next step.

        Raises:
            DataError: if they, or rows that are read with them, could not be read.
        """
        uses = self.next_uses()
        return [self._held.pop(use) for use in range(uses.start, uses.stop)]

    def _read(self, uses: Integers) -> None:
        self._held.update(zip(uses.tolist(), self._contents(self._reads.rows[uses].tolist()), strict=True))


def rows_ahead(
    file: ArrayFile | None, rows: Sequence[Integers], blocks: Sequence[Integers] | None
) -> AbstractContextManager[RowsAhead | None]:
    """Open a reader that reads the rows of some steps ahead; None if they are in memory, or not in a file.

    Args:
        file: the file.
        rows: rows of each step.
        blocks: as `groups` of `plan_reads`.

    Raises:
        DataError: if the file was cut.
    """
    if file is None or file.is_cached(joined(rows)):
        return contextlib.nullcontext()
    return RowsAhead(file, plan_reads(rows, blocks, run_rows=max(1, min(_RUN_ROWS, RUN_BYTES // file.row_bytes))))


def bytes_ahead(
    files: ImageFiles, rows: Sequence[Integers], blocks: Sequence[Integers] | None
) -> AbstractContextManager[BytesAhead | None]:
    """Open a reader that reads the images of some steps ahead; None if they are read faster than decoded. See `rows_ahead`."""
    if not _answers_late(files.content, joined(rows)):
        return contextlib.nullcontext()
    return BytesAhead(files.contents, plan_reads(rows, blocks, run_rows=_RUN_IMAGES))


def _answers_late(read: Callable[[int], object], rows: Integers) -> bool:
    """Return whether reading takes long, by the median of a few rows: longer than from memory or a local disk."""
    times = []
    for row in rows[np.linspace(0, len(rows) - 1, min(_PROBES, len(rows))).astype(np.int64)].tolist():
        started = time.perf_counter()
        read(row)
        times.append(time.perf_counter() - started)
    return len(times) > 0 and statistics.median(times) > LATE_S
