"""Worker processes for preparation. They fork from this one, and each takes the next items when it has done its last ones."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkContext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from spikedistill.data.malloc import keep_freed_memory
from spikedistill.errors import DataError

T = TypeVar("T")

_MAX_CHUNK = 4  # items that a process takes at a time
_MIN_CHUNKS_EACH = 4  # so that processes end at about the same time
_WATCH_S = 1.0
_DIE_WITH_PARENT = 1  # Linux: prctl(PR_SET_PDEATHSIG, …)
_KEPT_BYTES = 32 << 20


def shared_zeros(length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a vector of zeros in memory that is shared with processes forked later."""
    return np.frombuffer(mmap.mmap(-1, max(1, length * np.dtype(dtype).itemsize)), dtype=dtype, count=length)


def run_workers(
    work: Callable[[Iterator[int]], T], count: int, *, num_workers: int, watch: Callable[[int], None] | None = None
) -> list[T]:
    """Process `count` items in worker processes.

    Args:
        work: called once in each process, with an iterator over the numbers of the items that this process is to do, perhaps
            none. The fork hands it everything that this process has without pickling; its result is pickled.
        count: number of items.
        num_workers: number of processes.
        watch: called here about every second, with the number of items that are done.

    Returns:
        The results of `work`, one for each process.

    Raises:
        DataError: if a process was killed.
    """
    num_workers = max(1, min(num_workers, count))
    context = multiprocessing.get_context("fork")
    items = _Items(context, count, max(1, min(_MAX_CHUNK, count // (_MIN_CHUNKS_EACH * num_workers))))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(num_workers, context, _start, (os.getpid(), work, items))
    try:
        running = [pool.submit(_work) for _ in range(num_workers)]
        while wait(running, _WATCH_S).not_done:
            if watch is not None:
                watch(items.done)
        return [future.result() for future in running]
    except BrokenProcessPool as err:
        raise DataError("a process that prepares data was killed: out of memory? Ask for more, or fewer CPUs") from err
    finally:
        items.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:  # the pool leaves these if starting another one failed
            process.terminate()


class _Items:
    """Numbers below `count`, handed out in chunks to the processes that share this object."""

    def __init__(self, context: ForkContext, count: int, chunk: int) -> None:
        self._count, self._chunk, self._lock = count, chunk, context.Lock()
        self._state = shared_zeros(3, np.int64)  # next item, items done, whether to stop

    def __iter__(self) -> Iterator[int]:
        done = 0
        while True:
            with self._lock:
                self._state[1] += done
                start = int(self._state[0])
                self._state[0] = stop = min(start + self._chunk, self._count)
            if start == stop:
                return
            for item in range(start, stop):
                if self._state[2]:
                    return
                yield item
            done = stop - start

    @property
    def done(self) -> int:
        """Number of items in finished chunks."""
        return int(self._state[1])

    def stop(self) -> None:
        """Hand out no more items. Take no lock: a killed process may hold it forever."""
        self._state[2] = 1


_assigned: list[tuple[Callable[[Iterator[int]], Any], _Items]] = []
"""The work of this process, set when it starts; inherited through the fork, so that nothing is pickled."""


def _start(parent: int, work: Callable[[Iterator[int]], Any], items: _Items) -> None:
    """Initialise a worker process, which ends when its parent is killed instead of waiting forever for work."""
    keep_freed_memory(_KEPT_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the pool sends it to the other workers when one was killed
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _assigned.append((work, items))


def _work() -> Any:
    work, items = _assigned[-1]
    try:
        return work(iter(items))
    except BaseException:
        items.stop()
        raise
